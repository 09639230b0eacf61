"""Waiting that a signal ends."""

from __future__ import annotations

import signal
import threading

import pytest

from agent.cli.signals import Wakeup

LONG = 120.0  # the test's own limit is later than that of the suite


@pytest.fixture(autouse=True)
def handled() -> object:
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_signal_before_the_wait_ends_it() -> None:
    """It may come between the look at what it asks for and the wait."""
    with Wakeup() as wakeup:
        for _ in range(100_000):
            signal.raise_signal(signal.SIGHUP)
        wakeup.wait(LONG)


def test_a_signal_during_the_wait_ends_it() -> None:
    with Wakeup() as wakeup:
        for _ in range(20):
            main = threading.main_thread().ident
            assert main is not None
            sender = threading.Thread(target=signal.pthread_kill, args=(main, signal.SIGHUP))
            sender.start()
            wakeup.wait(LONG)
            sender.join()


def test_the_wait_ends_by_itself_and_leaves_signals_as_they_were() -> None:
    with Wakeup() as wakeup:
        wakeup.wait(-1.0)
        wakeup.wait(0.0)
    assert signal.set_wakeup_fd(-1) == -1
