"""More transfers than a receiver has open at once: they take turns, and none waits for the opening of others
that it has nothing to do with."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_world import World, wait_for, world
from rounds import FACTOR, limit

from agent.server.data.openings import OPEN_IN_LANE, UNANSWERED

pytestmark = [pytest.mark.fault, limit(300)]

COUNT = min(12_000, round(1200 * FACTOR))  # a receiver takes 10,000 of a session
OTHERS = 40  # descriptors that have nothing to do with transfers


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        (made.source / "f").write_bytes(b"x" * 1000)
        yield made


def begin(w: World, ident: int, **changes: object) -> str:
    listed = [(f"/f{ident}", os.fsencode(w.source / "f"), 0, 1000, False)]
    return w.start(str(ident), listed, **changes)


class Most:
    """The most descriptors that a process ever had."""

    def __init__(self, pid: int) -> None:
        self._place, self.seen = Path(f"/proc/{pid}/fd"), 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.seen = max(self.seen, len(os.listdir(self._place)))

    def __enter__(self) -> Most:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()


def test_more_than_a_receiver_takes_of_a_session_go_one_after_the_other(w: World) -> None:
    """All arrive over one session, and the receiver never has more open than a lane may have."""
    assert w.receiver is not None
    w.receiver.kill()
    for number in range(1, COUNT + 1):
        begin(w, number)
    w.start_receiver()
    with Most(w.receiver.process.pid) as most:
        wait_for(lambda: len(w.finished) == COUNT, "all of them", 240)
    assert {message["status"] for message in w.finished.values()} == {"complete"}
    assert len(os.listdir(w.root / "in")) == COUNT
    assert most.seen < OPEN_IN_LANE + UNANSWERED + OTHERS
    assert [state["state"] for state in w.states].count("connected") == 1


def test_who_is_called_off_waits_for_nobody_to_be_opened(w: World) -> None:
    """The receiver takes for ever to say who may send; whom it was not asked about is through at once."""
    asked = threading.Event()
    held: list[dict[str, object]] = []

    def judge(message: dict[str, object]) -> bool:
        held.append(message)
        asked.set()
        return False

    w.judge = judge
    for number in range(1, UNANSWERED + 20):
        begin(w, number)
    wait_for(asked.is_set, "the receiver asks who it is")
    last = str(UNANSWERED + 19)
    w.stop(last)
    assert last in w.stopped and not w.finished
    w.judge = lambda _message: True
    for message in held:
        w.grant(message)
    wait_for(lambda: len(w.finished) == UNANSWERED + 18, "all others")
    assert not (w.root / "in" / f"f{last}").exists()


def test_who_is_called_off_before_it_was_opened_can_be_taken_up_again(w: World) -> None:
    w.judge = lambda _message: False
    for number in range(1, UNANSWERED + 3):
        begin(w, number)
    last = str(UNANSWERED + 2)
    w.stop(last)
    assert w.receiver is not None
    w.receiver.kill()
    w.judge = lambda _message: True
    w.start_receiver()
    w.again(last)
    wait_for(lambda: len(w.finished) == UNANSWERED + 2, "all of them")
    assert {message["status"] for message in w.finished.values()} == {"complete"}
