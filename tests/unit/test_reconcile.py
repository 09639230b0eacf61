"""Reconciling a mapping: what is sent, what waits, what survives a crash, what is removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.reconcile_bench import DESTINATION, MAPPING, Bench

from agent.engines.memory import MemoryEngine
from agent.engines.port import TransferRequest
from agent.model.condition import Reason
from agent.model.observed import ObservedTransfer
from agent.model.outcome import UnreachableError
from agent.model.spec import Deletions, DestinationSpec, OnRemove, Overrun, RetryPolicy, Window
from agent.reconcile import survey
from agent.reconcile.service import AgentService
from agent.source.scan import Listing, scan_tree


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.agent.context.state.close()


def put(b: Bench, name: str, text: str = "x") -> None:
    path = b.source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_is_there_is_delivered_and_then_nothing_is_planned(b: Bench) -> None:
    """After delivery a whole survey finds nothing to do."""
    put(b, "a"), put(b, "dir/b"), (b.source / "empty").mkdir()
    b.converge()
    assert set(b.at_destination) == {"/a", "/dir/b", "/empty"}
    assert AgentService(b.agent).plan([])["empty"] is True
    assert b.transfers() == [], "finished transfers of ours are removed from the server"


def test_a_to_b_to_a_is_really_sent_again(b: Bench) -> None:
    """Identity is the attempt, not the content: going back to an old content is a new delivery."""
    put(b, "a", "first")
    b.converge()
    before = os.stat(b.source / "a")
    put(b, "a", "other")
    put(b, "a", "first")
    os.utime(b.source / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    b.touch("a")
    assert b.transfers() != []
    b.converge()


def test_a_change_while_in_flight_is_sent_after_it(b: Bench) -> None:
    """Two transfers never carry the same path at once, and the last version wins."""
    b.destination = replace(b.destination, send_rate_max=8.0)  # 1,000 bytes a second
    b.take()
    put(b, "a", "x" * 3000)
    b.settle()
    assert len(b.transfers()) == 1
    b.pass_time(0.5)
    put(b, "a", "y" * 100)
    b.touch("a")
    assert len(b.transfers()) == 1
    for _ in range(4):
        b.pass_time(1.0)
    b.converge()
    assert b.at_destination["/a"].size == 100
    assert b.agent.context.state.ledger.entry("m", "d", "/a").size == 100  # type: ignore[union-attr]


class LostAnswer(MemoryEngine):
    """The transfer is created, its answer never arrives."""

    lose_next = True

    def start_transfer(self, request: TransferRequest) -> ObservedTransfer:
        made = super().start_transfer(request)
        if self.lose_next:
            self.lose_next = False
            raise UnreachableError("the connection broke")
        return made


def test_lost_answer_is_adopted_not_doubled(tmp_path: Path) -> None:
    """An attempt whose creation was cut off is found by its tag after a crash."""
    b = Bench(tmp_path, LostAnswer())
    put(b, "a")
    b.settle()
    assert len(b.transfers()) == 1
    only = b.transfers()[0]
    b.crash()
    b.open()
    b.settle()
    assert b.transfers() == [only]
    b.converge()
    assert set(b.at_destination) == {"/a"}


class NothingCreated(MemoryEngine):
    fail_next = True

    def start_transfer(self, request: TransferRequest) -> ObservedTransfer:
        if self.fail_next:
            self.fail_next = False
            raise UnreachableError("the connection broke")
        return super().start_transfer(request)


def test_attempt_that_created_nothing_is_made_again(tmp_path: Path) -> None:
    """Nothing with its tag on the server: the attempt is closed and the files are planned again."""
    b = Bench(tmp_path, NothingCreated())
    put(b, "a")
    b.settle()
    b.pass_time(10.0)
    b.converge()
    assert set(b.at_destination) == {"/a"}


def test_transfer_that_the_server_lost_is_sent_again(b: Bench) -> None:
    """Lost is not delivered: the files are looked at again."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    put(b, "a", "x" * 3000)
    b.settle()
    b.engine.lose(b.transfers()[0])
    b.destination = replace(b.destination, send_rate_max=None)
    b.take()
    b.pass_time(1.0)
    b.look()
    b.converge()
    assert b.at_destination["/a"].size == 3000


