"""What every engine promises, asked of each one: in memory, JetStream with real servers, once by this
project's client and once by a module that shows the documented surface alone, and FTS3 with a service and
storages in processes of their own."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from grid import Grid, start_grid
from servers import Server, eventually, start_server

from agent.engines.jetstream import JetstreamEngine
from agent.engines.jetstream_control import through
from agent.engines.jetstream_vendor import vendor_api
from agent.engines.memory import MemoryEngine
from agent.engines.port import DestinationRequest, Engine, Entry, InventoryState, TransferRequest
from agent.model.change import FileKind
from agent.model.observed import (
    FarFile,
    FileOutcome,
    FileResult,
    ObservedDestination,
    ObservedTransfer,
    Tag,
    TransferState,
)
from agent.model.outcome import NotFoundError, PermanentError, RetryableError
from agent.model.spec import DEFAULT_LANES, Lane, Overwrite, TransferDefaults

T = TypeVar("T")
_agents = itertools.count(1)


@dataclass
class Rig:
    """An engine with a receiver, and an agent of its own for each test."""

    engine: Engine
    address: str
    port: int
    absent: tuple[str, int]  # where no receiver listens
    source: Path
    received: Callable[[str], dict[str, FileResult] | dict[str, int]]
    advance: Callable[[], None]
    documented: bool = False  # what the documents do not promise cannot be observed
    pace: Callable[[float | None], None] = lambda _rate: None  # kbit/s, for an engine without rates
    agent: str = field(default_factory=lambda: f"agent-{next(_agents)}")

    def wait(self, look: Callable[[], T], what: str = "") -> T:
        def step() -> T:
            self.advance()
            return look()

        return eventually(step, what=what)

    def tag(self, **fields: Any) -> Tag:
        return replace(Tag(self.agent, "Mapping/m", "digest:1", "d1", 1, "c1"), **fields)

    def destination(self, *, present: bool = True, rate: float | None = None) -> str:
        place = (self.address, self.port) if present else self.absent
        self.pace(rate)
        return self.engine.create_destination(
            DestinationRequest(*place, rate, self.tag(spec="Destination/d", attempt=0))
        )

    def observed(self, destination_id: str) -> ObservedDestination:
        return next(d for d in self.engine.observe(self.agent).destinations if d.id == destination_id)

    def file(self, name: str, content: bytes = b"content") -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def entry(self, path: Path, **fields: Any) -> Entry:
        """The file at its place below a folder of this test at the destination."""
        size = path.stat().st_size if path.is_file() else 0
        name = str(path.relative_to(self.source))
        return replace(Entry(f"/{self.agent}/{name}", str(path), size, path.is_dir(), False), **fields)

    def start(self, destination_id: str, *entries: Entry, **fields: Any) -> ObservedTransfer:
        request = TransferRequest(
            destination_id, entries, "Normal", 100, None, Overwrite.ALWAYS, True, 30.0, 0.0, 0.0, self.tag()
        )
        return self.engine.start_transfer(replace(request, **fields))

    def finish(self, transfer: ObservedTransfer) -> ObservedTransfer:
        return self.wait(lambda: _if_finished(self.engine.transfer(transfer.id)), "the transfer ends")

    def results(self, transfer: ObservedTransfer) -> dict[str, FileResult]:
        found: dict[str, FileResult] = {}
        after = 0
        while True:
            page, after = self.engine.results(transfer.id, after)
            if not page:
                return found
            for result in page:
                assert result.path not in found, "each file has one result"
                found[result.path] = result

    def delete(self, destination_id: str, files: list[str], directories: list[str]) -> dict[str, FileResult]:
        deletion = self.engine.start_deletion(destination_id, tuple(files), tuple(directories))
        done = self.wait(lambda: (d := self.engine.deletion(deletion)).done and d, "the deletion ends")
        assert done.error == ""
        return {result.path: result for result in done.results}

    def rename(self, destination_id: str, *renames: tuple[str, str]) -> dict[str, FileResult]:
        renaming = self.engine.start_renaming(destination_id, renames)
        done = self.wait(lambda: (r := self.engine.renaming(renaming)).done and r, "the renaming ends")
        assert done.error == ""
        assert [result.path for result in done.results] == [new for _, new in renames]
        return {result.path: result for result in done.results}

    def page(self, destination_id: str, directory: str, after: str = "", **asked: bool) -> InventoryState:
        inventory = self.engine.start_inventory(destination_id, directory, after, **asked)
        return self.wait(lambda: (i := self.engine.inventory(inventory)).done and i, "the page is there")

    def inventory(self, destination_id: str, directory: str, **asked: bool) -> list[FarFile]:
        found: list[FarFile] = []
        after: str | None = ""
        while after is not None:
            page = self.page(destination_id, directory, after, **asked)
            assert page.error == ""
            found += page.files
            after = page.next
        return found


def _if_finished(transfer: ObservedTransfer) -> ObservedTransfer | None:
    return transfer if transfer.state.finished else None


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("servers")
    with start_server(folder / "sender") as sender, start_server(folder / "receiver") as receiver:
        yield sender, receiver


def _memory(tmp_path: Path) -> Iterator[Rig]:
    engine = MemoryEngine()
    absent = ("127.0.0.1", 2)
    engine.absent.add(absent)
    yield Rig(engine, "127.0.0.1", 1, absent, tmp_path, engine.delivered, lambda: engine.advance(0.1))


def _jetstream(tmp_path: Path, pair: tuple[Server, Server], *, documented: bool = False) -> Iterator[Rig]:
    sender, receiver = pair
    make = vendor_api if documented else None
    engine = JetstreamEngine("127.0.0.1", sender.port, make_api=make)

    absent = ("127.0.0.1", unused_port())
    received = _below(receiver.receive_root)
    yield from _cleaned(
        Rig(engine, "127.0.0.1", receiver.port, absent, tmp_path, received, lambda: None, documented)
    )


def _below(root: Path) -> Callable[[str], dict[str, int]]:
    def received(_destination_id: str) -> dict[str, int]:
        return {
            os.path.join(folder, name).removeprefix(str(root)): 0
            for folder, _, names in os.walk(root)
            for name in (*names, "")
        }

    return received


def _fts3(tmp_path: Path, grid: Grid) -> Iterator[Rig]:
    grid.reset()
    engine = grid.engine(tmp_path / "engine")
    source = grid.source.root / tmp_path.name
    source.mkdir(parents=True)

    def pace(rate: float | None) -> None:
        if rate is not None:
            grid.service.fault("slow", rate=rate * 125, times=-1)

    absent = (f"davs://localhost:{unused_port()}/in", 0)
    received = _below(grid.target.root / "in")
    rig = Rig(engine, grid.url("in"), 0, absent, source, received, lambda: None, pace=pace)
    yield from _cleaned(rig)


def _cleaned(rig: Rig) -> Iterator[Rig]:
    engine = rig.engine
    yield rig
    for transfer in engine.observe(rig.agent).transfers:
        engine.cancel(transfer.id, "the test is over")
    for destination in engine.observe(rig.agent).destinations:
        engine.delete_destination(destination.id)
    engine.close()


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    with start_grid(tmp_path_factory.mktemp("grid")) as started:
        yield started


_ENGINES = [
    "memory",
    pytest.param("jetstream", marks=pytest.mark.e2e),
    pytest.param("fts3", marks=pytest.mark.e2e),
]
_DOCUMENTED = pytest.param("documented", marks=pytest.mark.e2e)


def _rigs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "memory":
        yield from _memory(tmp_path)
        return
    if request.param == "fts3":
        yield from _fts3(tmp_path, request.getfixturevalue("grid"))
        return
    if request.param == "documented":
        request.getfixturevalue("monkeypatch").syspath_prepend(Path(__file__).parent.parent / "vendor")
    yield from _jetstream(
        tmp_path, request.getfixturevalue("servers"), documented=request.param == "documented"
    )


@pytest.fixture(params=[*_ENGINES, _DOCUMENTED])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    yield from _rigs(request, tmp_path)


_CONTROLLED = pytest.param("controlled", marks=pytest.mark.e2e)


@pytest.fixture(params=[*_ENGINES, _CONTROLLED])
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Engines, and one that works at the destination through the receiving server's documented methods."""
    if request.param != "controlled":
        yield from _rigs(request, tmp_path)
        return
    sender, receiver = request.getfixturevalue("servers")
    request.getfixturevalue("monkeypatch").syspath_prepend(Path(__file__).parent.parent / "vendor")
    control = JetstreamEngine("127.0.0.1", receiver.port, make_api=vendor_api)
    for rig in _jetstream(tmp_path, (sender, receiver), documented=True):
        rig.engine = through(rig.engine, control)
        yield rig
    control.close()


