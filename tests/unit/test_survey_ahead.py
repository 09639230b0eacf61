"""A look at a large source that two processes share finds what one alone would find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.reconcile_bench import Bench

from agent.reconcile import survey
from agent.source.scan import Listing, scan_tree

DIRECTORIES = [f"d{number:02}" for number in range(12)]


@pytest.fixture
def b(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A dozen directories, delivered and looked at; a dozen files are many."""
    monkeypatch.setattr(survey, "LARGE", len(DIRECTORIES))
    monkeypatch.setattr(survey.os, "sched_getaffinity", lambda _process: {0, 1})
    bench = Bench(tmp_path)
    bench.change(prune=True)
    for name in DIRECTORIES:
        (bench.source / name / "sub").mkdir(parents=True)
        (bench.source / name / "sub" / "file").write_text(name)
    bench.converge()
    bench.look()
    yield bench
    bench.agent.context.state.close()


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The directories that a look did not read itself."""
    found: set[str] = set()

    def noted(*arguments: Any) -> Iterator[Listing]:
        for listing in scan_tree(*arguments):
            if listing.unread is not None:
                found.add(listing.directory)
            yield listing

    monkeypatch.setattr(survey, "scan_tree", noted)
    return found


def test_nothing_changed_and_half_of_it_was_not_read(b: Bench, unread: set[str]) -> None:
    asked = len(b.engine.asked)
    b.look()
    assert {"d01/sub", "d11/sub"} <= unread
    assert "d00/sub" not in unread
    assert len(b.engine.asked) == asked
    assert b.status().ready


def test_every_change_is_found(b: Bench, unread: set[str]) -> None:
    """Rewritten, new, and gone, on both sides of the share."""
    for name in ("d00", "d01", "d02", "d03"):
        (b.source / name / "sub" / "file").write_text(f"other {name}")
    for name in ("d04", "d05"):
        (b.source / name / "sub" / "new").write_text("new")
    for name in ("d06", "d07"):
        (b.source / name / "sub" / "file").unlink(), (b.source / name / "sub").rmdir()
    b.look()
    b.pass_time(60.0)
    b.converge()
    wanted = {f"/{name}/sub/file" for name in DIRECTORIES if name not in ("d06", "d07")}
    assert unread
    assert {path for path in b.at_destination if path.endswith(("file", "new"))} == {
        *wanted,
        "/d04/sub/new",
        "/d05/sub/new",
    }


def test_one_processor_has_no_helper(b: Bench, unread: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey.os, "sched_getaffinity", lambda _process: {0})
    b.look()
    assert unread == set()
