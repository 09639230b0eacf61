"""Real transfer servers for tests: started on free ports, stopped by process id."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from agent.jetstream import APIInterface, Jetstream

# Patience costs nothing where all is well; a slow and busy machine needs it.
START_SECONDS = 60.0
STOP_SECONDS = 60.0
PATIENCE = 60.0

T = TypeVar("T")


def eventually(look: Callable[[], T], *, seconds: float = PATIENCE, what: str = "") -> T:
    """The first true answer of `look()`, asked again and again; AssertionError after `seconds`."""
    deadline, pause = time.monotonic() + seconds, 0.002
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or look} (last seen: {found!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class Server:
    """One `lanesync serve` process with its workers. Also a context manager that stops it."""

    def __init__(self, state_dir: Path, receive_root: Path | None, options: dict[str, Any]) -> None:
        self.state_dir = Path(state_dir)
        self.receive_root = Path(receive_root) if receive_root is not None else self.state_dir / "received"
        self.host = str(options.pop("host", "127.0.0.1"))
        self.port = int(options.pop("port", 0))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self._log = self.state_dir.with_name(self.state_dir.name + ".log")
        self.start()

    def start(self) -> None:
        """Start, on the same port as before, and return when it listens."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        ready, told = os.pipe()
        try:
            with open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    self._command(told), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(told,)
                )
        finally:
            os.close(told)
        try:
            self.port = self._await_ready(ready)
        finally:
            os.close(ready)

    def _command(self, ready_fd: int) -> list[str]:
        command = [sys.executable, "-m", "agent.server"]
        command += ["--listen", f"{self.host}:{self.port}", "--state-dir", str(self.state_dir)]
        command += ["--receive-root", str(self.receive_root), "--ready-fd", str(ready_fd)]
        for name, value in self._options.items():
            command += ["--" + name.replace("_", "-"), *([] if value is True else [str(value)])]
        return command

    def _await_ready(self, ready: int) -> int:
        readable, _, _ = select.select([ready], [], [], START_SECONDS)
        line = os.read(ready, 65536) if readable else b""
        if not line:
            self.kill()
            raise AssertionError(f"the server did not start:\n{self.log()}")
        return int(json.loads(line)["port"])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def worker(self, role: str) -> int | None:
        """Process id of the `sender` or `receiver` worker, None while there is none."""
        try:
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    if role.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                        return int(child)
        except (FileNotFoundError, ProcessLookupError):
            pass
        return None

    def kill(self) -> None:
        """SIGKILL to the control process; returns when the whole family is gone. Idempotent."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait(STOP_SECONDS)
        eventually(self._lock_is_free, seconds=STOP_SECONDS, what="the workers end with their server")

    def stop(self) -> int:
        """SIGTERM; returns the exit code. Idempotent."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"the server did not stop on SIGTERM:\n{self.log()}") from None
        eventually(self._lock_is_free, seconds=STOP_SECONDS, what="the workers end with their server")
        return self._process.returncode

    def restart(self) -> None:
        self.stop()
        self.start()

    def api(self, **options: Any) -> APIInterface:
        """A connected API; the caller disconnects it (or uses `with`)."""
        api = Jetstream().api("127.0.0.1", self.port, **options)
        api.connect()
        return api

    def _lock_is_free(self) -> bool:
        path = self.state_dir / "server.lock"
        if not path.exists():
            return True
        with open(path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"log of the server in {self.state_dir}:\n{self.log()[-8000:]}")
        self.kill() if error is not None else self.stop()


def start_server(state_dir: Path | str, receive_root: Path | str | None = None, **options: Any) -> Server:
    """Start a server; `options` are those of `lanesync serve` (checkpoint_seconds=1, port=…, …)."""
    return Server(Path(state_dir), None if receive_root is None else Path(receive_root), options)


@contextlib.contextmanager
def server_pair(folder: Path, **options: Any) -> Iterator[tuple[Server, Server]]:
    """A sender and a receiver below `folder`."""
    with start_server(folder / "sender", **options) as sender:
        with start_server(folder / "receiver", **options) as receiver:
            yield sender, receiver
