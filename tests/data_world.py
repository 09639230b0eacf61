"""The data path without its control processes: real worker processes, and a test in the place of control."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.server import identity, results
from agent.server.data.rules import Rules
from agent.server.ipc import Channel, Message, socketpair
from agent.server.sandboxes import Root, Roots

WAIT = 60.0
TABLES = """
CREATE TABLE IF NOT EXISTS manifest_files(manifest_id INTEGER NOT NULL, seq INTEGER NOT NULL,
  dest BLOB NOT NULL, src BLOB NOT NULL, kind INTEGER NOT NULL, size INTEGER NOT NULL,
  executable INTEGER NOT NULL,
  mtime_us INTEGER, PRIMARY KEY(manifest_id, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS manifests(id INTEGER PRIMARY KEY, status TEXT NOT NULL DEFAULT 'complete',
  error TEXT, roots TEXT);
CREATE TABLE IF NOT EXISTS transfer_results(transfer_id INTEGER NOT NULL, batch INTEGER NOT NULL,
  data BLOB NOT NULL, PRIMARY KEY(transfer_id, batch)) WITHOUT ROWID;
"""
LANES = [["High", 0.7], ["Normal", 0.25], ["Low", 0.05], ["Idle", 0.0]]


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)
    return found


class WorkerProcess:
    def __init__(
        self, role: str, state: Path, on_message: Callable[[Message], None], options: Sequence[str] = ()
    ) -> None:
        ours, theirs = socketpair()
        arguments = ["--ipc-fd", str(theirs.fileno()), "--state-dir", str(state)]
        arguments += [
            "--server-id",
            "test",
            "--server-uid",
            "uid-test",
            "--streams",
            "2",
            "--loopback-streams",
            "2",
            *options,
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.server.worker", role, *arguments], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self.channel = Channel(ours)
        self.ready = threading.Event()
        self._on_message = on_message
        threading.Thread(target=self._read, daemon=True).start()
        assert self.ready.wait(WAIT), f"{role} does not start"

    def _read(self) -> None:
        try:
            while (received := self.channel.receive()) is not None:
                if received[0]["op"] == "ready":
                    self.ready.set()
                else:
                    self._on_message(received[0])
        except OSError:
            return

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        try:
            self.channel.send(message, fds or [])
        except OSError:
            pass  # killed: the next one is told again

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.channel.close()

    def stop(self) -> None:
        self.channel._sock.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.channel.close()


class World:
    """One sender, one receiver, the port between them, and what control would store."""

    def __init__(self, home: Path, min_cipher: int = 0) -> None:
        self.home = home
        self.min_cipher = min_cipher  # of every session
        self.state = home / "state"
        self.root = home / "received"
        self.source = home / "source"
        for folder in (self.state, self.root, self.source):
            folder.mkdir(exist_ok=True)
        identity.ensure(self.state, ["localhost"], time.time())
        self.db = sqlite3.connect(self.state / "server.db", check_same_thread=False, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.executescript(TABLES)
        self.db_lock = threading.Lock()
        self.messages: list[Message] = []
        self.received: list[Message] = []
        self.finished: dict[str, Message] = {}
        self.stopped: set[str] = set()
        self.records: dict[str, dict[int, results.Record]] = {}
        self.errors: dict[str, dict[int, str]] = {}
        self.remote: dict[int, Message] = {}
        self.states: list[Message] = []
        self.bytes_sent: dict[str, int] = {}
        self.starts: dict[str, Message] = {}
        self._batch = 0
        self._manifests = 0
        self._destination: Message = {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sender: WorkerProcess | None = None
        self.receiver: WorkerProcess | None = None
        self.receiving: tuple[str, ...] = ()  # options of the receiver
        self.judge: Callable[[Message], bool] = lambda _message: True  # whether to grant it at once
        threading.Thread(target=self._accept, daemon=True).start()

    # --- processes

    def start_receiver(self) -> WorkerProcess:
        self.receiver = WorkerProcess("receiver", self.state, self._on_received, self.receiving)
        self.receiver.send({"op": "rules", **Rules().told()})
        return self.receiver

    def start_sender(self) -> WorkerProcess:
        self.sender = WorkerProcess("sender", self.state, self._on_message)
        if self._destination:
            self.sender.send(self._destination)
        for ident, message in self.starts.items():
            if ident not in self.finished and ident not in self.stopped:
                self.sender.send(message)
        return self.sender

    def _on_received(self, message: Message) -> None:
        if message["op"] != "authorize":
            self.received.append(message)
        elif self.judge(message):
            self.grant(message)

    def grant(self, message: Message, **more: Any) -> None:
        """Answer an `authorize`: below the root, for nobody in particular."""
        granted = {"op": "authorized", "number": message["number"], "user": "", "permissions": 15}
        roots = Roots((Root(b"/", os.fsencode(self.root)),))
        assert self.receiver is not None
        self.receiver.send(granted | roots.as_json() | more)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            receiver = self.receiver
            if receiver is not None and receiver.process.poll() is None:
                receiver.send({"op": "session", "encrypted": self.min_cipher > 0}, [sock.fileno()])
            sock.close()

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for worker in (self.sender, self.receiver):
            if worker is not None and worker.process.poll() is None:
                worker.stop()
        self.db.close()

    # --- control

    def destination(self, rate: float | None = None, lanes: list[list[Any]] | None = None) -> None:
        self._destination = {"op": "destination", "id": "1", "address": "127.0.0.1", "port": self.port}
        self._destination |= {"lanes": lanes or LANES, "rate": rate, "min_cipher": self.min_cipher}
        if self.sender is not None:
            self.sender.send(self._destination)

    def manifest(self, entries: list[tuple[Any, ...]]) -> int:
        """Entries are (destination path, source path, kind, size, executable)."""
        self._manifests += 1
        rows = [
            (self._manifests, seq, os.fsencode(dest), os.fsencode(src), kind, size, int(executable), None)
            for seq, (dest, src, kind, size, executable) in enumerate(entries)
        ]
        with self.db_lock:
            self.db.execute("BEGIN")
            self.db.executemany("INSERT INTO manifest_files VALUES(?,?,?,?,?,?,?,?)", rows)
            self.db.execute("COMMIT")
        return self._manifests

    def tree(self, source: Path | None = None) -> list[tuple[Any, ...]]:
        """A manifest's entries for all files and empty directories below `source`."""
        top = os.fsencode(source or self.source)
        found: list[tuple[Any, ...]] = []
        for folder, folders, files in os.walk(top):
            relative = folder[len(top) :]
            if not folders and not files and relative:
                found.append((relative, folder, 1, 0, False))
            for name in sorted(files):
                path = os.path.join(folder, name)
                size = os.stat(path).st_size
                found.append((relative + b"/" + name, path, 0, size, os.access(path, os.X_OK)))
        return found

    def start(self, ident: str, entries: list[tuple[Any, ...]] | None = None, **changes: Any) -> str:
        message: Message = {
            "op": "start",
            "id": ident,
            "uid": secrets.token_hex(16),
            "destinationId": "1",
            "manifestId": str(self.manifest(self.tree() if entries is None else entries)),
            "destinationPath": "/in",
            "lane": "Normal",
            "priority": 100,
            "rate": None,
            "flags": 7,
            "overwriteMode": 4,
            "checkpointSeconds": 30,
            "timeResolutionUs": 0,
            "timeoutSeconds": 0,
        }
        message |= changes
        self.starts[ident] = message
        assert self.sender is not None
        self.sender.send(message)
        return ident

    def again(self, ident: str) -> None:
        """Start a stopped transfer again."""
        self.stopped.discard(ident)
        assert self.sender is not None
        self.sender.send(self.starts[ident])

    def stop(self, ident: str, *, discard: bool = False) -> None:
        assert self.sender is not None
        self.sender.send({"op": "stop", "id": ident, "discard": discard})
        wait_for(lambda: ident in self.stopped or ident in self.finished, f"{ident} stopped")

    def ask(self, verb: str, **arguments: Any) -> Message:
        number = len(self.remote) + 1000 + secrets.randbelow(1 << 30)
        assert self.sender is not None
        self.sender.send(
            {"op": "remote", "request": number, "destinationId": "1", "verb": verb, "args": arguments}
        )
        return wait_for(lambda: self.remote.get(number), f"answer to {verb}")

    def finish(self, ident: str, seconds: float = WAIT) -> Message:
        return wait_for(lambda: self.finished.get(ident), f"transfer {ident} ends", seconds)

    def _on_message(self, message: Message) -> None:
        op, ident = message["op"], str(message.get("id"))
        self.messages.append(message)
        if op in ("checkpoint", "finished"):
            data = base64.b64decode(message["results"])
            if data:
                with self.db_lock:
                    self._batch += 1
                    self.db.execute(
                        "INSERT INTO transfer_results VALUES(?,?,?)", (int(ident), self._batch, data)
                    )
            for record in results.unpack(data):
                self.records.setdefault(ident, {})[record.seq] = record
            for seq, text in message["errors"]:
                self.errors.setdefault(ident, {})[seq] = text
        if op == "finished":
            self.finished[ident] = message
        elif op == "stopped":
            self.stopped.add(ident)
        elif op == "remoteResult":
            self.remote[message["request"]] = message
        elif op == "destinationState":
            self.states.append(message)
        elif op == "progress":
            for key, sent, *_ in message["transfers"]:
                self.bytes_sent[key] = sent


@contextmanager
def world(home: Path, min_cipher: int = 0, **options: Any) -> Iterator[World]:
    """Both workers running and a destination."""
    made = World(home, min_cipher)
    try:
        made.start_receiver()
        made.start_sender()
        made.destination(**options)
        yield made
    finally:
        made.close()


def contents(top: Path) -> dict[bytes, tuple[Any, ...]]:
    """What a tree holds: by relative path its kind, mode bits for execution, and content (or its digest)."""
    import xxhash

    found: dict[bytes, tuple[Any, ...]] = {}
    base = os.fsencode(top)
    for folder, folders, files in os.walk(base):
        for name in folders:
            found[os.path.join(folder, name)[len(base) :]] = ("directory",)
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                digest = xxhash.xxh3_128(file.read()).hexdigest()
            found[path[len(base) :]] = ("file", os.stat(path).st_mode & 0o111, digest)
    return found