@pytest.fixture(params=_ENGINES)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Engines that also tell what the documents leave out: lanes, defaults, per-file results, deletions."""
    yield from _rigs(request, tmp_path)


# Destinations


def test_connecting_again_is_harmless(rig: Rig) -> None:
    """connect() answers the same as often as it is asked."""
    assert rig.engine.connect() == rig.engine.connect()


def test_a_created_destination_is_observed_as_asked(rig: Rig) -> None:
    """Address, port, rate and tag come back, with the four documented lanes."""
    found = rig.observed(rig.destination(rate=8000.0))
    assert (found.address, found.port, found.send_rate_max) == (rig.address, rig.port, 8000.0)
    assert found.tag == rig.tag(spec="Destination/d", attempt=0)
    assert found.lanes == (None if rig.documented else DEFAULT_LANES)


def test_a_destination_without_a_rate_is_unlimited(rig: Rig) -> None:
    """No limit is observed as None, and a limit can be taken away again."""
    found = rig.destination()
    assert rig.observed(found).send_rate_max is None
    rig.engine.set_send_rate(found, 5000.0)
    assert rig.observed(found).send_rate_max == 5000.0
    rig.engine.set_send_rate(found, None)
    assert rig.observed(found).send_rate_max is None


def test_two_destinations_with_one_address_are_two(rig: Rig) -> None:
    """Creating is exclusive: another's destination is never taken over."""
    assert rig.destination() != rig.destination()


