"""A real Milvus server, for tests: the package milvus, on free ports of this machine."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

from milvus import MilvusServer, MilvusServerConfig


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody listens on."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in opened:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in opened]


class Config(MilvusServerConfig):
    """A configuration that takes ports which a killed server has just left."""

    def try_bind_port(self, port: int) -> socket.socket | None:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            return None


class Server:
    """A server that can be killed, paused and started again with its data."""

    def __init__(self, folder: Path) -> None:
        names = [name for name in MilvusServerConfig().configurable_items if name.endswith("_port")]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.folder = folder
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.ports["etcd_port"], *free_ports(1)))
        folder.mkdir(parents=True, exist_ok=True)
        urls = {
            **dict.fromkeys(("listen-client-urls", "advertise-client-urls"), client),
            **dict.fromkeys(("listen-peer-urls", "initial-advertise-peer-urls"), peer),
            "initial-cluster": f"default={peer}",
        }
        (folder / "etcd.yaml").write_text("".join(f"{name}: {url}\n" for name, url in urls.items()))
        self.uri = f"http://127.0.0.1:{self.ports['proxy_port']}"
        self.start()

    def start(self) -> None:
        self.server = MilvusServer(Config(data_dir=str(self.folder), **self.ports))
        self.server.webservice_port = free_ports(1)[0]
        os.environ["ETCD_CONFIG_PATH"] = str(self.folder / "etcd.yaml")  # else its own ports, one server a machine
        try:
            self.server.start()
        finally:
            del os.environ["ETCD_CONFIG_PATH"]
        self.pid = self.server.server_proc.pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.server.server_proc.wait()
        self.server.stop()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.server.stop()
