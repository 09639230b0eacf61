"""Files whose delivery nobody heard of, and whose sources are gone: found again and owned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.engines.memory import MemoryEngine
from agent.model.known import Origin
from agent.model.observed import Capabilities, FileOutcome, FileResult
from agent.model.spec import Deletions, Overwrite
from agent.reconcile.uncertain import SETTLED_SECONDS

MTIME = 900_000 * 10**9 + 123_456_000


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.change(prune=True, deletions=Deletions(max_count=1000, max_percent=1.0))
    (bench.source / "stays").write_bytes(b"so that the source is not empty")
    bench.settle()
    bench.pass_time(0.5)
    bench.converge()
    yield bench
    bench.agent.context.state.close()


def write(b: Bench, name: str) -> Path:
    path = b.source / name
    path.write_bytes(bytes(1000))
    os.utime(path, ns=(0, MTIME))
    return path


def publish_unheard(b: Bench, name: str = "a") -> Path:
    """Something brings the file to the destination, and all that knew of it forgets."""
    path = write(b, name)
    b.touch(name)
    (transfer,) = b.transfers()
    tell, b.engine._changed = b.engine._changed, lambda *_: None
    b.engine.advance(1.0)
    b.engine._changed = tell
    assert f"/{name}" in b.at_destination
    b.engine.lose(transfer)
    return path


def replace_there(b: Bench, path: str, size: int, mtime_ns: int) -> None:
    (tree,) = b.engine._trees.values()
    tree[path] = FileResult(path, FileOutcome.DELIVERED, size, mtime_ns)


def go_on(b: Bench) -> None:
    b.look()
    for _ in range(6):
        b.pass_time(0.5)
    b.converge()
    b.pass_time(SETTLED_SECONDS + 1.0)
    b.converge()


def left(b: Bench) -> int:
    return b.agent.context.state.uncertain.count("m", "d")


def test_a_file_that_was_published_unheard_is_pruned_when_its_source_is_gone(b: Bench) -> None:
    publish_unheard(b).unlink()
    go_on(b)
    assert set(b.at_destination) == {"/stays"}
    assert left(b) == 0


def test_a_file_that_was_published_unheard_and_renamed_has_one_name_in_the_end(b: Bench) -> None:
    path = publish_unheard(b)
    path.rename(path.with_name("other"))
    go_on(b)
    assert set(b.at_destination) == {"/stays", "/other"}


def test_a_file_that_was_edited_before_it_was_read_and_renamed_has_one_name_in_the_end(b: Bench) -> None:
    """What is there has the version of the other name, not the one that was planned."""
    path = publish_unheard(b)
    path.write_bytes(bytes(2000))
    os.utime(path, ns=(0, MTIME + 7_000_000))
    path.rename(path.with_name("other"))
    replace_there(b, "/a", 2000, MTIME + 7_000_000)
    go_on(b)
    assert set(b.at_destination) == {"/stays", "/other"}
    assert left(b) == 0


def test_it_is_remembered_over_a_crash_of_the_agent(b: Bench) -> None:
    publish_unheard(b).unlink()
    b.crash()
    b.open()
    go_on(b)
    assert set(b.at_destination) == {"/stays"}


def test_a_file_whose_resumed_transfer_finds_no_source_is_pruned(b: Bench) -> None:
    path = write(b, "a")
    b.touch("a")
    info = path.stat()
    path.unlink()
    replace_there(b, "/a", info.st_size, info.st_mtime_ns)  # published before the receiver died
    go_on(b)
    assert set(b.at_destination) == {"/stays"}


def test_mappings_that_do_not_prune_own_the_file_and_leave_it(b: Bench) -> None:
    b.change(prune=False)
    publish_unheard(b).unlink()
    go_on(b)
    row = b.agent.context.state.ledger.row("m", "d", "/a")
    assert row is not None
    assert row.origin is Origin.ADOPTED
    assert set(b.at_destination) == {"/stays", "/a"}


@pytest.mark.parametrize(("size", "mtime_ns"), [(1000, MTIME + 1_500), (999, MTIME)])
def test_another_file_at_that_path_is_foreign_and_stays(b: Bench, size: int, mtime_ns: int) -> None:
    publish_unheard(b).unlink()
    replace_there(b, "/a", size, mtime_ns)
    go_on(b)
    assert set(b.at_destination) == {"/stays", "/a"}
    assert b.agent.context.state.ledger.row("m", "d", "/a") is None
    assert left(b) == 0


@pytest.mark.parametrize(
    "fields", [{"preserve_mtime": False}, {"overwrite": Overwrite.NEVER}, {"overwrite": Overwrite.NEWER}]
)
def test_where_it_may_be_somebody_elses_it_stays(b: Bench, fields: dict[str, object]) -> None:
    """Without times nothing tells it from another one; these overwrite modes leave what was there before."""
    b.change(**fields)
    b.converge()
    publish_unheard(b).unlink()
    go_on(b)
    assert set(b.at_destination) == {"/stays", "/a"}
    assert b.agent.context.state.ledger.row("m", "d", "/a") is None


def test_what_is_published_only_after_the_first_look_is_found_by_the_last_one(b: Bench) -> None:
    path = write(b, "a")
    b.touch("a")
    info = path.stat()
    path.unlink()
    b.look()
    b.pass_time(0.5)
    b.converge()
    replace_there(b, "/a", info.st_size, info.st_mtime_ns)
    b.pass_time(SETTLED_SECONDS + 1.0)
    b.converge()
    b.pass_time(1.0)
    assert set(b.at_destination) == {"/stays"}
    assert left(b) == 0


def test_a_source_that_is_still_there_is_sent_again_and_nothing_is_asked(b: Bench) -> None:
    publish_unheard(b)
    asked = len(b.engine.listings)
    go_on(b)
    assert set(b.at_destination) == {"/stays", "/a"}
    assert len(b.engine.listings) == asked
    assert left(b) == 0


class Blind(MemoryEngine):
    def connect(self) -> Capabilities:
        return replace(super().connect(), inventory=False)


def test_a_server_that_cannot_tell_what_is_there_is_not_asked(tmp_path: Path) -> None:
    b = Bench(tmp_path, Blind())
    b.change(prune=True)
    (b.source / "stays").write_bytes(b"-")
    b.settle()
    b.pass_time(0.5)
    b.converge()
    publish_unheard(b).unlink()
    go_on(b)
    assert b.engine.listings == []
    assert set(b.at_destination) == {"/stays", "/a"}
    b.agent.context.state.close()


def test_more_than_the_bound_is_not_remembered(b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.state.uncertain.MOST", 2)
    for name in ("a", "b", "c"):
        write(b, name)
    b.look()
    (transfer,) = b.transfers()
    b.engine.lose(transfer)
    for name in ("a", "b", "c"):
        (b.source / name).unlink()
    b.look()
    assert left(b) == 2
    go_on(b)
    assert left(b) == 0
