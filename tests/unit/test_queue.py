"""The work queue: dedupe, one run per key at a time, urgency with ageing, delays."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from agent.model.spec import Key, Kind
from agent.reconcile.queue import HEAD_START, SLOW_SECONDS, WHOLE, Hints, Schedule, WorkQueue

A, B = Key(Kind.MAPPING, "a"), Key(Kind.MAPPING, "b")


def test_repeats_collapse_into_one_run_with_all_hints() -> None:
    """Three events about one mapping cause one reconcile that knows all three paths."""
    schedule = Schedule()
    for path in ("x", "y", "z"):
        schedule.add(A, 0.0, hints=Hints(paths=frozenset({("/root", path)})))
    found = schedule.pop(0.0)
    assert found is not None
    assert {path for _, path in found[1].paths} == {"x", "y", "z"}
    assert schedule.pop(0.0) is None


def test_key_never_runs_twice_at_once_and_reruns_after() -> None:
    """What arrives while a key runs becomes exactly one rerun."""
    schedule = Schedule()
    schedule.add(A, 0.0)
    assert schedule.pop(0.0) is not None
    schedule.add(A, 1.0, hints=WHOLE)
    schedule.add(A, 2.0)
    assert schedule.pop(2.0) is None
    schedule.done(A)
    assert schedule.pop(2.0) == (A, WHOLE)
    schedule.done(A)
    assert schedule.pop(9.0) is None


def test_urgent_goes_first_but_old_work_is_not_starved() -> None:
    """An urgent key overtakes, yet a key that is due for longer than the head start goes before it."""
    schedule = Schedule()
    schedule.add(A, 0.0)
    schedule.add(B, 1.0, urgent=True)
    assert schedule.pop(1.0) == (B, Hints())
    schedule.done(B)
    schedule.add(B, HEAD_START + 1.0, urgent=True)
    assert schedule.pop(HEAD_START + 1.0) == (A, Hints())


def test_earlier_due_time_wins() -> None:
    """A key that waits for its interval runs at once when something happens."""
    schedule = Schedule()
    schedule.add(A, 0.0, delay=600.0)
    assert schedule.pop(1.0) is None
    schedule.add(A, 1.0)
    assert schedule.pop(1.0) == (A, Hints())
    schedule.done(A)
    assert schedule.pop(700.0) is None


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.floats(0, 10), st.booleans()), max_size=30))
def test_everything_added_runs_exactly_once_when_due(adds: list[tuple[Key, float, bool]]) -> None:
    """Whatever the order and urgency, each waiting key runs once."""
    schedule = Schedule()
    for key, delay, urgent in adds:
        schedule.add(key, 0.0, delay=delay, urgent=urgent)
    ran = []
    while (found := schedule.pop(20.0)) is not None:
        ran.append(found[0])
        schedule.done(found[0])
    assert sorted(ran) == sorted({key for key, _, _ in adds})
    assert schedule.next_due() is None
    assert schedule.idle(20.0)


def test_stop_releases_waiting_workers() -> None:
    """A worker that waits for work ends when the queue stops."""
    queue = WorkQueue(time.monotonic)
    found: list[object] = []
    worker = threading.Thread(target=lambda: found.append(queue.get()))
    worker.start()
    queue.stop()
    worker.join(60)
    assert found == [None]


def test_slow_keys_never_have_all_workers() -> None:
    """Four large mappings that are due at once leave one worker to the small ones."""
    schedule = Schedule()
    large = [Key(Kind.MAPPING, f"large{number}") for number in range(4)]
    for key in large:
        schedule.add(key, 0.0)
        assert schedule.pop(0.0, quick=True) == (key, Hints()), "nobody knows yet how long it takes"
        schedule.done(key, SLOW_SECONDS)
        schedule.add(key, 10.0)
    schedule.add(A, 20.0)
    assert schedule.pop(20.0, quick=True) == (A, Hints())
    assert schedule.pop(20.0, quick=True) is None
    assert schedule.ready
    assert {found[0] for _ in large if (found := schedule.pop(20.0)) is not None} == set(large)
    schedule.done(A, 20.1)
    schedule.add(A, 30.0)
    assert schedule.pop(30.0, quick=True) == (A, Hints())


def test_a_worker_for_quick_keys_hands_on_what_it_was_woken_for() -> None:
    """A slow key that becomes due while all wait is taken by one of the others."""
    now = [0.0]
    queue, taken = WorkQueue(lambda: now[0]), threading.Event()
    queue.add(A)
    assert queue.get() == (A, Hints())
    now[0] = SLOW_SECONDS
    queue.done(A)
    got: list[tuple[Key, Hints] | None] = []

    def work(quick: bool) -> None:
        got.append(queue.get(quick=quick))
        taken.set()

    threads = [threading.Thread(target=work, args=(quick,), daemon=True) for quick in (True, False)]
    for thread in threads:
        thread.start()
    queue.add(A)
    assert taken.wait(30)
    assert got == [(A, Hints())]
    queue.stop()
    for thread in threads:
        thread.join(30)
    assert got == [(A, Hints()), None]