def test_only_what_carries_the_agents_tag_is_observed(rig: Rig) -> None:
    """Another agent's destinations and transfers on the same server stay out of sight."""
    mine = rig.destination(present=False)
    other = replace(rig, agent=rig.agent + "-other")
    theirs = other.destination(present=False)
    transfer = other.start(theirs, rig.entry(rig.file("a")))
    state = rig.engine.observe(rig.agent)
    assert [d.id for d in state.destinations] == [mine]
    assert state.transfers == ()
    assert [t.id for t in rig.engine.observe(other.agent).transfers] == [transfer.id]
    rig.engine.cancel(transfer.id, "cleaning up")
    rig.engine.delete_destination(theirs)


def test_a_tag_can_be_replaced(rig: Rig) -> None:
    """The applied version of a spec is written on the object."""
    found = rig.destination()
    tag = rig.tag(spec="Destination/d", spec_digest="d2", revision="digest:2")
    rig.engine.tag_destination(found, tag)
    assert rig.observed(found).tag == tag


def test_lanes_are_set_whole_and_in_order(full: Rig) -> None:
    """Lanes come back as set; setting them again changes nothing."""
    lanes = (Lane("Urgent", 0.5), Lane("Zeta", 0.3), Lane("Alpha", 0.2), Lane("Rest", 0.0))
    found = full.destination()
    for _ in range(2):
        full.engine.set_lanes(found, lanes)
        assert full.observed(found).lanes == lanes


def test_a_lane_in_use_keeps_its_name_until_its_transfers_end(full: Rig) -> None:
    """Renaming it, or another number of lanes, is worth trying again later; new shares act at once."""
    found = full.destination(present=False)
    transfer = full.start(found, full.entry(full.file("a")), lane="High")
    renamed = (Lane("Top", 0.7), *DEFAULT_LANES[1:])
    for lanes in (renamed, (Lane("High", 1.0),)):
        with pytest.raises(RetryableError):
            full.engine.set_lanes(found, lanes)
    shares = (Lane("High", 0.6), Lane("Normal", 0.3), Lane("Low", 0.1), Lane("Idle", 0.0))
    full.engine.set_lanes(found, shares)
    assert full.observed(found).lanes == shares
    full.engine.cancel(transfer.id, "not wanted")
    full.engine.set_lanes(found, renamed)
    assert full.observed(found).lanes == renamed


