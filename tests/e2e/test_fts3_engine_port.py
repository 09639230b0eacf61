"""The FTS3 engine by itself, on a service and storages that misbehave."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grid import QUICK, Grid, start_grid
from servers import eventually

from agent.engines.fts3.engine import Fts3Engine, Settings
from agent.engines.port import DestinationRequest, Entry, TransferRequest
from agent.model.observed import FileOutcome, ObservedTransfer, Tag, TransferState
from agent.model.outcome import UnreachableError
from agent.model.spec import Lane, Overwrite

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    with start_grid(tmp_path_factory.mktemp("grid")) as started:
        yield started


@pytest.fixture
def grid(shared: Grid) -> Grid:
    shared.reset()
    return shared


class Bench:
    """An engine with one destination."""

    def __init__(
        self, grid: Grid, directory: Path, settings: Settings = QUICK, agent: str = "a", **access: Any
    ) -> None:
        self.grid, self.agent = grid, agent
        self.engine: Fts3Engine = grid.engine(directory, settings, **access)
        self.destination = self.engine.create_destination(
            DestinationRequest(grid.url("in"), 0, None, Tag(agent, "Destination/d"))
        )

    def put(self, name: str, content: bytes = b"content") -> Entry:
        path = self.grid.source.root / name
        path.write_bytes(content)
        return Entry(f"/{name}", str(path), len(content), False, False)

    def start(self, *entries: Entry, **fields: Any) -> str:
        tag = Tag(self.agent, "Mapping/m", attempt=1)
        request = TransferRequest(
            self.destination, entries, "Normal", 100, None, Overwrite.ALWAYS, True, 30.0, 0.0, 0.0, tag
        )
        return self.engine.start_transfer(replace(request, **fields)).id

    def ended(self, transfer: str, seconds: float = 20.0) -> ObservedTransfer:
        def look() -> ObservedTransfer | None:
            found = self.engine.transfer(transfer)
            return found if found.state.finished else None

        found = eventually(look, seconds=seconds, what="the transfer ends")
        assert found is not None
        return found

    def delivered(self, transfer: str) -> None:
        ended = self.ended(transfer)
        assert (ended.state, ended.error) == (TransferState.COMPLETE, "")

    def there(self, name: str) -> bytes:
        return (self.grid.target.root / "in" / name).read_bytes()

    def at_service(self, **states: int) -> None:
        def look() -> bool:
            found = self.grid.service.state()["files"]
            return all(found.get(state, 0) == count for state, count in states.items())

        eventually(look, what=str(states))


@pytest.fixture
def bench(grid: Grid, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(grid, tmp_path / "engine")
    yield made
    made.engine.close()


def test_a_copy_that_does_not_move_is_cancelled_and_made_again(grid: Grid, tmp_path: Path) -> None:
    """It would stay `active` for ever and hold its place."""
    impatient = replace(QUICK, stuck_base=0.5, stuck_per_megabyte=0.0)
    bench = Bench(grid, tmp_path / "engine", impatient)
    grid.service.fault("stall", source="*stuck", seconds=8, times=1)
    bench.delivered(bench.start(bench.put("stuck"), bench.put("fine")))
    assert bench.there("stuck") == b"content"
    bench.engine.close()


def test_a_copy_that_was_spoiled_on_the_way_is_made_again(bench: Bench) -> None:
    """Both ends' checksums are compared: what is published is what was read."""
    bench.grid.service.fault("corrupt", source="*file", times=1)
    bench.delivered(bench.start(bench.put("file", b"precious")))
    assert bench.there("file") == b"precious"


def test_a_storage_that_refuses_is_not_taken_for_one_that_has_the_file(bench: Bench) -> None:
    """A refused PUT comes with the number of "file exists": it is no reason to skip the file."""
    bench.grid.target.fault("status", method="PUT", path="*file", status=403, times=-1)
    ended = bench.ended(bench.start(bench.put("file", b"new"), overwrite=Overwrite.NEVER))
    assert ended.state is not TransferState.COMPLETE
    assert "HTTP 403" in ended.error
    assert not (bench.grid.target.root / "in" / "file").exists()


