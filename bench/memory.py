"""How much memory agents and transfer servers take, seen from outside while they work."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes

EVERY_SECONDS = 0.1
AGENT = "agent, most memory (MB)"
LARGEST = "server, most memory of a process (MB)"
WHOLE = "server, most memory of its processes together (MB)"
_SERVE, _WORKER, _AGENT = b"serve", b"agent.server.worker", (b"apply", b"run", b"plan")


@dataclass
class Peaks:
    """Most bytes by process; who is an agent, and which process is of which server."""

    bytes: dict[int, int] = field(default_factory=dict)
    servers: dict[int, int] = field(default_factory=dict)  # process -> the server's first process
    agents: set[int] = field(default_factory=set)

    def look(self) -> None:
        """At all that we started, and what that started."""
        parents = _parents()
        for process in parents:
            if _below(process, os.getpid(), parents):
                self._sort(process, parents[process])
                self.bytes[process] = max(self.bytes.get(process, 0), processes.most_memory(process))

    def _sort(self, process: int, parent: int) -> None:
        if process in self.agents or process in self.servers:
            return
        words = _words(process)
        if _WORKER in words:
            self.servers[process] = parent
        elif _SERVE in words:
            self.servers[process] = process
        elif any(verb in words for verb in _AGENT):
            self.agents.add(process)

    @property
    def facts(self) -> dict[str, float]:
        """In MB, of the largest agent and the largest server."""
        together: dict[int, int] = {}
        for process, server in self.servers.items():
            together[server] = together.get(server, 0) + self.bytes.get(process, 0)
        found = {
            AGENT: max((self.bytes.get(one, 0) for one in self.agents), default=0),
            LARGEST: max((self.bytes.get(one, 0) for one in self.servers), default=0),
            WHOLE: max(together.values(), default=0),
        }
        return {name: value / 1e6 for name, value in found.items()}


def _parents() -> dict[int, int]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            found[int(entry)] = int(text.rsplit(")", 1)[1].split()[1])
    return found


def _below(process: int, root: int, parents: dict[int, int]) -> bool:
    while process and process != root:
        process = parents.get(process, 0)
    return process == root


def _words(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


@contextmanager
def watched() -> Iterator[Peaks]:
    """What runs below us, as long as the block lasts."""
    peaks, ended = Peaks(), threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY_SECONDS):
            peaks.look()

    thread = threading.Thread(target=watch, name="memory")
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()