def test_lanes_that_break_a_rule_need_a_person(full: Rig) -> None:
    """Refused for good while nothing is under way."""
    found = full.destination()
    for lanes in ((), (Lane("A", 0.5),), (Lane("A", 1.0), Lane("B", 0.0), Lane("C", 0.0))):
        with pytest.raises(PermanentError):
            full.engine.set_lanes(found, lanes)
    assert full.observed(found).lanes == DEFAULT_LANES


def test_defaults_come_back_as_set(full: Rig) -> None:
    """Priority, lane, checkpoint, overwrite and tolerance of new transfers."""
    found = full.destination()
    for overwrite in (Overwrite.NEVER, Overwrite.NEWER, Overwrite.BACKUP, Overwrite.ALWAYS):
        full.engine.set_defaults(found, TransferDefaults(7, "High", 5.0, overwrite, 2.0))
        seen = full.observed(found).defaults
        assert (seen.priority, seen.lane, seen.checkpoint_interval) == (7, "High", 5.0)
        assert (seen.overwrite, seen.modification_time_tolerance) == (overwrite, 2.0)


def test_default_lane_none_means_the_usual_one(full: Rig) -> None:
    """A spec that stops naming a lane gets `Normal` back."""
    found = full.destination()
    full.engine.set_defaults(found, TransferDefaults(lane="Low"))
    full.engine.set_defaults(found, TransferDefaults(lane=None))
    assert full.observed(found).defaults.lane == "Normal"


def test_a_deleted_destination_is_gone(rig: Rig) -> None:
    """Deleting it twice tells that it is gone already."""
    found = rig.destination()
    rig.engine.delete_destination(found)
    assert rig.engine.observe(rig.agent).destinations == ()
    with pytest.raises(NotFoundError):
        rig.engine.delete_destination(found)
    with pytest.raises(NotFoundError):
        rig.engine.set_send_rate(found, 1.0)


def test_a_destination_with_an_active_transfer_is_not_deleted(rig: Rig) -> None:
    """Refused while something is under way; after cancelling it goes."""
    found = rig.destination(present=False)
    transfer = rig.start(found, rig.entry(rig.file("a")))
    with pytest.raises(PermanentError):
        rig.engine.delete_destination(found)
    rig.engine.cancel(transfer.id, "not wanted")
    rig.engine.delete_destination(found)


# Transfers


def test_files_of_all_kinds_arrive(rig: Rig) -> None:
    """Empty files, empty directories and names that are not UTF-8 are delivered and accounted for."""
    found = rig.destination()
    (rig.source / "hollow").mkdir()
    files = [rig.file("deep/er/a.bin", b"x" * 300_000), rig.file("empty", b""), rig.file("日本")]
    files.append(rig.file(os.fsdecode(b"not-utf8-\xff")))
    entries = [*(rig.entry(path) for path in files), rig.entry(rig.source / "hollow")]
    ended = rig.finish(rig.start(found, *entries))
    assert (ended.state, ended.error) == (TransferState.COMPLETE, "")
    assert (ended.done_files, ended.total_files) == ((0, 0) if rig.documented else (5, 5))
    assert ended.done_bytes == ended.total_bytes == 300_000 + 14
    assert {entry.path for entry in entries} <= {p.rstrip("/") for p in rig.received(found)}


def test_a_transfer_carries_what_was_asked(rig: Rig) -> None:
    """Lane, priority, rate, tag and ids are observed, also by the listing."""
    found = rig.destination(present=False)
    started = rig.start(
        found, rig.entry(rig.file("a")), lane="Low", priority=4_294_967_295, send_rate_max=99.0
    )
    for seen in (started, rig.engine.transfer(started.id), *rig.engine.observe(rig.agent).transfers):
        assert (seen.id, seen.destination_id, seen.tag) == (started.id, found, rig.tag())
        assert (seen.lane, seen.priority, seen.send_rate_max) == ("Low", 4_294_967_295, 99.0)
        assert seen.state.active
        assert seen.manifest_id


