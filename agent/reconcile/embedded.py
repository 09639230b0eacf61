"""An embedded transfer server: a child process that ends when the agent ends, however it ends.

Three ties hold it: a pipe whose closing it notices, the parent-death signal that it asks for, and the
agent's lock descriptor that it inherits, so that the state lock is free only when the children are gone.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.model.outcome import RetryableError

START_SECONDS = 15.0
STOP_SECONDS = 6.0
_MANAGER = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
"""The service manager hears from the agent alone: a child that ends is no end of the service."""


@dataclass(frozen=True, slots=True)
class Listening:
    address: str
    port: int
    pid: int
    public_key: str | None = None


class EmbeddedServer:
    """One child. `exited(returncode)` is called from a thread when it ends without being asked to."""

    def __init__(
        self,
        directory: str,
        listen: tuple[str, int],
        receive_root: str,
        lock_fd: int,
        exited: Callable[[int], None],
        options: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.token_file = os.path.join(directory, "control-token")
        self.log_file = os.path.join(directory, "server.log")
        self._listen = listen
        self._receive_root = receive_root
        self._lock_fd = lock_fd
        self._exited = exited
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._life_line = -1
        self._stopping = False

    def start(self) -> Listening:
        """Start and wait until it listens. RetryableError with the end of its log when it does not."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        os.makedirs(self._receive_root, exist_ok=True)
        self._write_token()
        ready, ready_child = os.pipe()
        life_child, self._life_line = os.pipe()
        try:
            with open(self.log_file, "ab") as log:
                self._process = subprocess.Popen(
                    self._command(ready_child, life_child),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(ready_child, life_child, self._lock_fd),
                    env={k: v for k, v in os.environ.items() if k not in _MANAGER},
                    start_new_session=True,  # Ctrl-C is for the agent, which then stops its children
                )
        finally:
            os.close(ready_child)
            os.close(life_child)
        try:
            listening = self._wait_ready(ready)
        finally:
            os.close(ready)
        threading.Thread(target=self._wait, name="embedded-wait", daemon=True).start()
        return listening

    def _command(self, ready_fd: int, life_fd: int) -> list[str]:
        host, port = self._listen
        return [
            *(sys.executable, "-m", "agent.cli.main", "serve"),
            *("--listen", f"{host}:{port}"),
            *("--state-dir", self.directory),
            *("--receive-root", self._receive_root),
            *("--control-token-file", self.token_file),
            *("--address-file", os.path.join(self.directory, "address.json")),
            *("--ready-fd", str(ready_fd)),
            *("--parent-pipe-fd", str(life_fd)),
            *("--lock-fd", str(self._lock_fd)),
            *self._options,
        ]

    def _write_token(self) -> None:
        if not os.path.exists(self.token_file):
            descriptor = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")

    def token(self) -> str:
        with open(self.token_file, encoding="ascii") as file:
            return file.read(4096).strip()

    def _wait_ready(self, ready: int) -> Listening:
        poller = select.poll()
        poller.register(ready, select.POLLIN | select.POLLHUP)
        line = os.read(ready, 65536) if poller.poll(START_SECONDS * 1000) else b""
        if not line.strip():
            self.stop()
            raise RetryableError(f"the transfer server did not start: {self.last_words()}")
        told = json.loads(line)
        return Listening(
            str(told["address"]), int(told["port"]), int(told["pid"]), told.get("publicKey") or None
        )

    def last_words(self) -> str:
        """The end of the child's log: what it said before it gave up."""
        try:
            with open(self.log_file, "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - 2000))
                lines = log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else f"it left no message in {self.log_file}"

    def _wait(self) -> None:
        process = self._process
        if process is not None:
            code = process.wait()
            if not self._stopping:
                self._exited(code)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to end, wait, and end it if it does not. Idempotent."""
        self._stopping = True
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._life_line >= 0:
            os.close(self._life_line)
            self._life_line = -1
