"""One is in trouble, and the others are delivered: a destination that nobody answers for, a server
that hangs, a source that changes without end, an object that is invalid."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World
from freeports import free_port
from servers import Server, eventually

from agent.reconcile.loop import WORKERS

pytestmark = pytest.mark.e2e

MAPPINGS = 6

BLACK_HOLE = "192.0.2.1"
"""An address of documentation (RFC 5737): nobody answers, and nobody says so."""

DEAD = """
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: dead}}
spec: {{server: sender, address: {address}, port: {port}}}
"""

HANGING = """
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: hanging}}
spec: {{engine: jetstream, address: 127.0.0.1, port: {server}}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: hanging}}
spec: {{server: hanging, address: 127.0.0.1, port: {port}}}
"""

EXPLODING = """
import itertools, os, sys
for number in itertools.count():
    name = os.path.join(sys.argv[1], f"{number % 5000}.dat")
    with open(name, "w") as file:
        file.write(str(number))
"""


class Many(World):
    """`MAPPINGS` mappings of one file each, m0 and so on, to the destination that works."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        for number in range(MAPPINGS):
            (self.source / str(number)).mkdir()
        self.add("first")

    def good(self) -> list[str]:
        return [
            self.mapping(f"m{number}", f"/m{number}", source=str(self.source / str(number)))
            for number in range(MAPPINGS)
        ]

    def delivered(self, name: str) -> bool:
        return all((self.received / f"m{number}" / name).exists() for number in range(MAPPINGS))

    def add(self, name: str) -> None:
        """One more file for each of the mappings that work."""
        for number in range(MAPPINGS):
            (self.source / str(number) / name).write_text(name)

    def go_on(self, rounds: int = 3) -> None:
        """The others are delivered, and what they get later is, too."""
        eventually(lambda: self.delivered("first"), seconds=90, what="what was there at the start")
        for turn in range(rounds):
            self.add(f"later{turn}")
            eventually(lambda name=f"later{turn}": self.delivered(name), seconds=90, what="what came later")


@pytest.fixture
def w(tmp_path: Path) -> Iterator[Many]:
    made = Many(tmp_path)
    yield made
    if made.agent is not None and made.agent.poll() is None:
        made.kill()


def test_a_destination_that_does_not_answer_holds_up_no_other(w: Many) -> None:
    """More mappings go there than the agent has workers."""
    dead = [
        w.mapping(f"lost{number}", f"/lost{number}", source=str(w.source / str(number))).replace(
            "destination: archive", "destination: dead"
        )
        for number in range(MAPPINGS)
    ]
    w.write(DEAD.format(address=BLACK_HOLE, port=free_port()), *dead, *w.good())
    w.start()
    w.go_on()
    lost = [w.object("Mapping", f"lost{number}") for number in range(MAPPINGS)]
    assert not any(each["ready"] for each in lost)


def test_a_server_that_hangs_holds_up_no_other(w: Many) -> None:
    """It takes connections and says nothing, so that each question costs a time-out. It is asked a few times,
    and not by each of its mappings; when it answers again they are all delivered."""
    hung = [
        w.mapping(f"hung{number}", f"/hung{number}", source=str(w.source / str(number % MAPPINGS))).replace(
            "destination: archive", "destination: hanging"
        )
        for number in range(4 * MAPPINGS)
    ]
    targets = [w.received / f"hung{number}" for number in range(4 * MAPPINGS)]
    server = Server(w.directory / "hanging", None, {})
    try:
        w.write(HANGING.format(server=server.port, port=w.port), *hung, *w.good())
        w.start()
        eventually(
            lambda: all((at / "first").exists() for at in targets), seconds=90, what="all at the start"
        )
        w.in_sync()
        os.kill(server.pid, signal.SIGSTOP)
        w.go_on()
        eventually(
            lambda: not w.object("Server", "hanging")["ready"], seconds=60, what="a server found to hang"
        )
        w.add("last")
        eventually(lambda: w.delivered("last"), seconds=90, what="what came last")
        asked = re.findall(
            r"will try again.*destination=hanging", re.sub(r"\x1b\[[0-9]*m", "", w.log.read_text())
        )
        assert len(asked) <= 2 * WORKERS
        os.kill(server.pid, signal.SIGCONT)
        eventually(lambda: all((at / "last").exists() for at in targets), seconds=90, what="all in the end")
        w.in_sync()
    finally:
        os.kill(server.pid, signal.SIGCONT)
        server.stop()


def test_a_source_that_changes_without_end_holds_up_no_other(w: Many) -> None:
    """Thousands of files are rewritten as fast as a process can."""
    restless = w.directory / "restless"
    restless.mkdir()
    w.write(w.mapping("restless", "/restless", source=str(restless)), *w.good())
    exploding = subprocess.Popen([sys.executable, "-c", EXPLODING, str(restless)])
    try:
        eventually(lambda: len(os.listdir(restless)) > 1000, what="files that change")
        w.start()
        w.go_on()
        assert exploding.poll() is None
    finally:
        exploding.kill()
        exploding.wait()
    w.in_sync(120)
    sent = {path.name: path.read_bytes() for path in (w.received / "restless").iterdir()}
    assert sent == {path.name: path.read_bytes() for path in restless.iterdir()}


def test_an_invalid_object_holds_up_no_other(w: Many) -> None:
    """It is named, and what is valid goes on with its newest version."""
    wrong = w.mapping("wrong", "/wrong", more="priority: soon")
    w.write(wrong, *w.good())
    w.start()
    w.go_on()
    assert "priority" in w.status()["invalid"]["Mapping/wrong"][0]
    w.write(
        wrong, *[mapping.replace("destinationPath: /m0", "destinationPath: /moved") for mapping in w.good()]
    )
    eventually((w.received / "moved" / "first").exists, what="an edit beside the invalid object")
