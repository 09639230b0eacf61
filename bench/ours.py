"""LaneSync itself: two transfer servers through their API, and the agent through its command line."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.jetstream import APIInterface, Jetstream, constants
from agent.server import accounts
from agent.server.identity import Identities
from bench import processes, trees
from bench.link import FAR, Line

LANESYNC = [sys.executable, "-m", "agent.cli.main"]
PUBLISHED = "LaneSync, all published"
COMPLETE = "LaneSync, complete and synced"
MANIFEST = "LaneSync, of which the manifest"
ENCRYPTED = " (encrypted)"
USER, PASSWORD = "bench", "a password for the bench"

_FLAGS = constants.DEFAULT_TRANSFER_FLAGS | constants.TRANSFER_FLAG_EARLY
_SPECS = """\
apiVersion: lanesync/v1
kind: Server
metadata: {{name: sender}}
spec: {{engine: embedded, listen: "127.0.0.1:0"}}
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: receiver}}
spec: {{engine: embedded, listen: "127.0.0.1:{port}", receiveRoot: {received}}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{server: sender, address: 127.0.0.1, port: {port}}}
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: tree}}
spec:
  destination: archive
  paths: {{/tree: {source}}}
{more}"""


@dataclass(frozen=True)
class Pair:
    """A sender with a destination that leads to a receiver, both warm."""

    api: APIInterface
    destination: str
    received: Path
    mark: str = ""  # after the name in tables
    cipher: int = constants.MIN_CIPHER_NONE
    account: Mapping[str, Any] = field(default_factory=dict)  # what the receiver wants with an order

    @property
    def encrypted(self) -> Pair:
        """The same servers over a session that is encrypted."""
        port = self.api.send.getDestination(self.destination)["destinationPort"]
        found = self.api.send.createDestination("localhost", destinationPort=port)
        cipher = constants.MIN_CIPHER_ENCRYPTED_128
        return replace(self, destination=found["destinationId"], mark=ENCRYPTED, cipher=cipher)

    def send(self, source: Path, name: str) -> dict[str, float]:
        """Deliver a file or tree as /NAME. Returns seconds since the order was given, until: the manifest is
        made, the last file has its final name, all is synced and recorded."""
        clock, start = time.time(), time.monotonic()
        manifest = self.api.send.createManifest(mappings={f"/{name}": str(source)})["manifestId"]
        transfer = self.api.send.createTransfer(
            self.destination, manifest, minCipher=self.cipher, transferFlags=_FLAGS, **self.account
        )["transferId"]
        self.api.send.waitForManifest(manifest)
        made = time.monotonic() - start
        ended = self.api.send.waitForTransfer(transfer)
        complete = time.monotonic() - start
        if ended["status"] != "complete":
            raise RuntimeError(f"the transfer ended as {ended['status']}: {ended.get('errorMessage')}")
        last = trees.last_published(self.received / name)
        self.api.send.deleteTransfer(transfer)
        self.api.send.deleteManifest(manifest)
        found = {PUBLISHED: last - clock, COMPLETE: complete, MANIFEST: made}
        return {f"{what}{self.mark}": seconds for what, seconds in found.items()}


@contextmanager
def server_pair(work: Path, received: Path) -> Iterator[Pair]:
    """Two `lanesync serve` processes for as long as the block lasts."""
    with (
        _server(work / "receiver", received) as to,
        _server(work / "sender", work / "unused") as port,
        Jetstream().api("127.0.0.1", port) as api,
    ):
        found = api.send.createDestination("127.0.0.1", destinationPort=to)
        pair = Pair(api, found["destinationId"], received)
        (work / "warm").write_bytes(b"the first transfer starts the workers")
        pair.send(work / "warm", "warm")
        yield pair


@contextmanager
def distant_pair(work: Path, received: Path, line: Line, weak: Sequence[str] = ()) -> Iterator[Pair]:
    """Likewise, at the two ends of a line: the receiver knows an account, all is encrypted. The caller is in
    the sender's namespace; `weak` is a command that starts another one with fewer rights."""
    book, state = work / "accounts", work / "receiver"
    work.mkdir(parents=True)
    accounts.add(book, USER, PASSWORD)
    where, options = line.inside(line.far, weak), ["--accounts", str(book)]
    with (
        _server(state, received, where, f"{FAR}:0", options) as to,
        _server(work / "sender", work / "unused", weak) as port,
        Jetstream().api("127.0.0.1", port) as api,
    ):
        key = Identities(state).current().public_key
        found = api.send.createDestination(
            FAR, destinationPort=to, destinationPublicKey=key, authenticateDestination=True
        )
        account = {"userName": USER, "password": PASSWORD}
        cipher = constants.MIN_CIPHER_ENCRYPTED_256
        pair = Pair(api, found["destinationId"], received, cipher=cipher, account=account)
        (work / "warm").write_bytes(b"the first transfer starts the workers")
        pair.send(work / "warm", "warm")
        yield pair


