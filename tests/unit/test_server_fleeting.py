"""Large results are kept for a moment and handed out once."""

from __future__ import annotations

import pytest

from agent.server.fleeting import KEEP_SECONDS, Fleeting


def test_a_result_is_handed_out_once() -> None:
    kept = Fleeting()
    kept.put(1, {"files": ["\udcff"], "next": None}, 0.0)
    assert kept.take(1) == {"files": ["\udcff"], "next": None}
    for unknown in (1, 2):
        with pytest.raises(KeyError):
            kept.take(unknown)


def test_what_nobody_fetches_makes_room() -> None:
    """By size, the oldest first; the latest stays, however large it is."""
    kept = Fleeting(max_bytes=100)
    for number in range(3):
        kept.put(number, "x" * 40, 0.0)
    with pytest.raises(KeyError):
        kept.take(0)
    assert kept.take(1) == "x" * 40
    kept.put(9, "x" * 1000, 0.0)
    with pytest.raises(KeyError):
        kept.take(2)
    assert len(kept.take(9)) == 1000


def test_what_nobody_fetches_in_time_is_forgotten() -> None:
    kept = Fleeting()
    kept.put(1, "old", 0.0)
    kept.put(2, "new", KEEP_SECONDS)
    kept.expire(KEEP_SECONDS + 1)
    with pytest.raises(KeyError):
        kept.take(1)
    assert kept.take(2) == "new"
