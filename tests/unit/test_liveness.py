"""Threads that hang are told from those that work and those that have nothing to do."""

from __future__ import annotations

import threading
import time

from servers import eventually

from agent.reconcile.liveness import BLIND_SECONDS, Liveness, Pulse, cpu_time


def test_a_thread_that_does_not_move_is_counted_from_its_last_move() -> None:
    pulse = Pulse()
    assert pulse.look({"a": 5, "b": 7}, 0.0) == {"a": 0.0, "b": 0.0}
    assert pulse.look({"a": 5, "b": 8}, 10.0) == {"a": 10.0, "b": 0.0}
    assert pulse.look({"a": 5, "b": 8}, 25.0) == {"a": 25.0, "b": 15.0}
    assert pulse.look({"a": 6, "b": 8}, 30.0) == {"a": 0.0, "b": 20.0}


def test_nobody_is_blamed_for_the_time_in_which_nobody_looked() -> None:
    """The machine slept, or the process was stopped: all begin anew."""
    pulse = Pulse()
    pulse.look({"a": 5}, 0.0)
    assert pulse.look({"a": 5}, BLIND_SECONDS) == {"a": BLIND_SECONDS}
    later = 3 * BLIND_SECONDS
    assert pulse.look({"a": 5}, later) == {"a": 0.0}
    assert pulse.look({"a": 5}, later + 10) == {"a": 10.0}


def test_a_thread_that_is_new_or_was_gone_begins_anew() -> None:
    pulse = Pulse()
    pulse.look({"a": 5}, 0.0)
    pulse.look({}, 10.0)
    assert pulse.look({"a": 5}, 20.0) == {"a": 0.0}


def test_only_the_thread_that_hangs_is_named() -> None:
    """Of one that hangs, one that works without pause and one that wakes now and then."""
    let_go, end = threading.Event(), threading.Event()

    def works() -> None:
        while not end.is_set():
            sum(range(1000))

    def wakes() -> None:
        while not end.wait(0.01):
            pass

    threads = [
        threading.Thread(target=target, name=name, daemon=True)
        for name, target in {"hangs": let_go.wait, "works": works, "wakes": wakes}.items()
    ]
    for thread in threads:
        thread.start()
    liveness = Liveness(lambda: threads, time.monotonic, patience=0.5)
    try:
        eventually(lambda: liveness.look(), what="the one that hangs is noticed")
        assert liveness.look().keys() == {"hangs"}
        let_go.set()
        eventually(lambda: liveness.look() == {"hangs": "ended"}, what="its end is noticed")
    finally:
        let_go.set()
        end.set()


def test_the_cpu_time_of_a_thread_grows_while_it_runs_and_ends_with_it() -> None:
    begin, end = threading.Event(), threading.Event()

    def run() -> None:
        begin.wait()
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
        end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    number = thread.native_id
    assert number is not None
    before = cpu_time(number)
    assert before is not None
    begin.set()
    eventually(lambda: (cpu_time(number) or 0) - before >= 20_000_000, what="what it ran is counted")
    end.set()
    thread.join()
    eventually(lambda: cpu_time(number) is None, what="there is no such thread any more")
