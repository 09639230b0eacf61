"""A plan of many changes: made of parts, so that memory does not grow with them, and the same as in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.model.change import NameProblem, NameTrouble
from agent.model.plan import DeletePaths, Plan, RenamePaths, StartTransfer
from agent.model.spec import Deletions
from agent.planning.describe import plan_document
from agent.planning.fold import Fold
from agent.reconcile import preview as previews
from agent.reconcile.preview import plan_digest, preview


@pytest.fixture
def b(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def put(b: Bench, path: str, content: str = "content") -> None:
    file = b.source / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def plan(b: Bench, monkeypatch: pytest.MonkeyPatch, part: int) -> Plan:
    monkeypatch.setattr(previews, "PART", part)
    return preview(b.agent.context, b.desired())


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many changes each part had."""
    found: list[int] = []
    add = Fold.add

    def counted(fold: Fold, part: Plan, *, last: bool) -> None:
        found.append(sum(len(a.changes) for a in part.actions if isinstance(a, StartTransfer)))
        add(fold, part, last=last)

    monkeypatch.setattr(Fold, "add", counted)
    return found


def test_what_is_sent_is_the_same_in_parts_and_in_one(
    b: Bench, monkeypatch: pytest.MonkeyPatch, parts: list[int]
) -> None:
    for directory in range(10):
        for file in range(7):
            put(b, f"d{directory}/f{file}", "x" * file)
    whole = plan(b, monkeypatch, 1_000)
    del parts[:]
    pieces = plan(b, monkeypatch, 10)
    assert max(parts) <= 16 and sum(parts) == 70
    assert plan_document(pieces) == plan_document(whole)
    assert plan_digest(pieces) == plan_digest(whole)
    (start,) = (action for action in pieces.actions if isinstance(action, StartTransfer))
    assert (start.paths, start.created, start.total_bytes, len(start.changes)) == (70, 70, 210, 5)


def test_deletions_and_renames_are_told_once_and_not_as_both(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    b.change(prune=True, deletions=Deletions(max_count=1_000, max_percent=1.0))
    for directory in range(10):
        for file in range(7):
            put(b, f"d{directory}/f{file}", f"{directory} {file}")
    b.converge()
    for directory in range(10):
        put(b, f"d{directory}/f0", "changed")
        (b.source / f"d{directory}/f1").rename(b.source / f"d{directory}/renamed")
        (b.source / f"d{directory}/f2").unlink()
        put(b, f"d{directory}/new")
    whole, pieces = plan(b, monkeypatch, 1_000), plan(b, monkeypatch, 5)
    for found in (whole, pieces):
        renamed = [r.old for a in found.actions if isinstance(a, RenamePaths) for r in a.renames]
        deleted = [path for a in found.actions if isinstance(a, DeletePaths) for path in a.files]
        assert sorted(renamed) == [f"/d{n}/f1" for n in range(10)]
        assert sorted(deleted) == [f"/d{n}/f2" for n in range(10)]
        starts = [a for a in found.actions if isinstance(a, StartTransfer)]
        assert [(a.paths, a.created) for a in starts] == [(20, 10)]


def test_a_destination_that_has_everything_does_not_hold_up_one_that_has_nothing(
    b: Bench, monkeypatch: pytest.MonkeyPatch, parts: list[int]
) -> None:
    for directory in range(10):
        for file in range(7):
            put(b, f"d{directory}/f{file}")
    b.converge()
    del parts[:]
    desired = b.desired()
    desired.destinations["e"] = replace(b.destination, name="e")
    desired.mappings["m"] = replace(b.mapping, destinations=("d", "e"))
    monkeypatch.setattr(previews, "PART", 10)
    starts = [a for a in preview(b.agent.context, desired).actions if isinstance(a, StartTransfer)]
    assert [(a.destination, a.paths) for a in starts] == [("e", 70)]
    assert max(parts) <= 16


def test_names_that_cannot_be_are_told_of_every_part() -> None:
    problems = [NameProblem(NameTrouble.NOT_POSSIBLE, f"/{n}", left_out=True) for n in range(3)]
    fold = Fold(5)
    fold.add(Plan(names=(problems[0],), waiting=("/w",)), last=False)
    fold.add(Plan(names=(problems[0], problems[1])), last=False)
    fold.add(Plan(names=(problems[2],)), last=True)
    assert fold.plan() == Plan(names=tuple(problems), waiting=("/w",))