def test_results_tell_what_the_sender_read(full: Rig) -> None:
    """Size and times are the source's; a cursor gives each file once."""
    path = full.file("a", b"twelve bytes")
    transfer = full.start(full.destination(), full.entry(path))
    full.finish(transfer)
    results = full.results(transfer)
    read = path.stat()
    result = results[f"/{full.agent}/a"]
    assert len(results) == 1
    assert (result.outcome, result.size) == (FileOutcome.DELIVERED, 12)
    assert (result.mtime_ns, result.ctime_ns) == (read.st_mtime_ns, read.st_ctime_ns)


def test_a_vanished_source_is_no_failure(full: Rig) -> None:
    """The others are delivered, the transfer is complete, and the result says vanished."""
    gone, stays = full.file("gone"), full.file("stays")
    entries = (full.entry(gone), full.entry(stays))
    gone.unlink()
    transfer = full.start(full.destination(), *entries)
    assert full.finish(transfer).state is TransferState.COMPLETE
    outcomes = {path: result.outcome for path, result in full.results(transfer).items()}
    assert outcomes == {entries[0].path: FileOutcome.VANISHED, entries[1].path: FileOutcome.DELIVERED}


def test_one_bad_file_does_not_hold_up_the_others(full: Rig) -> None:
    """A source that cannot be read fails alone, with its reason; the transfer ends in error."""
    fine = full.file("fine")
    (full.source / "folder").mkdir()
    bad = replace(full.entry(full.source / "folder"), is_directory=False, size=5)
    transfer = full.start(full.destination(), bad, full.entry(fine))
    ended = full.finish(transfer)
    results = full.results(transfer)
    assert ended.state is TransferState.ERROR
    assert ended.error
    assert results[bad.path].outcome is FileOutcome.FAILED
    assert results[bad.path].error
    assert results[full.entry(fine).path].outcome is FileOutcome.DELIVERED


def test_an_absent_receiver_is_waited_for(rig: Rig) -> None:
    """A transfer to nobody stays active, it is no error."""
    transfer = rig.start(rig.destination(present=False), rig.entry(rig.file("a")))
    rig.advance()
    assert rig.engine.transfer(transfer.id).state.active


def test_suspend_and_resume_may_be_repeated(rig: Rig) -> None:
    """Suspending stops a transfer, resuming finishes it; doing either twice is harmless."""
    found = rig.destination(rate=8000.0)
    transfer = rig.start(found, rig.entry(rig.file("big", b"z" * 4_000_000)))
    for _ in range(2):
        rig.engine.suspend(transfer.id)
        assert rig.engine.transfer(transfer.id).state is TransferState.SUSPENDED
    rig.engine.set_send_rate(found, None)
    for _ in range(2):
        rig.engine.resume(transfer.id)
        assert rig.engine.transfer(transfer.id).state is not TransferState.SUSPENDED
    assert rig.finish(transfer).state is TransferState.COMPLETE


def test_a_finished_transfer_cannot_be_resumed(rig: Rig) -> None:
    """What is over stays over; what is unknown is not found."""
    transfer = rig.start(rig.destination(present=False), rig.entry(rig.file("a")))
    rig.engine.cancel(transfer.id, "not wanted")
    with pytest.raises(NotFoundError):
        rig.engine.suspend(transfer.id)
    with pytest.raises(NotFoundError):
        rig.engine.resume(transfer.id)


def test_a_cancelled_transfer_is_removed(rig: Rig) -> None:
    """Active or suspended, it is gone, and nothing of a half-sent file is there; twice is harmless."""
    found = rig.destination(rate=100.0)
    for suspend in (False, True):
        transfer = rig.start(found, rig.entry(rig.file("half", b"h" * 1_000_000)))
        rig.advance()
        if suspend:
            rig.engine.suspend(transfer.id)
        for _ in range(2):
            rig.engine.cancel(transfer.id, "not wanted")
        assert rig.engine.transfer(transfer.id).state is TransferState.LOST
    assert rig.engine.observe(rig.agent).transfers == ()
    rig.wait(lambda: f"/{rig.agent}/half" not in rig.received(found), "the half-sent file goes")


