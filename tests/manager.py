"""Stands in for systemd: a notify socket, and services that are started with it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


@dataclass
class Manager:
    """Notes every message with the process that sent it."""

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


@contextmanager
def service(
    manager: Manager, *command: str, stderr: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program as a service whose manager wants to hear from it every 0.6 s."""
    env = {**os.environ, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000", **environment}
    with open(stderr or os.devnull, "wb") as errors:
        process = subprocess.Popen([sys.executable, *command], env=env, stderr=errors if stderr else None)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
