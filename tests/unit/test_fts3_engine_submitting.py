"""Files become jobs: how many, in which order, and what is written down before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import eventually

from agent.engines.fts3.files import PREPARED, FileQueue, Settled
from agent.engines.fts3.service import Access
from agent.engines.fts3.settings import Settings
from agent.engines.fts3.store import Store, open_database
from agent.engines.fts3.submitting import Submitter
from agent.engines.fts3.trouble import Troubles
from agent.engines.port import DestinationRequest, Entry, TransferRequest
from agent.fts3 import ClientError, FTS3ClientException, Kind, NoAnswer, Submitted, Unauthorized
from agent.model.condition import Reason
from agent.model.observed import FileOutcome, Tag, TransferState
from agent.model.outcome import LaneSyncError
from agent.model.spec import Overwrite, Storage

SETTINGS = Settings(window=10, batch=4, posting=1, ban_recheck=60.0)


class FakeService:
    """Takes jobs, or refuses them with `error`."""

    def __init__(self, root: Path) -> None:
        self.access = Access("https://x", "grid", storage=(Storage(str(root), "davs://source/data"),))
        self.jobs = self
        self.lifetime = None
        self.submitted: list[dict[str, Any]] = []
        self.priorities: list[tuple[list[str], int]] = []
        self.error: FTS3ClientException | None = None

    def working(self) -> FakeService:
        return self

    def expected_id(self, sid: str) -> str:
        return f"id-of-{sid}"

    def submit(self, job: dict[str, Any], *_: Any, **options: Any) -> Submitted:
        assert options == {"adopt": True, "fresh": False}
        if self.error is not None:
            raise self.error
        self.submitted.append(job)
        return Submitted(f"id-of-{job['params']['sid']}")

    def set_priority(self, ids: list[str], priority: int) -> None:
        self.priorities.append((ids, priority))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir()
        self.service = FakeService(self.source)
        self.told: list[tuple[str, str]] = []
        self.open()
        self.destination = self.store.create_destination(
            DestinationRequest("davs://target/in", 0, None, Tag("a", "Destination/d"))
        )

    def open(self) -> None:
        self.database = open_database(str(self.folder / "store"))
        self.store = Store(self.database)
        self.files = FileQueue(self.database, self.store)
        self.troubles = Troubles()
        self.submitter = Submitter(
            self.service,  # type: ignore[arg-type]
            self.store,
            self.files,
            SETTINGS,
            self.troubles,
            lambda kind, found: self.told.append((kind, found)),
            lambda: None,
        )

    def close(self) -> None:
        self.submitter.close()
        self.database.close()

    def entries(self, *names: str) -> tuple[Entry, ...]:
        for name in names:
            (self.source / name).write_bytes(os.fsencode(name))
        return tuple(Entry(f"/{n}", str(self.source / n), len(n), False, False) for n in names)

    def start(self, *names: str, entries: tuple[Entry, ...] = (), **fields: Any) -> str:
        request = TransferRequest(
            self.destination,
            entries or self.entries(*names),
            "Normal",
            100,
            None,
            Overwrite.ALWAYS,
            True,
            30.0,
            0.0,
            0.0,
            Tag("a", "Mapping/m", attempt=5),
        )
        made = replace(request, **fields)
        return self.store.create_transfer(made, [("davs://source", "davs://target")] * len(made.entries))

    def step(self) -> None:
        """Until everything that it began has been posted."""
        self.submitter.step()
        eventually(lambda: not self.submitter._posting, what="posted")

    def sizes(self) -> list[int]:
        return [len(job["files"]) for job in self.service.submitted]

    def names(self) -> list[str]:
        urls = [f["destinations"][0] for job in self.service.submitted for f in job["files"]]
        return [url.rpartition("/")[2] for url in urls]

    def finish(self, count: int = 1) -> None:
        """The first jobs are through."""
        for job in self.files.jobs("submitted")[:count]:
            going = self.files.going(job.number)
            self.files.advance(
                job, [Settled(g.number, FileOutcome.DELIVERED, "", g.version) for g in going], []
            )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_jobs_are_small_and_the_window_of_a_link_is_never_passed(bench: Bench) -> None:
    bench.start(*(f"f{n:02d}" for n in range(15)))
    bench.step()
    assert bench.sizes() == [4, 4, 2]
    bench.finish()
    bench.step()
    assert bench.sizes() == [4, 4, 2, 4]
    assert bench.names() == [f"f{n:02d}" for n in range(14)]


def test_a_job_says_everything_that_the_service_needs_to_know(bench: Bench) -> None:
    found = bench.start("one file")
    bench.step()
    (job,) = bench.service.submitted
    (file,), params = job["files"], job["params"]
    assert file["sources"] == ["davs://source/data/one%20file"]
    assert file["destinations"] == ["davs://target/in/one%20file"]
    assert (file["activity"], file["checksum"], file["filesize"]) == ("Normal", "ADLER32", 8)
    assert (params["id_generator"], params["sid"]) == ("deterministic", f"a/5/{found}/1")
    assert (params["verify_checksum"], params["overwrite"], params["retry"]) == ("both", True, -1)
    assert params["priority"] == 3
    tag = Tag.from_user_data(params["job_metadata"])
    assert tag == Tag("a", "Mapping/m", attempt=5)


def test_a_job_is_written_down_before_it_is_submitted_and_survives_the_agent(bench: Bench) -> None:
    """Without an answer it stays prepared, and is submitted with the same sid after a restart."""
    bench.start("one")
    bench.service.error = NoAnswer("lost")
    bench.step()
    (job,) = bench.files.jobs(PREPARED)
    assert job.id == f"id-of-{job.sid}"
    with pytest.raises(LaneSyncError):
        bench.submitter.step()
    bench.close()
    bench.service.error = None
    bench.open()
    bench.step()
    assert [one["params"]["sid"] for one in bench.service.submitted] == [job.sid]
    assert [one.number for one in bench.files.jobs("submitted")] == [job.number]


def test_what_is_urgent_and_late_goes_before_what_waits(bench: Bench) -> None:
    bench.start(*(f"slow{n:02d}" for n in range(20)))
    bench.step()
    bench.start("urgent", priority=1)
    bench.finish()
    bench.step()
    assert bench.names()[10] == "urgent"


def test_a_changed_priority_reaches_the_jobs_that_wait_at_the_service(bench: Bench) -> None:
    found = bench.start("one")
    bench.step()
    bench.store.change_transfer(bench.store.number_of(found), priority=5)
    bench.step()
    assert bench.service.priorities == [([bench.files.jobs("submitted")[0].id], 5)]
    bench.step()
    assert len(bench.service.priorities) == 1


def test_a_suspended_transfer_waits_and_others_do_not(bench: Bench) -> None:
    first = bench.start("one")
    bench.start("two")
    bench.store.change_transfer(bench.store.number_of(first), suspended=1)
    bench.step()
    assert bench.names() == ["two"]
    bench.store.change_transfer(bench.store.number_of(first), suspended=0)
    bench.step()
    assert bench.names() == ["two", "one"]


def test_what_may_not_go_is_no_reason_to_look_again_and_again(bench: Bench) -> None:
    """A file that was due, of a transfer that is suspended since."""
    found = bench.start("one")
    bench.database.execute("UPDATE queues SET due = 1.0")
    bench.store.change_transfer(bench.store.number_of(found), suspended=1)
    assert bench.submitter.step() > 1.0


def test_a_held_destination_gets_nothing_new(bench: Bench) -> None:
    bench.start("one")
    bench.store.change_destination(bench.destination, held=1)
    bench.step()
    assert bench.names() == []
    bench.store.change_destination(bench.destination, held=0)
    bench.step()
    assert bench.names() == ["one"]


def test_a_path_that_is_under_way_is_not_sent_twice_at_once(bench: Bench) -> None:
    """A late copy of the old version must not replace the new one: the second waits for the first."""
    old = bench.start("same")
    bench.step()
    bench.store.remove_transfer(bench.store.number_of(old))
    bench.start("same", "other")
    bench.step()
    assert bench.names() == ["same", "other"]
    (cancelled,) = bench.files.jobs("cancel")
    bench.files.drop(cancelled)
    bench.database.execute("UPDATE queues SET due = 0")
    bench.step()
    assert bench.names() == ["same", "other", "same"]


def test_what_is_gone_or_no_file_needs_no_job(bench: Bench) -> None:
    entries = bench.entries("gone", "stays")
    (bench.source / "gone").unlink()
    (bench.source / "folder").mkdir()
    folder = Entry("/folder", str(bench.source / "folder"), 4, False, False)
    found = bench.start(entries=(*entries, folder))
    bench.step()
    assert bench.names() == ["stays"]
    results = {r.path: r.outcome for r in bench.store.results(found, 0)[0]}
    assert results == {"/gone": FileOutcome.VANISHED, "/folder": FileOutcome.FAILED}
    bench.finish()
    ended = bench.store.transfer(found)
    assert (ended.state, ended.error) == (TransferState.ERROR, "/folder: the source is not a regular file")


def test_a_path_that_is_too_long_for_a_url_fails_alone(bench: Bench) -> None:
    long = Entry("/" + "x" * 1200, str(bench.source / "short"), 5, False, False)
    found = bench.start(entries=(*bench.entries("short"), long))
    bench.step()
    assert bench.names() == ["short"]
    (result,) = bench.store.results(found, 0)[0]
    assert "1100" in result.error


def test_a_job_that_the_service_refuses_fails_its_files_with_the_reason(bench: Bench) -> None:
    found = bench.start("one", "two")
    bench.service.error = ClientError("Invalid value", kind=Kind.PERMANENT, status=400)
    bench.step()
    results = bench.store.results(found, 0)[0]
    assert [(r.outcome, "Invalid value" in r.error) for r in results] == [(FileOutcome.FAILED, True)] * 2
    assert ("transfer", found) in bench.told


def test_a_job_whose_storage_left_the_specs_fails_its_files_with_the_remedy(bench: Bench) -> None:
    """Prepared, then killed, then another `storage`: it can never be submitted."""
    found = bench.start("one")
    bench.service.error = NoAnswer("lost")
    bench.step()
    bench.close()
    bench.service.error = None
    bench.service.access = Access("https://x", "grid", storage=(Storage("/elsewhere", "davs://source/x"),))
    bench.open()
    bench.step()
    (result,) = bench.store.results(found, 0)[0]
    assert "below no path of the server's `storage` (/elsewhere)" in result.error


def test_a_banned_storage_is_waited_for_and_told(bench: Bench) -> None:
    found = bench.start("one")
    bench.service.error = Unauthorized("davs://target is banned", kind=Kind.BANNED, status=403)
    bench.step()
    assert bench.store.transfer(found).state.active
    _, (notice,) = bench.troubles.of(bench.store.place(bench.destination).number)
    assert notice.reason is Reason.STORAGE_BANNED
    assert bench.files.jobs(PREPARED) == []


def test_a_credential_that_is_not_taken_leaves_everything_as_it_is(bench: Bench) -> None:
    found = bench.start("one")
    bench.service.error = Unauthorized("who are you", kind=Kind.NEEDS_CREDENTIAL, status=403)
    bench.step()
    with pytest.raises(LaneSyncError, match="who are you"):
        bench.submitter.step()
    assert bench.store.transfer(found).state.active
    bench.service.error = None
    bench.step()
    assert bench.names() == ["one"]


def test_names_that_are_not_text_are_sent_as_they_are(bench: Bench) -> None:
    bench.start(os.fsdecode(b"odd-\xff%"))
    bench.step()
    assert bench.names() == ["odd-%FF%25"]
