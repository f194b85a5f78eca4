"""Two Ray nodes of one core, and encodings on them that lose their driver or a node. Run in namespaces of its own.

    unshare --net --pid --fork --kill-child --mount-proc python tests/ray_nodes.py FOLDER

Elsewhere Ray asks for an outside address, and `ray stop` would stop the clusters of others. All ends with this process.
It prints what happened as JSON.
"""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ADDRESS, UP, SET_FLAGS = "127.0.0.1:6379", 1, 0x8914
RAY = Path(sys.executable).with_name("ray")


def running(words: str) -> list[int]:
    """Return the processes whose command has these words."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in command:
                found.append(int(folder.name))
    return found


def start(folder: Path, *more: str) -> None:
    command = [RAY, "start", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--disable-usage-stats"]
    command += ["--object-store-memory=80000000", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def encoding(folder: Path, out: str, **changed: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "drtools", "encode", "--model", "model", "--corpus", "corpus.jsonl"]
    command += ["--precision", "fp32", "--chunk", "40", "--ray", ADDRESS, "-o", out]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **changed}, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def wait_for(folder: Path, out: str, process: subprocess.Popen, done: int) -> tuple[int, int]:
    """Wait until so many texts are done. Returns their number, and how many workers were seen at work at once."""
    state, workers = folder / f"{out}.partial" / "state.json", 0
    for _ in range(4000):
        workers = max(workers, len(running("ray::encode_on_worker")))
        if state.exists() and (found := json.loads(state.read_bytes())["done"]) >= done:
            return found, workers
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.03)
    raise AssertionError("the encoding did not get so far")


def main() -> None:
    folder = Path(sys.argv[1])
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14s", b"lo", UP, b""))
    refused = encoding(folder, "refused", RAY_AUTH_TOKEN="another" * 5)
    head = ["--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={folder / 'ray'}"]
    no_cluster = refused.communicate(timeout=120)[1]
    start(folder, *head)
    start(folder, f"--address={ADDRESS}", '--resources={"second": 1}')
    happened: dict[str, object] = {"no cluster": [refused.returncode, no_cluster]}

    refused = encoding(folder, "refused", RAY_AUTH_TOKEN="another" * 5)
    happened["another token"] = [refused.wait(120), refused.stderr.read()]

    driver = encoding(folder, "driver")
    killed_at, workers = wait_for(folder, "driver", driver, 300)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver = encoding(folder, "driver")
    happened["driver"] = [killed_at, workers, driver.wait(300), driver.stderr.read()]

    node = encoding(folder, "node")
    killed_at, workers = wait_for(folder, "node", node, 300)
    (raylet,) = [process for process in running("raylet/raylet ") if process in running("second,1")]
    os.kill(raylet, signal.SIGKILL)
    happened["node"] = [killed_at, workers, node.wait(300), node.stderr.read()]
    print(json.dumps(happened))


if __name__ == "__main__":
    main()