@contextmanager
def _server(
    state: Path,
    received: Path,
    where: Sequence[str] = (),
    listen: str = "127.0.0.1:0",
    options: Sequence[str] = (),
) -> Iterator[int]:
    """A server, started by the command `where`; the block gets its port."""
    state.mkdir(parents=True)
    ready, told = os.pipe()
    command = [*where, *LANESYNC, "serve", "--listen", listen, "--state-dir", str(state)]
    command += ["--receive-root", str(received), "--ready-fd", str(told), *options]
    log = state.with_suffix(".log")
    try:
        with processes.running(command, log, pass_fds=(told,)):
            os.close(told)
            told = -1
            readable, _, _ = select.select([ready], [], [], processes.START_SECONDS)
            line = os.read(ready, 4096) if readable else b""
            if not line:
                raise RuntimeError(f"the server did not start:\n{processes.tail(log)}")
            yield int(json.loads(line)["port"])
    finally:
        os.close(ready)
        if told >= 0:
            os.close(told)


@dataclass(frozen=True)
class Agent:
    """A specs directory with one mapping, and the agent's state; files land in `received`/tree."""

    work: Path
    received: Path

    @property
    def log(self) -> Path:
        return self.work / "agent.log"

    @property
    def target(self) -> Path:
        return self.received / "tree"

    @property
    def _state(self) -> list[str]:
        return ["--state-dir", str(self.work / "state")]

    def apply(self) -> float:
        """`lanesync apply --yes`, cold; returns seconds of the whole command."""
        return processes.run([*LANESYNC, "apply", str(self.work / "specs"), "--yes", *self._state], self.log)

    def reconcile(self) -> float:
        """Have the agent that runs look at the source and deliver; returns seconds of the commands."""
        asked = processes.run([*LANESYNC, "reconcile", "Mapping/tree", "--wait", *self._state], self.log)
        return asked + processes.run(
            [*LANESYNC, "status", "--wait", "--timeout", "600s", *self._state], self.log
        )

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """`lanesync run`, in sync."""
        command = [*LANESYNC, "run", str(self.work / "specs"), *self._state]
        options = ["--listen", "127.0.0.1:0", "--log-level", "warning"]
        with processes.running([*command, *options], self.log) as process:
            socket = self.work / "state" / "agent.sock"
            processes.wait_until(socket.exists, "the agent answers")
            processes.run([*LANESYNC, "status", "--wait", "--timeout", "600s", *self._state], self.log)
            yield process


def agent_for(work: Path, source: Path, more: str = "") -> Agent:
    """`more`: lines of the mapping's spec."""
    (work / "specs").mkdir(parents=True)
    text = _SPECS.format(port=processes.free_port(), received=work / "received", source=source, more=more)
    (work / "specs" / "bench.yaml").write_text(text, encoding="utf-8")
    return Agent(work, work / "received")