def test_failed_files_are_retried_with_backoff_and_the_rest_is_delivered(b: Bench) -> None:
    """One unreadable file does not hold up the others; it is tried again and finally asks for a person."""
    b.change(retry=RetryPolicy(1.0, 4.0))
    put(b, "good"), put(b, "bad")
    b.settle()
    (b.source / "bad").unlink()
    (b.source / "bad").mkdir()  # not a regular file when its turn comes
    (b.source / "bad" / "in the way").write_text("x")
    b.pass_time(0.1)
    assert set(b.at_destination) == {"/good"}
    assert "Retrying" in b.reasons()
    assert "/bad" in b.status().detail["deliveries"][0]["lastError"]
    b.pass_time(5.0)
    b.converge()
    assert "/bad/in the way" in b.at_destination


def test_success_of_others_does_not_hide_a_failed_file(b: Bench) -> None:
    """In sync means every file: what failed stays a failure until it is delivered or gone."""
    b.change(retry=RetryPolicy(30.0, 30.0))
    put(b, "bad")
    b.settle()
    (b.source / "bad").unlink()
    (b.source / "bad").symlink_to("/dev/null")  # no regular file when its turn comes
    b.pass_time(0.1)
    assert "Retrying" in b.reasons()
    put(b, "good")
    b.touch("good")
    b.pass_time(0.1)
    assert "/good" in b.at_destination
    assert "Retrying" in b.reasons()
    assert not b.status().ready
    (b.source / "bad").unlink()
    put(b, "bad", "mended")
    b.pass_time(40.0)
    b.converge()
    assert "/bad" in b.at_destination


def test_deletion_waits_for_what_is_in_flight_on_its_path(b: Bench) -> None:
    """No late transfer brings a deleted file back."""
    b.change(prune=True)
    put(b, "keep"), put(b, "a", "old")
    b.converge()
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    put(b, "a", "x" * 3000)
    b.touch("a")
    (b.source / "a").unlink()
    b.touch("a")
    assert "/a" in b.at_destination
    b.destination = replace(b.destination, send_rate_max=None)
    b.take()
    for _ in range(3):
        b.pass_time(1.0)
    b.look()
    b.converge()
    assert set(b.at_destination) == {"/keep"}


def test_directory_that_goes_after_its_files_goes_at_the_destination_too(b: Bench) -> None:
    """A removal seen halfway (files gone, directories still there) ends with no directory left behind."""
    b.change(prune=True)
    put(b, "keep"), put(b, "gone/deeper/file")
    b.converge()
    (b.source / "gone/deeper/file").unlink()
    (b.source / "gone/deeper").rmdir()
    b.touch("gone/deeper/file")
    b.pass_time(0.1)
    (b.source / "gone").rmdir()
    b.touch("gone/deeper", "gone")
    b.converge()
    ledger = b.agent.context.state.ledger
    assert [path for path, _ in ledger.under("m", "d", "/")] == ["/keep"]
    asked = [path for _, deletion in b.engine.asked.values() for path in deletion.directories]
    assert asked == ["/gone/deeper", "/gone"]


