"""What is said while the agent works: in sync only when every object was looked at under this revision,
however the looks and the question fall together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.reconcile_bench import MAPPING, Bench

from agent.model.outcome import Outcome
from agent.model.spec import DesiredState, PathMapping
from agent.reconcile.agent import Agent
from agent.reconcile.measures import measure
from agent.reconcile.queue import Hints
from agent.reconcile.report import Report
from agent.reconcile.status import State

IN_SYNC: dict[str, Callable[[Agent], bool]] = {
    "overall": lambda agent: agent.overall().state is State.IN_SYNC,
    "status": lambda agent: bool(agent.status()["state"] == State.IN_SYNC),
    "metrics": lambda agent: measure(agent).in_sync,
}


class Revised(Bench):
    revision = "r1"

    def desired(self) -> DesiredState:
        return replace(super().desired(), revision=self.revision)

    def edit(self, revision: str, source: Path) -> None:
        self.revision = revision
        self.change(paths=(PathMapping("/", str(source)),))


@pytest.fixture
def bench(tmp_path: Path) -> Revised:
    return Revised(tmp_path)


@pytest.mark.parametrize("question", IN_SYNC)
@pytest.mark.parametrize("read", ["first_unseen", "notable", "all"])
def test_a_first_look_between_two_reads_is_not_taken_for_in_sync(
    bench: Revised, monkeypatch: pytest.MonkeyPatch, question: str, read: str
) -> None:
    """`apply` ended with 0 while a file was on its way."""
    (bench.source / "f").write_text("1")
    board = bench.agent.context.board
    reads = getattr(board, read)

    def read_and_work(*args: Any) -> Any:
        found = reads(*args)
        bench.settle()
        return found

    monkeypatch.setattr(board, read, read_and_work)
    assert not IN_SYNC[question](bench.agent)
    monkeypatch.undo()
    bench.converge()
    assert IN_SYNC[question](bench.agent)


@pytest.mark.parametrize("question", IN_SYNC)
def test_in_sync_with_the_revision_before_is_not_in_sync(bench: Revised, question: str) -> None:
    """From when an edit is taken in; what it leaves alone need not be looked at again."""
    bench.converge()
    (bench.directory / "other").mkdir()
    bench.edit("r2", bench.directory / "other")
    assert not IN_SYNC[question](bench.agent)
    bench.converge()
    assert IN_SYNC[question](bench.agent)
    bench.revision = "r3"
    bench.change()
    assert IN_SYNC[question](bench.agent)


@pytest.mark.parametrize("question", IN_SYNC)
def test_what_is_to_be_removed_is_not_in_sync(bench: Revised, question: str) -> None:
    """Before its removal has begun, and until it is done."""
    bench.converge()
    bench.mapping, bench.revision = None, "r2"  # type: ignore[assignment]
    bench.agent._take(bench.agent.context.desired, bench.desired())
    assert not IN_SYNC[question](bench.agent)
    bench.settle()
    assert IN_SYNC[question](bench.agent)


@pytest.mark.parametrize("question", IN_SYNC)
def test_a_look_that_an_edit_overtook_says_nothing_of_the_new_revision(
    bench: Revised, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    """It ends as a look under the revision it began with, and another one follows."""
    bench.converge()
    (bench.directory / "other").mkdir()
    (bench.directory / "other" / "f").write_text("1")
    reconcile = bench.agent.mappings.reconcile

    def overtaken(name: str, hints: Hints, report: Report) -> Outcome:
        found = reconcile(name, hints, report)
        bench.edit("r2", bench.directory / "other")
        return found

    with monkeypatch.context() as once:
        once.setattr(type(bench.agent.mappings), "reconcile", lambda _self, *args: overtaken(*args))
        bench.agent.loop.run(MAPPING, Hints())
    assert bench.status().revision == "r1"
    assert not IN_SYNC[question](bench.agent)
    bench.converge()
    assert IN_SYNC[question](bench.agent)
    assert set(bench.at_destination) == {"/f"}
