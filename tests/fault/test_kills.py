"""kill -9 in mid-transfer, of every process of the family, again and again: identical trees, nothing torn,
no partial file left."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, tree, world
from rounds import limit, rounds
from servers import eventually

pytestmark = [pytest.mark.fault, limit(300)]

LARGE = 6 << 20


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


class Observer:
    """Looks at the destination all the time: whatever has a final name must be whole."""

    def __init__(self, w: World) -> None:
        self._w = w
        self.torn: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        wanted = tree(self._w.source)
        while not self._stop.is_set():
            for path, seen in tree(self._w.target()).items():
                if path in wanted and seen[2] != wanted[path][2]:
                    self.torn.append(os.fsdecode(path))
            self._stop.wait(0.02)


def a_day_of_work(w: World, seed: int) -> None:
    """Some large files and many small ones."""
    source = random.Random(seed)
    for number in range(3):
        (w.source / f"large{number}.mov").write_bytes(source.randbytes(LARGE))
    for number in range(400):
        directory = w.source / f"d{number % 20}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number}.txt").write_bytes(source.randbytes(source.randrange(20_000)))
    w.write(
        w.mapping(),
        destination=", sendRateMax: 60Mbit/s, transferDefaults: {checkpointInterval: 1s}",
    )


def processes(w: World, what: str) -> list[int]:
    """Process ids by role: the control process of a server, or a data worker."""
    found = []
    for pid in w.family():
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        role = "agent" if " run " in command else "worker" if "worker" in command else "control"
        server = "sender" if "/servers/sender" in command else "receiver"
        if what in (role, f"{server} {role}"):
            found.append(pid)
    return found


def ready(w: World, what: str) -> list[int]:
    """Those that have begun to work: a control process tells where it listens. One that is killed before that
    again and again is a server that cannot be started, which is another matter."""
    found = processes(w, what)
    server, _, role = what.partition(" ")
    if role != "control":
        return found
    try:
        told = json.loads((w.state / "servers" / server / "address.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return found if told["pid"] in found else []


@pytest.mark.parametrize(
    "victim",
    ["sender control", "receiver control", "sender worker", "receiver worker"],
)
def test_killed_server_processes_lose_and_tear_nothing(w: World, victim: str) -> None:
    """Each victim dies several times while files move; the agent brings everything to its end."""
    a_day_of_work(w, 1)
    w.start()
    with Observer(w) as observer:
        for chance in rounds(4):
            eventually(lambda: ready(w, victim), seconds=60, what=f"a {victim}")
            threading.Event().wait(chance.uniform(0.05, 0.8))  # the instant is the random part of the test
            for pid in processes(w, victim):
                os.kill(pid, signal.SIGKILL)
        w.eventually_same(seconds=120)
    w.in_sync()
    assert observer.torn == []
    assert w.leftovers() == []


def test_killed_agent_goes_on_where_it_was(w: World) -> None:
    """The agent dies with its servers several times in mid-transfer; the next one finishes the work."""
    a_day_of_work(w, 2)
    with Observer(w) as observer:
        for chance in rounds(5):
            w.start()
            threading.Event().wait(chance.uniform(0.3, 1.5))
            w.kill()
        w.start()
        w.eventually_same(seconds=120)
    w.in_sync()
    assert observer.torn == []
    assert w.leftovers() == []
    assert w.stop() == 0
    assert w.family() == []


def test_source_that_changes_while_it_is_sent_is_never_torn(w: World) -> None:
    """A file rewritten while it is sent arrives whole in one version or another, finally the last."""
    path = w.source / "rewritten.bin"
    versions = [bytes([letter]) * LARGE for letter in b"abcdef"]
    path.write_bytes(versions[0])
    w.write(w.mapping(), destination=", sendRateMax: 100Mbit/s")
    target = w.target() / "rewritten.bin"
    seen: set[bytes] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.01):
            if target.exists():
                seen.add(target.read_bytes())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    w.start()
    for version in versions[1:]:
        threading.Event().wait(0.25)
        with open(path, "r+b") as file:
            file.write(version)
    eventually(lambda: target.exists() and target.read_bytes() == versions[-1], what="the last version")
    stop.set()
    watcher.join()
    assert seen <= set(versions), "a mixture of versions was published"
