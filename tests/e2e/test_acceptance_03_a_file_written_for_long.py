"""Acceptance: a file that is written for a long time is transferred once, after it has settled."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from agents import World, world
from servers import eventually

pytestmark = pytest.mark.e2e

PIECE = os.urandom(100_000)


def start(w: World, ready: str, settle: str) -> None:
    trigger = f"trigger: {{interval: 1h, ready: {ready}, settle: {settle}}}"
    w.write(w.mapping().replace("trigger: {interval: 60s, settle: 100ms}", trigger))
    (w.source / "first").write_text("x")
    os.utime(w.source / "first", (1e9, 1e9))  # old enough to be settled
    w.start()
    w.eventually_same()
    w.in_sync()


def delivered(w: World) -> int:
    return sum(tally["files"] for tally in w.status()["delivered"])


def test_a_file_that_stays_open_is_sent_once_when_it_is_closed(tmp_path: Path) -> None:
    """With `ready: closed`, if its writer pauses less than `settle`; the status says that it waits."""
    with world(tmp_path) as w:
        start(w, "closed", "30s")
        with open(w.source / "clip.mov", "wb") as file:
            for _ in range(30):
                file.write(PIECE)
                file.flush()
                time.sleep(0.05)
            eventually(lambda: "still being written" in str(w.object("Mapping", "dailies")), what="it waits")
            assert not (w.target() / "clip.mov").exists()
        w.eventually_same()
        w.in_sync()
        assert delivered(w) == 2


def test_a_file_that_is_opened_again_and_again_is_sent_once_when_it_is_quiet(tmp_path: Path) -> None:
    """With `ready: quiet` a close says nothing; only `settle` without a change does."""
    with world(tmp_path) as w:
        start(w, "quiet", "5s")
        last, longest = time.monotonic(), 0.0
        for _ in range(30):
            with open(w.source / "clip.mov", "ab") as file:
                file.write(PIECE)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            time.sleep(0.1)
        written_late = (w.target() / "clip.mov").exists()
        w.eventually_same()
        w.in_sync()
        if longest < 4.0:  # else the machine stood still for as long as the writer is allowed to pause
            assert not written_late
            assert delivered(w) == 2