def test_an_unknown_transfer_is_lost_not_failed(rig: Rig) -> None:
    """Forgotten by the server is a state of its own; its results are not found."""
    assert rig.engine.transfer("987654321").state is TransferState.LOST
    if not rig.documented:
        with pytest.raises(NotFoundError):
            rig.engine.results("987654321", 0)


def test_lane_and_priority_change_live(rig: Rig) -> None:
    """A running transfer takes its new lane and priority; an unknown lane is refused."""
    transfer = rig.start(rig.destination(present=False), rig.entry(rig.file("a")))
    for _ in range(2):
        rig.engine.set_priority(transfer.id, "High", 3)
    seen = rig.engine.transfer(transfer.id)
    assert (seen.lane, seen.priority) == ("High", 3)
    with pytest.raises(PermanentError):
        rig.engine.set_priority(transfer.id, "Nowhere", 3)


def test_a_transfers_rate_changes_live(rig: Rig) -> None:
    """A limit can be set and taken away while it runs."""
    transfer = rig.start(rig.destination(present=False), rig.entry(rig.file("a")))
    rig.engine.set_transfer_rate(transfer.id, 640.0)
    assert rig.engine.transfer(transfer.id).send_rate_max == 640.0
    rig.engine.set_transfer_rate(transfer.id, None)
    assert rig.engine.transfer(transfer.id).send_rate_max is None


def test_an_unknown_lane_creates_nothing(rig: Rig) -> None:
    """A refused transfer leaves neither transfer nor manifest behind."""
    found = rig.destination(present=False)
    with pytest.raises(PermanentError):
        rig.start(found, rig.entry(rig.file("a")), lane="Nowhere")
    assert rig.engine.observe(rig.agent).transfers == ()


def test_a_forgotten_transfer_is_lost(rig: Rig) -> None:
    """A finished one is removed with its manifest, an active one is not; twice is harmless."""
    found = rig.destination()
    transfer = rig.finish(rig.start(found, rig.entry(rig.file("a"))))
    for _ in range(2):
        rig.engine.forget(transfer.id, transfer.manifest_id)
    assert rig.engine.transfer(transfer.id).state is TransferState.LOST
    active = rig.start(rig.destination(present=False), rig.entry(rig.file("b")))
    with pytest.raises(PermanentError):
        rig.engine.forget(active.id, active.manifest_id)
    assert rig.engine.transfer(active.id).state.active


@pytest.mark.parametrize(
    ("overwrite", "age", "outcome"),
    [
        (Overwrite.ALWAYS, +60, FileOutcome.DELIVERED),
        (Overwrite.BACKUP, 0, FileOutcome.DELIVERED),
        (Overwrite.NEVER, 0, FileOutcome.SKIPPED),
        (Overwrite.NEWER, -60, FileOutcome.DELIVERED),
        (Overwrite.NEWER, +60, FileOutcome.SKIPPED),
    ],
)
def test_overwriting_is_as_asked(full: Rig, overwrite: Overwrite, age: int, outcome: FileOutcome) -> None:
    """What the mode leaves as it is counts as skipped, which is no failure. A mode that the engine does not
    have is refused by its name."""
    found = full.destination()
    path = full.file("a", b"first")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    full.finish(full.start(found, full.entry(path)))
    path.write_bytes(b"second time")
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    if overwrite not in full.engine.connect().overwrites:
        with pytest.raises(PermanentError, match=overwrite):
            full.start(found, full.entry(path), overwrite=overwrite)
        return
    again = full.start(found, full.entry(path), overwrite=overwrite)
    assert full.finish(again).state is TransferState.COMPLETE
    assert full.results(again)[full.entry(path).path].outcome is outcome


# Deletions


