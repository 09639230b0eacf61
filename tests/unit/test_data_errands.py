"""What takes long is done beside what is quick, and one sender does not take all the threads."""

from __future__ import annotations

import threading

from servers import eventually

from agent.server.data import errands
from agent.server.data.errands import Errands


class Slow:
    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.go_on.wait(30)


def test_what_is_quick_does_not_wait_for_what_is_slow() -> None:
    """While every thread for digests is busy, a listing is answered; also for the same sender."""
    work, slow, done = Errands(), [Slow() for _ in range(errands.SLOW_THREADS + 1)], threading.Event()
    for number, one in enumerate(slow):
        assert work.add(number, one, slow=True)
    assert slow[0].begun.wait(30)
    assert work.add(0, done.set, slow=False)
    assert done.wait(30)
    for one in slow:
        one.go_on.set()
    assert all(one.begun.wait(30) for one in slow)


def test_the_errands_of_one_sender_are_done_one_after_the_other() -> None:
    """In their order; others go on meanwhile."""
    work, first, order = Errands(), Slow(), list[str]()
    work.add("a", first, slow=False)
    work.add("a", lambda: order.append("a"), slow=False)
    assert first.begun.wait(30)
    work.add("b", lambda: order.append("b"), slow=False)
    eventually(lambda: order == ["b"])
    first.go_on.set()
    eventually(lambda: order == ["b", "a"])


def test_an_errand_that_breaks_does_not_hold_up_the_next() -> None:
    """Whatever it raises."""
    work, done = Errands(), threading.Event()

    def broken() -> None:
        raise RuntimeError("of this errand alone")

    work.add("a", broken, slow=True)
    work.add("a", done.set, slow=True)
    assert done.wait(30)


def test_a_sender_that_asks_for_too_much_at_once_is_refused() -> None:
    """What waits is bounded, for each sender by itself."""
    work, first = Errands(), Slow()
    answers = [work.add("a", first, slow=False) for _ in range(errands.MAX_WAITING + 2)]
    assert answers == [True] * (errands.MAX_WAITING + 1) + [False]
    assert work.add("b", lambda: None, slow=False)
    first.go_on.set()
    eventually(lambda: work.add("a", lambda: None, slow=False))
