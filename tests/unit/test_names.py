"""Names that a destination cannot hold, or cannot tell apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.reconcile_bench import Bench
from unit.test_renames import put

from agent.engines.memory import MemoryEngine
from agent.engines.memory_far import Deleting, Renaming
from agent.model.change import Change, ChangeKind, ChangeSet, FileKind, FileStat
from agent.model.observed import Capabilities
from agent.model.spec import Deletions
from agent.planning.names import collisions, fold, holdable, not_possible
from agent.reconcile.service import AgentService

STAT = FileStat(FileKind.FILE, 1, 1, 1, 1, False)


class Insensitive(MemoryEngine):
    def connect(self) -> Capabilities:
        return replace(super().connect(), case_sensitive=False)


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.agent.context.state.close()


@pytest.fixture
def insensitive(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, Insensitive())
    bench.change(prune=True, deletions=Deletions(max_count=100, max_percent=1.0))
    yield bench
    bench.agent.context.state.close()


def settle(b: Bench) -> None:
    for _ in range(5):
        b.pass_time(0.5)


@given(st.text(max_size=20))
def test_case_and_unicode_form_do_not_count_in_a_folded_name(name: str) -> None:
    """One fold for all spellings of a name, of any script."""
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, name)) == fold(name)
    assert fold(fold(name)) == fold(name)


@given(st.lists(st.sampled_from(["a", "A", "b", "ä", "a\u0308", "Ä", "c\udcff"]), unique=True))
def test_every_name_that_is_like_another_is_named(names: list[str]) -> None:
    """And no other."""
    found = {path for problem in collisions("/d", names) for path in (problem.path, problem.other)}
    alike = {name for name in names if sum(fold(name) == fold(other) for other in names) > 1}
    assert found == {f"/d/{name}" for name in alike}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/a/b", ""),
        ("/" + "n" * 255, ""),
        ("/" + "n" * 256, "255 bytes"),
        ("/" + "ä" * 128, "255 bytes"),
        ("/" + "/".join(["n" * 200] * 21), "4095 bytes"),
        ("/.lanesync", "destination's own"),
        ("/.lanesync-trash/x", "destination's own"),
        ("/a/.lanesync-notes", ""),
        ("/.lanesynced", ""),
        ("/a\tb", "control characters"),
    ],
)
def test_what_a_destination_cannot_hold_is_known_before_it_is_sent(path: str, why: str) -> None:
    """With the reason; what it can hold is not touched."""
    can = Capabilities(control_characters=False)
    assert (why in not_possible(path, can)) if why else not not_possible(path, can)
    changes = ChangeSet((Change(ChangeKind.CREATED, path, "/src", STAT),))
    assert len(holdable(changes, can).changes) == (0 if why else 1)
    assert not not_possible("/a\tb", Capabilities())


def test_collisions_are_told_where_both_can_be(b: Bench) -> None:
    """A case-sensitive destination gets both files; a person is told which names are alike, after a restart
    too."""
    put(b, "d/Reel.mov"), put(b, "d/reel.mov"), put(b, "d/other")
    b.converge()
    assert set(b.at_destination) == {"/d/Reel.mov", "/d/reel.mov", "/d/other"}
    for _ in range(2):
        (told,) = [c for c in b.status().conditions if str(c.reason) == "NameCollision"]
        assert "/d/Reel.mov and /d/reel.mov differ only in case" in told.message
        assert b.status().ready
        b.crash()
        b.open()
        b.converge()
    (b.source / "d/Reel.mov").unlink()
    b.look(), b.converge()
    assert "NameCollision" not in b.reasons()


def test_neither_of_two_names_is_guessed_where_they_are_one(insensitive: Bench) -> None:
    """Both are left out and named; the rest goes on; when one is renamed, both arrive."""
    b = insensitive
    put(b, "Reel.mov", "one"), put(b, "reel.mov", "other"), put(b, "free")
    put(b, "Dir/a"), put(b, "dir/b")
    b.settle(), settle(b)
    assert set(b.at_destination) == {"/free"}
    assert not b.status().ready
    assert "NameCollision" in b.reasons()
    plan = AgentService(b.agent).plan([])
    assert "! name    /Dir and /dir differ only in case: left out" in plan["lines"]
    (b.source / "reel.mov").rename(b.source / "reel2.mov")
    (b.source / "dir").rename(b.source / "dir2")
    b.look(), settle(b), b.converge()
    assert set(b.at_destination) == {"/free", "/Reel.mov", "/reel2.mov", "/Dir/a", "/dir2/b"}


def test_a_single_new_file_that_collides_is_seen_at_once(insensitive: Bench) -> None:
    """Also when only it was looked at: it does not overwrite the one that is there."""
    b = insensitive
    put(b, "d/reel.mov", "one")
    b.converge()
    put(b, "d/REEL.mov", "other")
    b.touch("d/REEL.mov"), settle(b)
    assert b.at_destination["/d/reel.mov"].size == 3
    assert "/d/REEL.mov" not in b.at_destination
    assert "NameCollision" in b.reasons()


def test_a_name_that_changes_its_case_is_deleted_before_it_is_sent(insensitive: Bench) -> None:
    """The other way round the deletion would take what was just sent; a rename would find itself there."""
    b = insensitive
    put(b, "reel.mov")
    b.converge()
    (b.source / "reel.mov").rename(b.source / "REEL.mov")
    b.look()
    assert [type(request) for _, request in b.engine.asked.values()] == [Deleting]
    assert b.transfers() == []
    settle(b), b.converge()
    assert set(b.at_destination) == {"/REEL.mov"}
    assert not [r for _, r in b.engine.asked.values() if isinstance(r, Renaming)]


def test_a_name_that_is_not_possible_is_left_out_and_the_rest_goes_on(b: Bench) -> None:
    """Not in sync, with the name in the condition; nothing is tried again and again."""
    long = "/".join(["n" * 200] * 20)
    b.change(destination_path="/" + long)
    put(b, "n" * 200, "too long there"), put(b, "short")
    b.settle(), settle(b)
    assert set(b.at_destination) == {f"/{long}/short"}
    assert "NameNotPossible" in b.reasons()
    assert b.transfers() == []
