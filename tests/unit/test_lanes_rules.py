"""The rules of priority lanes, as the JetStream API documents them."""

from __future__ import annotations

import pytest

from agent.lanes import LaneScheduler, validate_lanes


@pytest.mark.parametrize(
    ("lanes", "words"),
    [
        ([], "at least one lane"),
        ([("", 1.0)], "blank"),
        ([("  ", 1.0)], "blank"),
        ([("A", 0.5), ("A", 0.5)], "'A' is there more than once"),
        ([("A", 0.5), ("B", 0.4)], "add up to 90%"),
        ([("A", 0.5), ("B", 0.500_01)], "add up to 100"),
        ([("A", 1.0), ("B", 0.0), ("C", 0.0)], "these have: 'B', 'C'"),
        ([("A", 1.5), ("B", -0.5)], "'B' must not be negative"),
        ([("A", float("nan"))], "'A' must be a number"),
        ([("A", True)], "'A' must be a number"),
        ([("A", "1.0")], "'A' must be a number"),
    ],
)
def test_each_broken_rule_is_named(lanes: list[tuple[str, float]], words: str) -> None:
    """A set of lanes that breaks a rule is refused with a sentence that names the rule and the lane."""
    errors = validate_lanes(lanes)
    assert len(errors) == 1
    assert words in errors[0]
    with pytest.raises(ValueError, match="lane"):
        LaneScheduler(lanes)


def test_all_broken_rules_are_named_at_once() -> None:
    """Nobody has to fix one rule to learn of the next."""
    assert len(validate_lanes([("", 0.0), ("A", 0.0), ("A", 0.3)])) == 4


THIRDS = [("a", 1 / 3), ("b", 1 / 3), ("c", 1 / 3)]


@pytest.mark.parametrize("lanes", [[("Only", 1.0)], [("High", 0.95), ("Low", 0.05), ("Idle", 0)], THIRDS])
def test_valid_lanes_pass(lanes: list[tuple[str, float]]) -> None:
    """Thirds add up to one although no float says so exactly."""
    assert validate_lanes(lanes) == []