def test_files_and_emptied_directories_are_deleted(full: Rig) -> None:
    """Deleted or absent already is success; a directory that is not empty is kept and said so."""
    found = full.destination()
    full.finish(full.start(found, *(full.entry(full.file(n)) for n in ("d/one", "d/two", "e/three"))))
    top = f"/{full.agent}"
    results = full.delete(found, [f"{top}/d/one", f"{top}/e/three", f"{top}/never"], [f"{top}/e", f"{top}/d"])
    outcomes = {path.removeprefix(top): result.outcome for path, result in results.items()}
    assert outcomes == {
        "/d/one": FileOutcome.DELIVERED,
        "/e/three": FileOutcome.DELIVERED,
        "/never": FileOutcome.DELIVERED,
        "/e": FileOutcome.DELIVERED,
        "/d": FileOutcome.SKIPPED,
    }
    left = {path.rstrip("/") for path in full.received(found)}
    assert f"{top}/d/two" in left
    assert f"{top}/d/one" not in left
    assert f"{top}/e" not in left


def test_an_unknown_deletion_is_not_found(rig: Rig) -> None:
    """A deletion of an earlier launch of the server must be asked for again."""
    with pytest.raises(NotFoundError):
        rig.engine.deletion("earlier-launch/1")


# Renaming


@pytest.fixture
def renaming(far: Rig) -> Rig:
    if not far.engine.connect().rename:
        with pytest.raises(PermanentError):
            far.engine.start_renaming("1", (("/a", "/b"),))
        pytest.skip("this engine cannot rename at the destination, and says so")
    return far


def test_files_are_renamed_at_the_destination(renaming: Rig) -> None:
    """Directories above the new path are made; each outcome is told by the new path, in the given order."""
    found, top = renaming.destination(), f"/{renaming.agent}"
    names = ("d/one", "d/two", "taken", "chain")
    renaming.finish(renaming.start(found, *(renaming.entry(renaming.file(n)) for n in names)))
    results = renaming.rename(
        found,
        (f"{top}/d/one", f"{top}/new/er/one"),
        (f"{top}/d/two", f"{top}/taken"),
        (f"{top}/never", f"{top}/nowhere/never"),
        (f"{top}/chain", f"{top}/link"),
        (f"{top}/link", f"{top}/end"),
    )
    assert {path.removeprefix(top): result.outcome for path, result in results.items()} == {
        "/new/er/one": FileOutcome.DELIVERED,
        "/taken": FileOutcome.SKIPPED,
        "/nowhere/never": FileOutcome.VANISHED,
        "/link": FileOutcome.DELIVERED,
        "/end": FileOutcome.DELIVERED,
    }
    there = {path for path in renaming.received(found) if path.startswith(top) and not path.endswith("/")}
    files = {f"{top}/new/er/one", f"{top}/d/two", f"{top}/taken", f"{top}/end"}
    assert files <= there
    assert not {f"{top}/d/one", f"{top}/chain", f"{top}/link"} & there


def test_a_renaming_that_was_carried_out_is_told_apart_when_asked_again(renaming: Rig) -> None:
    """The old path is gone: the caller looks at the destination."""
    found, top = renaming.destination(), f"/{renaming.agent}"
    renaming.finish(renaming.start(found, renaming.entry(renaming.file("a"))))
    pair = (f"{top}/a", f"{top}/b")
    assert renaming.rename(found, pair)[pair[1]].outcome is FileOutcome.DELIVERED
    assert renaming.rename(found, pair)[pair[1]].outcome in (FileOutcome.VANISHED, FileOutcome.SKIPPED)
    assert f"{top}/b" in renaming.received(found)


def test_an_unknown_renaming_is_not_found(rig: Rig) -> None:
    """One of an earlier launch of the server: whether it was carried out is to be looked at."""
    with pytest.raises(NotFoundError):
        rig.engine.renaming("earlier-launch/1")


# Inventories


@pytest.fixture
def listing(far: Rig) -> Rig:
    if not far.engine.connect().inventory:
        with pytest.raises(PermanentError):
            far.engine.start_inventory("1", "/")
        pytest.skip("this engine cannot tell what is at the destination, and says so")
    return far


