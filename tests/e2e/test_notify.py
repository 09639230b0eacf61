"""What a service manager hears from the agent and from a transfer server, and from whom."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from servers import eventually

pytestmark = pytest.mark.e2e

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid

SPECS = """\
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: away}}
spec: {{address: 127.0.0.1, port: 9}}
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: tree}}
spec: {{destination: away, paths: {{/tree: {source}}}}}
"""


@dataclass
class Manager:
    """Stands in for systemd: a socket that notes every message with the process that sent it."""

    path: Path
    heard: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))

    def listen(self) -> list[tuple[int, str]]:
        """All messages so far: (process, line)."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return self.heard
            pid = next(
                _CREDENTIALS.unpack(d)[0] for _, kind, d in ancillary if kind == socket.SCM_CREDENTIALS
            )
            self.heard += [(pid, line) for line in data.decode().split("\n")]

    def lines(self, pid: int) -> list[str]:
        return [line for sender, line in self.listen() if sender == pid]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@contextmanager
def service(manager: Manager, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`lanesync ARGUMENTS` as a service whose manager wants to hear from it every 0.6 s."""
    environment = {**os.environ, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000"}
    process = subprocess.Popen([sys.executable, "-m", "agent.cli.main", *arguments], env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _life(manager: Manager, process: subprocess.Popen[bytes]) -> list[str]:
    """See it become ready and report three times, end it, and return all that it said."""
    eventually(lambda: "READY=1" in manager.lines(process.pid), what="it says that it is ready")
    eventually(lambda: manager.lines(process.pid).count("WATCHDOG=1") >= 3, what="it feeds the watchdog")
    assert "STOPPING=1" not in manager.lines(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    return manager.lines(process.pid)


def test_the_agent_is_ready_alive_and_stopping(manager: Manager, tmp_path: Path) -> None:
    """`lanesync run` says READY once, feeds the watchdog, says how it is, and STOPPING on SIGTERM; its
    embedded servers say nothing to the manager."""
    (tmp_path / "source").mkdir()
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "all.yaml").write_text(SPECS.format(source=tmp_path / "source"))
    state = tmp_path / "state"
    command = ("run", str(tmp_path / "specs"), "--state-dir", str(state), "--listen", "127.0.0.1:0")
    with service(manager, *command) as process:
        address = state / "servers"
        eventually(lambda: list(address.glob("*/address.json")), what="the embedded server runs")
        lines = _life(manager, process)
    assert lines.count("READY=1") == 1
    assert lines.count("STOPPING=1") == 1
    assert lines.index("READY=1") < lines.index("WATCHDOG=1") < lines.index("STOPPING=1")
    assert any(line.startswith("STATUS=") and len(line) > len("STATUS=") for line in lines)
    assert {pid for pid, _ in manager.listen()} == {process.pid}


def test_a_server_is_ready_alive_and_stopping(manager: Manager, tmp_path: Path) -> None:
    """`lanesync serve` says READY when it listens, feeds the watchdog, and says STOPPING on SIGTERM."""
    with service(
        manager, "serve", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state")
    ) as process:
        lines = _life(manager, process)
    assert lines.count("READY=1") == 1
    assert lines.count("STOPPING=1") == 1
    assert {pid for pid, _ in manager.listen()} == {process.pid}
