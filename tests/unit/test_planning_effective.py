"""Which lane, priority and rate hold, and when two settings are the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.model.spec import DestinationSpec, Lane, MappingSpec, TransferDefaults
from agent.planning.effective import effective, same_lanes, same_rate, share_rate

MAPPING = MappingSpec("m", ("d",), ())
DESTINATION = DestinationSpec("d", "192.0.2.1")


def test_without_a_normal_lane_the_first_with_a_share_is_used() -> None:
    """Custom lanes need not have the documented names."""
    lanes = (Lane("Later", 0.0), Lane("Now", 1.0))
    assert effective(MAPPING, DESTINATION, lanes).lane == "Now"


def test_priority_zero_is_a_priority() -> None:
    """The most urgent priority is not mistaken for none."""
    mapping = MappingSpec("m", ("d",), (), priority=0)
    destination = DestinationSpec("d", "192.0.2.1", transfer_defaults=TransferDefaults(priority=9))
    assert effective(mapping, destination, (Lane("Only", 1.0),)).priority == 0
    assert effective(MAPPING, destination, (Lane("Only", 1.0),)).priority == 9


@given(total=st.floats(1, 1e9), transfers=st.integers(0, 1_000))
def test_parts_never_exceed_the_whole(total: float, transfers: int) -> None:
    """What the transfers of a mapping may send together is what its spec allows, as far as 1 kbit/s goes."""
    part = share_rate(total, transfers)
    assert part is not None
    assert part * max(1, transfers) <= max(total, transfers)
    assert share_rate(None, transfers) is None


def test_sameness() -> None:
    """Rounding and order are no difference; a missing limit is."""
    assert same_rate(None, None)
    assert same_rate(1000.4, 1000.0)
    assert not same_rate(None, 1000.0)
    assert not same_rate(1000.0, 1002.0)
    assert same_lanes((Lane("A", 0.3), Lane("B", 0.7)), (Lane("B", 0.7), Lane("A", 0.1 + 0.2)))
    assert not same_lanes((Lane("A", 1.0),), (Lane("B", 1.0),))
    assert not same_lanes((Lane("A", 1.0), Lane("B", 0.0)), (Lane("A", 1.0),))