def test_directory_that_changes_under_the_walk_deletes_nothing_below_it(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that failed in passing says nothing about the directories below it."""
    b.change(prune=True)
    put(b, "keep"), put(b, "d/sub/a"), put(b, "d/b")
    b.converge()

    def interrupted(*arguments: Any) -> Iterator[Listing]:
        for listing in scan_tree(*arguments):
            if listing.directory == "d":
                yield Listing("d", {}, error=FileNotFoundError(2, "changed while it was read"))
            elif listing.directory != "d/sub":
                yield listing

    monkeypatch.setattr(survey, "scan_tree", interrupted)
    b.look()
    monkeypatch.undo()
    b.pass_time(1.0)
    b.converge()
    assert b.engine.asked == {}
    assert set(b.at_destination) == {"/keep", "/d/sub/a", "/d/b"}


def test_too_many_deletions_are_held_as_a_whole_until_approved(b: Bench) -> None:
    """Checked before the first delete; additions proceed; approve lets through exactly what is held."""
    b.change(prune=True, deletions=Deletions(max_count=2))
    for name in "abcdef":
        put(b, name)
    b.converge()
    for name in "abc":
        (b.source / name).unlink()
    put(b, "new")
    b.look()
    b.pass_time(1.0)
    assert "DeletionsHeld" in b.reasons()
    assert set(b.at_destination) == {"/" + n for n in "abcdef"} | {"/new"}
    b.touch("d")
    assert "DeletionsHeld" in b.reasons(), "a later look elsewhere does not forget what is held"
    AgentService(b.agent).approve("Mapping/m", "somebody")
    b.settle()
    b.converge()
    assert set(b.at_destination) == {"/d", "/e", "/f", "/new"}


def test_deletions_piece_by_piece_meet_the_same_limit(b: Bench) -> None:
    """A large removal that is noticed file by file is still one."""
    b.change(prune=True, deletions=Deletions(max_count=2))
    for name in "abcdef":
        put(b, name)
    b.converge()
    for name in "abcd":
        (b.source / name).unlink()
        b.touch(name)
        b.pass_time(0.5)
    assert "DeletionsHeld" in b.reasons()
    assert len(b.at_destination) == 4
    AgentService(b.agent).approve("Mapping/m", "somebody")
    b.settle()
    b.converge()
    assert set(b.at_destination) == {"/e", "/f"}


def test_suspended_mapping_suspends_what_runs_and_goes_on_afterwards(b: Bench) -> None:
    """Suspend in the spec stops a running transfer; taking it back resumes the same one."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    put(b, "a", "x" * 2000)
    b.settle()
    only = b.transfers()
    b.change(suspend=True)
    b.settle()
    b.pass_time(10.0)
    assert "Suspended" in {str(c.type) for c in b.status().conditions}
    assert "/a" not in b.at_destination
    b.change(suspend=False)
    b.settle()
    assert b.transfers() == only
    b.pass_time(3.0)
    b.converge()


def test_suspension_for_a_while_ends_by_itself(b: Bench) -> None:
    """`suspend --for` is over at its time, not at the next interval."""
    b.converge()
    now = b.clock.time()
    b.agent.context.state.overrides.set(b.status().key, "", "somebody", now, now + 5.0)
    put(b, "a")
    b.look()
    assert "/a" not in b.at_destination
    b.pass_time(6.0)
    b.pass_time(0.5)
    assert "/a" in b.at_destination


@pytest.mark.parametrize("hinted", [True, False])
def test_directory_that_goes_while_it_is_in_flight_is_pruned_afterwards(b: Bench, hinted: bool) -> None:
    """Nothing of it is in the ledger yet when it goes, so what is on its way must be remembered."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    b.change(prune=True)
    put(b, "kept")
    b.converge()
    (b.source / "gone" / "below").mkdir(parents=True)
    put(b, "gone/a", "x" * 2000)
    put(b, "gone/below/b", "x" * 2000)
    b.touch("gone")
    shutil.rmtree(b.source / "gone")
    b.touch("gone") if hinted else b.look()
    for _ in range(20):
        b.pass_time(1.0)
    assert set(b.at_destination) == {"/kept"}
    assert b.status().ready


def test_new_address_starts_with_an_empty_ledger(b: Bench) -> None:
    """Another address is another place: everything is delivered there too."""
    put(b, "a")
    b.converge()
    b.destination = DestinationSpec("d", "elsewhere", 2, server="s")
    b.take()
    b.settle()
    b.pass_time(1.0)
    b.converge()
    assert set(b.at_destination) == {"/a"}


def test_stray_transfer_of_a_closed_attempt_is_removed(b: Bench) -> None:
    """What a lost answer left on the server is swept up at the next look at the destination."""
    put(b, "a")
    b.converge()
    tag = replace(b.agent.context.tag(b.status().key), attempt=999)
    state = b.engine.observe(b.agent.context.state.agent_id)
    request = TransferRequest(
        state.destinations[0].id, (), "Normal", 100, None, b.destination.transfer_defaults.overwrite,
        True, 30.0, 0.0, 0.0, tag,
    )  # fmt: skip
    b.engine.start_transfer(request)
    b.agent.context.queue.add(DESTINATION)
    b.settle()
    assert b.transfers() == []


@pytest.mark.parametrize("on_remove", list(OnRemove))
def test_mapping_that_left_is_handled_as_on_remove_says(b: Bench, on_remove: OnRemove) -> None:
    """Orphan and cancel leave the files, delete takes them back; then the mapping is forgotten."""
    b.change(on_remove=on_remove)
    put(b, "a")
    b.converge()
    b.mapping = None  # type: ignore[assignment]
    b.agent._take(b.agent.context.desired, b.desired())
    b.settle()
    b.pass_time(1.0)
    b.pass_time(31.0)
    assert set(b.at_destination) == (set() if on_remove is OnRemove.DELETE else {"/a"})
    assert b.agent.context.board.get(MAPPING) is None


def test_transfer_that_the_spec_wants_no_more_is_cancelled(b: Bench) -> None:
    """A new destination path, or a filter, ends what is on its way to the old one."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    put(b, "a", "x" * 5000)
    b.settle()
    before = b.transfers()
    b.change(destination_path="/elsewhere")
    b.settle()
    assert list(b.engine.cancelled) == before
    b.destination = replace(b.destination, send_rate_max=None)
    b.take()
    b.pass_time(1.0)
    b.converge()
    assert set(b.at_destination) == {"/elsewhere/a"}


def test_renamed_mapping_hands_over_what_it_delivered(b: Bench) -> None:
    """A new name for the same sources, paths and destination sends nothing again and deletes nothing."""
    b.change(on_remove=OnRemove.DELETE)
    put(b, "a")
    b.converge()
    old, b.mapping = b.mapping, None  # type: ignore[assignment]
    desired = b.desired()
    desired.mappings["renamed"] = replace(old, name="renamed")
    b.agent._take(b.agent.context.desired, desired)
    b.settle()
    assert b.transfers() == []
    b.pass_time(40.0)
    assert set(b.at_destination) == {"/a"}


def test_unreachable_server_makes_it_wait_and_heals(b: Bench) -> None:
    """A server that does not answer is a retry, never a person's problem."""
    put(b, "a")
    b.engine.reachable = False
    b.settle()
    assert not b.status().ready
    b.engine.reachable = True
    b.pass_time(60.0)
    b.converge()


# Windows. The virtual clock begins on Monday, 12 January 1970, at 13:46:40 UTC.


def windowed(b: Bench, **fields: Any) -> None:
    b.destination = replace(b.destination, windows=(Window((0, 1, 2, 3, 4, 5, 6), **fields),))
    b.take()


def test_a_windows_rate_holds_while_it_is_open(b: Bench) -> None:
    """The limit comes at its minute and goes at its minute, without a look at the clock in between."""
    windowed(b, start=13 * 60 + 47, end=13 * 60 + 48, send_rate_max=64.0)
    b.settle()
    assert b.rate() is None
    b.pass_time(20.0)
    assert b.rate() == 64.0
    b.pass_time(60.0)
    assert b.rate() is None


def test_a_pause_suspends_what_runs_and_it_goes_on_by_itself(b: Bench) -> None:
    """The same transfer is resumed when the window is over."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    windowed(b, start=13 * 60 + 47, end=13 * 60 + 48, pause=True)
    put(b, "a", "x" * 25_000)
    b.settle()
    only = b.transfers()
    b.pass_time(20.0)
    assert [c.reason for c in b.status().conditions if str(c.type) == "Suspended"] == [Reason.OUTSIDE_WINDOW]
    b.pass_time(30.0)
    assert "/a" not in b.at_destination
    b.pass_time(31.0)
    assert b.transfers() == only
    b.pass_time(10.0)
    b.converge()
    assert "/a" in b.at_destination


def test_a_pause_may_let_transfers_finish_but_starts_none(b: Bench) -> None:
    """`overrun: finish`: what runs arrives, what is new waits."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    windowed(b, start=13 * 60 + 47, end=13 * 60 + 50, pause=True, overrun=Overrun.FINISH)
    put(b, "a", "x" * 25_000)
    b.settle()
    b.pass_time(21.0)
    put(b, "b")
    b.look()
    b.pass_time(10.0)
    assert "/a" in b.at_destination
    b.pass_time(60.0)
    assert "/b" not in b.at_destination
    b.pass_time(120.0)
    b.converge()
    assert "/b" in b.at_destination