def test_a_job_cancelled_by_an_operator_is_sent_again(bench: Bench) -> None:
    """Only our own cancels are ours: any other may pass."""
    bench.grid.service.settings(engine_paused=True)
    transfer = bench.start(bench.put("file"))
    bench.at_service(SUBMITTED=1)
    (job,) = bench.grid.jobs()
    with bench.grid.client("admin") as admin:
        assert admin.whoami().level
    with bench.grid.client() as client:
        client.jobs.cancel([job.job_id])
    bench.grid.service.settings(engine_paused=False)
    bench.delivered(transfer)


def test_suspending_takes_a_transfer_out_of_the_services_queue(bench: Bench) -> None:
    """Its jobs are cancelled; resuming sends everything that had not arrived."""
    bench.grid.service.settings(engine_paused=True)
    transfer = bench.start(*(bench.put(f"f{n}") for n in range(5)))
    bench.at_service(SUBMITTED=5)
    bench.engine.suspend(transfer)
    bench.at_service(SUBMITTED=0, CANCELED=5)
    assert bench.engine.transfer(transfer).state is TransferState.SUSPENDED
    bench.grid.service.settings(engine_paused=False)
    bench.engine.resume(transfer)
    bench.delivered(transfer)


def test_a_cancelled_copy_never_comes_after_its_successor(bench: Bench) -> None:
    """The old version is still being copied when the new one is asked for: the new one stays."""
    bench.grid.service.fault("slow", source="*file", rate=100_000, times=1)
    bench.grid.service.settings(cancel_poll=0.6)
    old = bench.start(bench.put("file", b"1" * 300_000))
    bench.at_service(ACTIVE=1)
    bench.engine.cancel(old, "a newer version is there")
    assert bench.engine.transfer(old).state is TransferState.LOST
    bench.delivered(bench.start(bench.put("file", b"2" * 300_000)))
    assert bench.there("file") == b"2" * 300_000
    eventually(lambda: bench.grid.service.state()["files"].get("ACTIVE", 0) == 0)
    assert bench.there("file") == b"2" * 300_000


def test_a_lost_store_leaves_no_job_behind(grid: Grid, tmp_path: Path) -> None:
    """Jobs of the same agent and server that the store does not know are cancelled, and no others."""
    grid.service.settings(engine_paused=True)
    first = Bench(grid, tmp_path / "first")
    first.start(first.put("mine"))
    other = Bench(grid, tmp_path / "other", agent="b")
    other.start(other.put("theirs"))
    elsewhere = Bench(grid, tmp_path / "elsewhere", name="other-server")
    elsewhere.start(elsewhere.put("elsewhere"))
    first.at_service(SUBMITTED=3)
    first.engine.close()
    shutil.rmtree(tmp_path / "first")
    again = Bench(grid, tmp_path / "first")
    again.engine.connect()
    again.at_service(SUBMITTED=2, CANCELED=1)
    with grid.client() as client:
        (gone,) = [job for job in grid.jobs() if job.state == "CANCELED"]
        assert client.jobs.files(gone.job_id)[0].source_surl.endswith("/mine")
    for one in (other, elsewhere, again):
        one.engine.close()


def test_work_is_taken_on_while_the_service_is_away(bench: Bench) -> None:
    """connect() says that nobody answers; what was asked meanwhile is done when it is back."""
    told: list[tuple[str, str]] = []
    bench.engine.watch(lambda kind, found: told.append((kind, found)))
    bench.engine.connect()
    bench.grid.service.stop()
    with pytest.raises(UnreachableError):
        bench.engine.connect()
    transfer = bench.start(bench.put("file"))
    eventually(lambda: ("server", "") in told, what="the watcher hears of it")
    assert bench.engine.transfer(transfer).state.active
    bench.grid.service.start()
    bench.delivered(transfer)
    eventually(lambda: told.count(("server", "")) >= 2, what="the watcher hears that it is back")
    assert bench.engine.connect().delete


