"""Commands as processes that can be killed, without loading the libraries for each: a server that has them forks one for every command.

`client` is a script that stands for `drtools` in a Makefile. Commands run one after the other; if a client is killed, so is its command.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import drtools

LIBRARIES = ("faiss", "pytrec_eval", "torch._dynamo", "transformers.convert_slow_tokenizer", "transformers.models.bert.modeling_bert")  # what tools import late, inside functions
CLIENT = """#!{python} -IS
import array, json, os, resource, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = {{"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ), "largest_file": resource.getrlimit(resource.RLIMIT_FSIZE)}}
server.sendmsg([json.dumps(order).encode() + b"\\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
sys.exit(int(server.recv(16) or 70))
"""


def start(folder: Path) -> tuple[subprocess.Popen, Path]:
    """Start a server; return it and the client."""
    address, client = str(folder / "socket"), folder / "client"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, address], env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"})
    while not os.path.exists(address) and server.poll() is None:
        time.sleep(0.02)
    return server, client


def serve(address: str) -> None:
    """Run commands as they come, for as long as the process lives."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from drtools.training import counting

    for name in LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(drtools.__path__, "drtools."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    get_checkpoint_conversion_mapping("bert")  # remembered
    counting._seconds_of_product = lambda *_: 1e-3  # in the place of seconds of measuring the machine, at every start of a training
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address + ".new")
        listening.listen()
        os.rename(address + ".new", address)
        while True:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client was killed just now
                answer(connection)


def answer(connection: socket.socket) -> None:
    """Run one command and send its status; kill it if its client dies."""
    text, passed, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    if not text.endswith(b"\n"):  # the client was killed before it had said what it wants
        return
    child = os.fork()
    if not child:
        become(json.loads(text), passed)
    for descriptor in passed:
        os.close(descriptor)
    ended = os.pidfd_open(child)
    ready, _, _ = select.select([connection, ended], [], [])
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(ended)
    if ended in ready:
        connection.sendall(str(status if status >= 0 else 128 - status).encode())


def become(order: dict, passed: list[int]) -> None:
    """Be the command in the place of its client."""
    import resource

    from drtools.cli import main

    for place, descriptor in enumerate(passed):
        os.dup2(descriptor, place)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"], CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
    resource.setrlimit(resource.RLIMIT_FSIZE, order["largest_file"])
    status = 0
    try:
        main(order["words"])
    except SystemExit as end:
        status = end.code or 0
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
