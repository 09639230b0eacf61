"""Real agents for tests: `lanesync run` as a process, with specs, sources and state below one directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from freeports import free_port
from servers import eventually

from agent.cli.client import running

SPECS = """
apiVersion: lanesync/v1
kind: Server
metadata: {{name: sender}}
spec: {{engine: embedded, listen: "127.0.0.1:0"}}
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: receiver}}
spec: {{engine: embedded, listen: "127.0.0.1:{port}", receiveRoot: received}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{server: sender, address: 127.0.0.1, port: {port}{destination}}}
"""

MAPPING = """
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: {name}}}
spec:
  destination: archive
  destinationPath: {path}
  paths: {{/: {source}}}
  trigger: {{interval: 60s, settle: 100ms}}
  retry: {{interval: 500ms, maxInterval: 2s}}
{more}
"""


class World:
    """Sources, specs, state and one agent. `received` is what the embedded receiver wrote."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = directory / "source"
        self.state = directory / "state"
        self.specs = directory / "specs"
        self.received = self.state / "received"
        self.port = free_port()
        self.source.mkdir()
        self.specs.mkdir()
        self.options: tuple[str, ...] = ()  # more of `run`
        self.agent: subprocess.Popen[bytes] | None = None
        self.log = directory / "agent.log"

    # -- specs

    def write(self, *mappings: str, destination: str = "", servers: bool = True) -> None:
        text = SPECS.format(port=self.port, destination=destination) if servers else ""
        new = self.specs / "specs.new"
        new.write_text(text + "".join(mappings))
        new.rename(self.specs / "specs.yaml")

    def mapping(self, name: str = "dailies", path: str = "/paris", more: str = "", source: str = "") -> str:
        lines = "\n".join(f"  {line}" for line in more.splitlines())
        return MAPPING.format(name=name, path=path, source=source or self.source, more=lines)

    # -- the agent

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agent.cli.main", *arguments, "--state-dir", str(self.state)]

    def call(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def once(self, timeout: str = "100s") -> subprocess.CompletedProcess[str]:
        return self.call("run", str(self.specs), "--once", "--timeout", timeout)

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.agent = subprocess.Popen(
                self.command(
                    "run", str(self.specs), "--listen", "127.0.0.1:0", "--log-level", "debug", *self.options
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        agent = self.agent  # a socket may be there that a killed one left
        eventually(lambda: running(str(self.state)) or agent.poll() is not None, what="the agent answers")

    def kill(self) -> None:
        """kill -9, and wait until its children are gone too."""
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()
        eventually(lambda: not self.family(), what="children end with the agent")

    def stop(self) -> int:
        assert self.agent is not None
        self.agent.send_signal(signal.SIGTERM)
        return self.agent.wait(60)

    def family(self) -> list[int]:
        """Every process that was started for this state directory, by its command line."""
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and os.fsencode(self.state) in Path(f"/proc/{entry}/cmdline").read_bytes():
                    found.append(int(entry))
        return found

    def status(self) -> dict[str, Any]:
        """As `lanesync status` has it; a running agent is asked on its socket, without a process."""
        client = running(str(self.state)) if self.agent is not None and self.agent.poll() is None else None
        if client is not None:
            return client.get("/api/v1/status")
        return self.told()

    def told(self) -> dict[str, Any]:
        """What the command `lanesync status` answers."""
        answer = self.call("status", "--output", "json")
        assert answer.stdout, answer.stderr
        document: dict[str, Any] = json.loads(answer.stdout)
        return document

    def object(self, kind: str, name: str) -> dict[str, Any]:
        found = [o for o in self.status()["objects"] if (o["kind"], o["name"]) == (kind, name)]
        return found[0] if found else {}

    def in_sync(self, seconds: float = 60.0) -> None:
        """By the agent's answer, and then by the command's."""
        eventually(lambda: self.status()["inSync"] and self.told()["inSync"], seconds=seconds, what="in sync")

    # -- trees

    def target(self, path: str = "paris") -> Path:
        return self.received / path

    def same(self, path: str = "paris") -> bool:
        return tree(self.source) == tree(self.target(path))

    def eventually_same(self, path: str = "paris", seconds: float = 60.0) -> None:
        eventually(lambda: self.same(path), seconds=seconds, what="identical trees")

    def leftovers(self) -> list[str]:
        return [str(p) for p in self.received.rglob("*") if ".lanesync" in p.name]


@contextlib.contextmanager
def world(directory: Path, kind: type[World] = World) -> Iterator[World]:
    made = kind(directory)
    try:
        yield made
    finally:
        if made.agent is not None and made.agent.poll() is None:
            made.agent.kill()
            made.agent.wait()
        for pid in made.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def tree(root: Path) -> dict[bytes, tuple[str, int, str, bool]]:
    """Path -> (kind, mtime ns, content digest, executable); directories only where they are empty."""
    found: dict[bytes, tuple[str, int, str, bool]] = {}
    base = os.fsencode(root)
    for directory, directories, files in os.walk(base):
        relative = os.path.relpath(directory, base)
        if not directories and not files and relative != b".":
            found[relative] = ("directory", 0, "", False)
        for name in files:
            path = os.path.join(directory, name)
            try:
                info = os.stat(path)
                digest = _digest(path, info)
            except FileNotFoundError:
                continue
            executable = bool(info.st_mode & stat.S_IXUSR)
            found[os.path.relpath(path, base)] = ("file", info.st_mtime_ns, digest, executable)
    return found


def _digest(path: bytes, info: os.stat_result) -> str:
    digest = hashlib.blake2b(str(info.st_size).encode())
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fill(root: Path, files: int, *, per_directory: int = 50, size: int = 2000) -> None:
    """A deterministic tree of small files of varying size."""
    for number in range(files):
        directory = root / f"d{number // per_directory:03d}"
        directory.mkdir(exist_ok=True)
        body = (f"{number}:".encode() * (1 + (number * 7919) % size))[: (number * 7919) % (2 * size)]
        (directory / f"f{number:05d}.bin").write_bytes(body)
