"""Commands as processes of their own, without loading the libraries for each.

A server that has them forks one for every command.

`program` is a script that stands for `drtools`, or, with -c, for `python -c`. Its process takes signals, limits, pipes
and an environment as that of a tool does, and dies with the tool as the tool dies with it. One server serves all the
processes of a test run; it ends with the last.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import drtools

LIBRARIES = (
    "drtools.cli.main",
    "drtools.cli.flags.common",
    "faiss",
    "pytrec_eval",
    "scipy.stats",
    "torch._dynamo",
    "transformers.convert_slow_tokenizer",
    "transformers.models.bert.modeling_bert",
    "typer.rich_utils",
)  # what tools import late, inside functions
PROGRAM = """#!{python} -IS
import array, json, os, resource, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = {{"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
order["largest_file"] = resource.getrlimit(resource.RLIMIT_FSIZE)
files = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
server.sendmsg([json.dumps(order).encode() + b"\\n"], [files])
answers = server.makefile()
tool = int(answers.readline() or sys.exit(70))
def send_on(number, frame):
    try:
        os.kill(tool, number)
    except ProcessLookupError:  # it has just ended, which its status will say
        pass
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, send_on)
status = int(answers.readline() or 70)
if status < 0:
    if -status in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@contextlib.contextmanager
def program(folder: Path):
    """Give the script, made in this folder by the first process that shares it, for as long as it is needed."""
    script, address = folder / "drtools", str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as needed:
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if needed.connect_ex(address):  # there is no server, or no longer
                script.write_text(PROGRAM.format(python=sys.executable, address=address))
                script.chmod(0o755)
                with socket.socket(socket.AF_UNIX) as listening:
                    Path(address).unlink(missing_ok=True)
                    listening.bind(address)
                    listening.listen(100)
                    shared = [listening.fileno(), os.open(folder / "lock", os.O_RDWR)]
                    subprocess.Popen(
                        [sys.executable, __file__, *map(str, shared)],
                        pass_fds=shared,
                        start_new_session=True,
                        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
                    )
                    os.close(shared[1])
                needed.connect(address)
            needed.sendall(b"\n")
        needed.recv(16)  # it has loaded everything
        yield str(script)


def kill(process: subprocess.Popen, number: int = signal.SIGKILL) -> int:
    """Send a signal to a process of the program; return its status when its command too has ended."""
    process.send_signal(number)
    status = process.wait()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(str(Path(process.args[0]).parent / "socket"))
        server.sendall(b"\n")
        server.recv(16)  # it answers after it has ended the commands of those that died before
    return status


def load() -> None:
    """Load what tools need, and what they would find out anew at each start."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from drtools.training import operations

    for name in LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(drtools.__path__, "drtools."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    get_checkpoint_conversion_mapping("bert")  # remembered
    operations._seconds_of_product = lambda *_: (
        1e-3
    )  # in the place of seconds of measuring the machine, at every start of a training


def serve(listening: socket.socket, lock: int) -> tuple[dict, list[int]]:
    """Run commands as they come, until nobody needs the server any more.

    Return, in a child, what it is to do and its standard files.
    """
    needing, commands = [], {}
    while True:
        ready = select.select([listening, *needing, *commands, *(ended for _, ended in commands.values())], [], [])[0]
        for connection, (child, ended) in list(commands.items()):
            if connection in ready and ended not in ready:  # its client was killed
                os.kill(child, signal.SIGKILL)
            if connection in ready or ended in ready:
                tell(connection, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                connection.close()
                os.close(ended)
                del commands[connection]
        needing = [
            connection for connection in needing if connection not in ready
        ]  # nothing comes from them but their end
        if listening in ready:
            connection, _ = listening.accept()
            text, files = order_of(connection)
            if text == b"\n":
                needing.append(connection)
                tell(connection, 0)
            elif text.endswith(b"\n"):  # else it was killed before it had said all
                child = os.fork()
                if not child:
                    for other in (listening, connection, *needing, *commands):
                        other.close()
                    return json.loads(text), files
                tell(connection, child)
                commands[connection] = child, os.pidfd_open(child)
            for file in files:
                os.close(file)
        elif not needing and not commands:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever begins to need it does so under this lock
            if not select.select([listening], [], [], 0)[0]:
                sys.exit()
            fcntl.flock(lock, fcntl.LOCK_UN)


def order_of(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Return what a client says up to the end of the line, or of itself, and the files that it passes."""
    text, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while text and not text.endswith(b"\n"):
        more = connection.recv(1 << 20)
        text = text + more if more else b""
    return text, files


def tell(connection: socket.socket, number: int) -> None:
    """Tell a client a number, if it lives."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(f"{number}\n".encode())


def become(order: dict, files: list[int]) -> None:
    """Be the command in the place of its client, to the end.

    That of an interpreter with so much loaded would take 0.3 seconds.
    """
    import resource

    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"], CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
    resource.setrlimit(resource.RLIMIT_FSIZE, order["largest_file"])
    words, status = order["words"], 0
    try:
        if words[:1] == ["-c"]:
            sys.argv = ["-c", *words[2:]]
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            drtools.cli.main.main(words)
    except SystemExit as end:
        status = end.code or 0
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    load()
    gc.freeze()
    become(*serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
