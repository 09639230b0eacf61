"""A new revision: what it adds, changes and removes, and when it is held."""

from __future__ import annotations

from agent.model.spec import DesiredState, DestinationSpec, Key, Kind, MappingSpec, PathMapping, ServerSpec
from agent.reconcile.revision import difference, held


def state(revision: str, *mappings: str, port: int = 1) -> DesiredState:
    return DesiredState(
        revision,
        servers={"embedded": ServerSpec("embedded")},
        destinations={"archive": DestinationSpec("archive", "127.0.0.1", port)},
        mappings={m: MappingSpec(m, ("archive",), (PathMapping("/" + m, "/src/" + m),)) for m in mappings},
    )


def mapping(name: str) -> Key:
    return Key(Kind.MAPPING, name)


def test_added_changed_and_removed_objects_are_told_apart() -> None:
    """Only what differs is reconciled because of a revision."""
    found = difference(state("1", "a", "b"), state("2", "b", "c", port=2))
    assert found.added == (mapping("c"),)
    assert found.changed == (Key(Kind.DESTINATION, "archive"),)
    assert found.removed == (mapping("a"),)


def test_an_emptied_set_is_held() -> None:
    """A revision that removes everything does not take effect by itself."""
    assert "removes all" in held(state("1", "a", "b"), DesiredState("2"))


def test_losing_most_of_many_is_held_and_losing_one_is_not() -> None:
    """More than half of a larger set gone at once looks like an accident."""
    before = state("1", *"abcdef")
    assert "removes 5 of 7" in held(before, state("2", "a"))
    assert held(before, state("2", *"abcde")) == ""
    assert held(DesiredState("0"), before) == ""
