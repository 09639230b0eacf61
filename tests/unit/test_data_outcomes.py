"""What is remembered of a transfer's files: all of it, or less, but never anything else."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server.data.outcomes import PAGE, Memory, Outcomes
from agent.server.data.room import Room
from agent.server.data.wire import MAX_SEQ, WireError
from agent.server.results import Outcome

_seqs = st.integers(0, 3 * PAGE) | st.sampled_from([PAGE - 1, PAGE, PAGE + 1, MAX_SEQ - 1])
_outcomes = st.sampled_from([Outcome.DELIVERED, Outcome.SKIPPED])


def _told(outcomes: Outcomes) -> dict[int, int]:
    return {first + at: outcome for first, count, outcome in outcomes.runs() for at in range(count)}


@given(st.lists(st.tuples(_seqs, _outcomes), max_size=40))
def test_runs_tell_what_was_recorded(records: list[tuple[int, Outcome]]) -> None:
    """Each number once, with its latest outcome, and neighbours together."""
    outcomes = Outcomes(Memory())
    for seq, outcome in records:
        outcomes.record(seq, outcome)
    assert _told(outcomes) == {seq: int(outcome) for seq, outcome in records}
    runs = outcomes.runs()
    for one, other in pairwise(runs):
        assert one[0] + one[1] < other[0] or one[2] != other[2]


def test_a_run_goes_on_over_pages() -> None:
    outcomes = Outcomes(Memory())
    for seq in range(PAGE - 2, 2 * PAGE + 2):
        outcomes.record(seq, Outcome.DELIVERED)
    assert outcomes.runs() == [(PAGE - 2, PAGE + 4, int(Outcome.DELIVERED))]


def test_memory_is_bounded_over_all_transfers_and_given_back() -> None:
    """What there is no memory for is not remembered: it is only sent again."""
    memory = Memory(2)
    first, second = Outcomes(memory), Outcomes(memory)
    first.record(0, Outcome.DELIVERED)
    second.record(MAX_SEQ - 1, Outcome.DELIVERED)
    second.record(0, Outcome.DELIVERED)
    assert _told(second) == {MAX_SEQ - 1: 1} and memory.left == 0
    second.clear()
    assert second.runs() == [] and memory.left == 1
    first.record(PAGE, Outcome.SKIPPED)
    assert sorted(_told(first)) == [0, PAGE]


def test_numbers_beyond_any_manifest_are_refused() -> None:
    with pytest.raises(WireError, match="out of range"):
        Outcomes(Memory()).record(MAX_SEQ, Outcome.DELIVERED)


def test_room_is_shared_and_given_back() -> None:
    """Nobody takes more than their part, and all together no more than there is."""
    room = Room(10, 6)
    one = room.take("a", 6)
    assert one is not None and room.take("a", 1) is None
    assert room.take("b", 4) is not None and room.take("c", 1) is None
    one.leave()
    assert room.taken == 4 and room.take("a", 6) is not None
