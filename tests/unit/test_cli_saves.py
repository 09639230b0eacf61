"""When the status is saved that is told after a kill."""

from __future__ import annotations

from agent.cli.run import CHANGE_PACE, SAVE_PACE, SAVE_SECONDS, Saves
from agent.reconcile.status import State


def test_a_change_is_saved_at_once_and_what_stays_is_saved_seldom() -> None:
    saves = Saves()
    assert saves.due(State.IN_SYNC, 1000.0)
    saves.saved(State.IN_SYNC, 1000.0, 1000.001)
    assert not saves.due(State.IN_SYNC, 1000.0 + SAVE_SECONDS)
    assert saves.due(State.IN_SYNC, 1000.002 + SAVE_SECONDS)
    assert saves.due(State.CONVERGING, 1001.0)


def test_a_state_that_keeps_changing_costs_little_however_much_there_is_to_save() -> None:
    """A second of work with ten thousand objects."""
    saves = Saves()
    saves.saved(State.IN_SYNC, 1000.0, 1001.0)
    assert not saves.due(State.CONVERGING, 1000.0 + CHANGE_PACE)
    assert saves.due(State.CONVERGING, 1001.0 + CHANGE_PACE)
    assert not saves.due(State.IN_SYNC, 1000.0 + SAVE_PACE)
    assert saves.due(State.IN_SYNC, 1001.0 + SAVE_PACE)