def test_a_destination_that_is_down_is_waited_for(bench: Bench) -> None:
    """It is observed as not connected, with the reason; no try of the files is used up."""
    bench.grid.target.stop()
    try:
        transfer = bench.start(bench.put("file"))
        observed = eventually(
            lambda: [d for d in bench.engine.observe("a").destinations if not d.connected], what="told"
        )
        assert "onnect" in observed[0].last_error
        assert bench.engine.transfer(transfer).state.active
    finally:
        bench.grid.target.start()
    bench.delivered(transfer)
    eventually(lambda: bench.engine.observe("a").destinations[0].connected, what="connected again")


def test_a_deletion_waits_for_a_storage_that_is_down(bench: Bench) -> None:
    bench.delivered(bench.start(bench.put("file")))
    bench.grid.target.stop()
    try:
        deletion = bench.engine.start_deletion(bench.destination, ("/file",), ())
        eventually(lambda: not bench.engine.observe("a").destinations[0].connected, what="it is noticed")
        assert not bench.engine.deletion(deletion).done
    finally:
        bench.grid.target.start()
    eventually(lambda: bench.engine.deletion(deletion).done, what="the deletion")
    assert not (bench.grid.target.root / "in" / "file").exists()


def test_what_was_asked_survives_the_engine(grid: Grid, tmp_path: Path) -> None:
    """Transfers, results and deletions are there again after a restart, and go on."""
    grid.service.settings(engine_paused=True)
    bench = Bench(grid, tmp_path / "engine")
    bench.start(bench.put("one"), bench.put("two"))
    bench.at_service(SUBMITTED=2)
    bench.engine.close()
    grid.service.settings(engine_paused=False)
    bench.engine = grid.engine(tmp_path / "engine")
    bench.engine.connect()
    (seen,) = bench.engine.observe("a").transfers
    bench.delivered(seen.id)
    results, cursor = bench.engine.results(seen.id, 0)
    assert [r.outcome for r in results] == [FileOutcome.DELIVERED] * 2
    assert bench.engine.results(seen.id, cursor) == ((), cursor)
    assert len(grid.jobs()) == 1
    bench.engine.close()


def test_lanes_share_what_goes_through_and_the_service_is_kept_shallow(grid: Grid, tmp_path: Path) -> None:
    """Ever so many files wait: a window of ten goes out at a time, four of five from the lane of 80%."""
    bench = Bench(grid, tmp_path / "engine", replace(QUICK, window=10, batch=2))
    bench.engine.set_lanes(bench.destination, (Lane("A", 0.8), Lane("B", 0.2)))
    grid.service.settings(engine_paused=True)
    transfers = [
        bench.start(*(bench.put(f"{lane}{n}") for n in range(60)), lane=lane, priority=priority)
        for lane, priority in (("A", 100), ("B", 1))
    ]
    bench.at_service(SUBMITTED=10)
    grid.service.settings(engine_paused=False)
    for transfer in transfers:
        bench.delivered(transfer)
    with grid.client() as client:
        files = [file for job in grid.jobs() for file in client.jobs.files(job.job_id)]
    order = [file.activity for file in sorted(files, key=lambda file: file.file_id or 0)]
    assert len(order) == 120
    assert 36 <= order[10:60].count("A") <= 44
    bench.engine.close()


def test_a_token_serves_as_well_as_a_certificate(grid: Grid, tmp_path: Path) -> None:
    """It is read anew for each request, so it may be renewed."""
    asked: list[int] = []

    def token() -> str:
        asked.append(1)
        return grid.service.token("alice", wlcg_groups=["/farm"])

    bench = Bench(grid, tmp_path / "engine", certificate=None, key=None, token=token)
    bench.engine.connect()
    bench.delivered(bench.start(bench.put("file")))
    assert len(asked) > 2
    bench.engine.close()


def test_a_storage_without_checksums_can_do_without(grid: Grid, tmp_path: Path) -> None:
    bench = Bench(grid, tmp_path / "engine", verify_checksum=False)
    bench.delivered(bench.start(bench.put("file")))
    (job,) = grid.jobs()
    assert job.raw["verify_checksum"] in ("n", None)
    bench.engine.close()