def test_what_is_at_the_destination_is_told_in_the_order_of_the_paths(listing: Rig) -> None:
    """At or below the directory, in byte order of the full paths, with sizes and times; another directory
    whose name begins alike stays out."""
    found, top = listing.destination(), f"/{listing.agent}"
    names = ("x/b", "x.1", "x/a/deep", "x0", "y/z", os.fsdecode(b"x/not-utf8-\xff"))
    paths = [listing.file(name, name.encode("utf-8", "surrogateescape")) for name in names]
    for path in paths:
        os.utime(path, ns=(0, 1_234_567_891_000_000_789))
    listing.finish(listing.start(found, *(listing.entry(path) for path in paths)))
    seen = listing.inventory(found, top)
    expected = sorted((f"{top}/{name}" for name in names), key=os.fsencode)
    assert [file.path for file in seen] == expected
    assert {file.path: file.size for file in seen} == {f"{top}/{n}": len(os.fsencode(n)) for n in names}
    assert {(file.kind, file.mtime_ns // 1000) for file in seen} == {(FileKind.FILE, 1_234_567_891_000_000)}
    below = [path for path in expected if path.startswith(f"{top}/x/")]
    assert [file.path for file in listing.inventory(found, f"{top}/x")] == below
    assert [file.path for file in listing.page(found, top, after=expected[2]).files] == expected[3:]
    assert [file.path for file in listing.inventory(found, f"{top}/x.1")] == [f"{top}/x.1"]


def test_a_directory_that_is_absent_holds_nothing(listing: Rig) -> None:
    """It is no error: nothing was delivered there yet, or all of it was taken away."""
    assert listing.inventory(listing.destination(), f"/{listing.agent}/never/there") == []


def test_digests_of_what_is_at_the_destination_are_told_on_request(listing: Rig) -> None:
    """They are those that the results of the transfer name; without being asked for there are none."""
    if not listing.engine.connect().digests:
        pytest.skip("the documented methods tell no digests")
    found, top = listing.destination(), f"/{listing.agent}"
    large = listing.file("large", os.urandom(2_500_000))
    sent = listing.start(found, listing.entry(listing.file("a", b"twelve bytes")), listing.entry(large))
    listing.finish(sent)
    digests = {path: result.digest for path, result in listing.results(sent).items()}
    assert all(digests.values()) or isinstance(listing.engine, MemoryEngine)
    assert {file.path: file.digest for file in listing.inventory(found, top, checksum=True)} == digests
    assert {file.digest for file in listing.inventory(found, top)} == {""}


def test_an_inventory_of_an_absent_receiver_does_not_answer_for_it(listing: Rig) -> None:
    """Nothing is told about what nobody looked at."""
    if listing.documented:
        pytest.skip("the control server is asked, whoever is sent to")
    found = listing.destination(present=False)
    asked = listing.engine.start_inventory(found, "/")
    listing.advance()
    state = listing.engine.inventory(asked)
    assert not state.done or state.error
    assert state.files == ()


def test_an_unknown_inventory_is_not_found(rig: Rig) -> None:
    """One of an earlier launch of the server must be asked for again."""
    with pytest.raises(NotFoundError):
        rig.engine.inventory("earlier-launch/1")


# Watching


def test_the_watcher_is_told_of_transfers(rig: Rig) -> None:
    """A transfer that ends is named to the watcher."""
    told: list[tuple[str, str]] = []
    rig.engine.watch(lambda kind, found: told.append((kind, found)))
    transfer = rig.start(rig.destination(), rig.entry(rig.file("a")))
    rig.finish(transfer)
    rig.wait(lambda: ("transfer", transfer.id) in told, "the watcher hears of the transfer")


def test_the_watcher_is_told_of_deletions(full: Rig) -> None:
    """A deletion that ends is named by the id that it was started with."""
    told: list[tuple[str, str]] = []
    full.engine.watch(lambda kind, found: told.append((kind, found)))
    deletion = full.engine.start_deletion(full.destination(), (f"/{full.agent}/none",), ())
    full.wait(lambda: ("deletion", deletion) in told, "the watcher hears of the deletion")
