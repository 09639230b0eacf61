"""What becomes of one file: the service's word, the source and the destination together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.engines.fts3.destination import BusyError, Stat
from agent.engines.fts3.files import CANCEL, ENDING, SUBMITTED, Going, Job, TransferFacts, Version
from agent.engines.fts3.settings import Settings
from agent.engines.fts3.settling import Judge, Ruling, adler32
from agent.fts3 import Job as ServiceJob
from agent.fts3 import TransferFile
from agent.model.observed import FileOutcome
from agent.model.outcome import LaneSyncError, UnreachableError

NOW = 1_000_000.0
JOB = Job(1, "id", "sid", 1, 1, 3, SUBMITTED, NOW - 100, 1)
FACTS = TransferFacts(1, "t", 1, "{}", "Normal", True, 0.0, False, False)
SETTINGS = Settings(tries=3, retry_delay=10.0)


class There:
    """A destination with one file, or an error."""

    def __init__(self, found: Stat | LaneSyncError | None = None) -> None:
        self.found = found
        self.asked: list[str] = []

    def stat(self, url: str, checksum: str = "") -> Stat | None:
        self.asked.append(url)
        assert checksum == "adler32"
        if isinstance(self.found, LaneSyncError):
            raise self.found
        return self.found


class Case:
    """One file of one job."""

    def __init__(self, source: Path) -> None:
        self.source = source
        source.write_bytes(b"content")
        info = source.stat()
        self.there = There()
        self.going = Going(
            7,
            "/a/b",
            str(source),
            0,
            Version(info.st_size, info.st_mtime_ns, info.st_ctime_ns),
            0,
            None,
            None,
        )
        self.judge = Judge(SETTINGS, "davs://se/in", lambda: self.there)  # type: ignore[arg-type,return-value]

    def stat(self, **fields: Any) -> Stat:
        return replace(Stat("davs://se/in/a/b", 7, int(NOW), False), **fields)

    def rule(
        self,
        state: str,
        reason: str = "",
        *,
        job_state: str = "ACTIVE",
        facts: TransferFacts = FACTS,
        job: Job = JOB,
        **fields: Any,
    ) -> Ruling:
        raw = {"file_index": 0, "file_state": state, "reason": reason, **fields}
        seen = ServiceJob.read({"job_id": "id", "job_state": job_state})
        return self.judge.rule(job, facts, [self.going], seen, [TransferFile.read(raw)], NOW)

    def lost(self) -> Ruling:
        return self.judge.lost(JOB, FACTS, [self.going], NOW)

    def tried(self, times: int) -> None:
        self.going = replace(self.going, tries=times)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "source")


def _outcome(ruling: Ruling) -> FileOutcome:
    (settled,) = ruling.settled
    assert ruling.again == []
    return settled.outcome


def _again(ruling: Ruling) -> float:
    """The pause before the next try."""
    (again,) = ruling.again
    assert ruling.settled == []
    return again.due - NOW


def test_a_finished_file_is_delivered_while_its_job_runs(case: Case) -> None:
    ruling = case.rule("FINISHED", filesize=7)
    assert _outcome(ruling) is FileOutcome.DELIVERED
    assert ruling.settled[0].version == case.going.version


@pytest.mark.parametrize("change", ["content", "size told"])
def test_a_source_that_changed_meanwhile_is_sent_again(case: Case, change: str) -> None:
    if change == "content":
        case.source.write_bytes(b"CONTENT")
        os.utime(case.source, ns=(1, 1))
    assert _again(case.rule("FINISHED", filesize=8 if change == "size told" else 7)) == 1.0


def test_a_source_that_always_changes_is_a_failure_in_the_end(case: Case) -> None:
    case.source.write_bytes(b"other")
    case.tried(2)
    ruling = case.rule("FINISHED")
    assert _outcome(ruling) is FileOutcome.FAILED
    assert "changed while" in ruling.settled[0].error


def test_a_source_that_was_deleted_after_its_copy_was_delivered(case: Case) -> None:
    case.source.unlink()
    assert _outcome(case.rule("FINISHED", filesize=7)) is FileOutcome.DELIVERED


def test_a_failed_file_of_a_cancelled_job_is_a_failure(case: Case) -> None:
    ruling = case.rule("FAILED", "DESTINATION [28] No space left on device", job_state="CANCELED")
    assert _outcome(ruling) is FileOutcome.FAILED


def test_what_may_pass_is_tried_again_ever_later_and_not_for_ever(case: Case) -> None:
    pauses = []
    for tries in range(2):
        case.tried(tries)
        pauses.append(_again(case.rule("FAILED", "TRANSFER [5] Input/output error")))
    assert pauses == [10.0, 20.0]
    case.tried(2)
    assert _outcome(case.rule("FAILED", "TRANSFER [5] Input/output error")) is FileOutcome.FAILED


def test_nobody_there_is_waited_for_without_using_up_tries(case: Case) -> None:
    case.tried(2)
    ruling = case.rule("FAILED", "DESTINATION [111] Connection refused")
    assert _again(ruling) == 10.0
    assert ruling.again[0].tries == 2
    assert ruling.again[0].lost_since == NOW
    assert "refused" in ruling.unreachable


def test_the_time_out_of_a_transfer_ends_the_waiting(case: Case) -> None:
    case.going = replace(case.going, lost_since=NOW - 61)
    facts = replace(FACTS, timeout=60.0)
    ruling = case.rule("FAILED", "DESTINATION [111] Connection refused", facts=facts)
    assert _outcome(ruling) is FileOutcome.FAILED


def test_something_there_is_left_alone_when_nothing_may_be_overwritten(case: Case) -> None:
    exists = "DESTINATION [17] Destination file exists and overwrite is not enabled"
    assert _outcome(case.rule("FAILED", exists, facts=replace(FACTS, overwrite=False))) is FileOutcome.SKIPPED
    assert case.there.asked == []


def test_the_same_file_in_the_way_is_a_delivered_file(case: Case) -> None:
    """Told by its content, whatever its age."""
    exists = "DESTINATION [17] Destination file exists and overwrite is not enabled"
    digest = f"{adler32(str(case.source)):08x}"
    case.there.found = case.stat(mtime=1, checksums={"adler32": digest})
    assert _outcome(case.rule("FAILED", exists)) is FileOutcome.DELIVERED
    case.there.found = case.stat(checksums={"adler32": "00000001"})
    assert _again(case.rule("FAILED", exists)) == 0.0


def test_a_lost_job_is_looked_for_at_the_destination(case: Case) -> None:
    """Newer than the job and of the right size: delivered. Else it is sent again, and never a failure."""
    found: list[tuple[Callable[[], Stat | None], bool]] = [
        (lambda: case.stat(), True),
        (lambda: case.stat(mtime=int(JOB.since) - 10), False),
        (lambda: case.stat(mtime=None), False),
        (lambda: case.stat(size=6), False),
        (lambda: case.stat(is_directory=True), False),
        (lambda: None, False),
    ]
    for there, delivered in found:
        case.there.found = there()
        if delivered:
            assert _outcome(case.lost()) is FileOutcome.DELIVERED
        else:
            assert _again(case.lost()) == 0.0


def test_a_lost_job_whose_source_changed_is_not_taken_as_delivered(case: Case) -> None:
    case.there.found = case.stat()
    case.source.write_bytes(b"changed")
    os.utime(case.source, ns=(1, 1))
    assert _again(case.lost()) == 0.0


@pytest.mark.parametrize("error", [UnreachableError("nobody"), BusyError("busy")])
def test_while_the_destination_does_not_answer_nothing_is_decided(case: Case, error: LaneSyncError) -> None:
    case.there.found = error
    assert _again(case.lost()) == 10.0


def test_a_source_that_the_storage_does_not_have(case: Case) -> None:
    """Gone here, too: vanished. Still here: the storage or its URL is wrong, and the message says so."""
    ruling = case.rule("FAILED", "SOURCE [2] No such file or directory")
    assert _again(ruling) == 10.0
    case.tried(2)
    assert "`storage`" in case.rule("FAILED", "SOURCE [2] No such file or directory").settled[0].error
    case.source.unlink()
    assert _outcome(case.rule("FAILED", "SOURCE [2] No such file or directory")) is FileOutcome.VANISHED


def test_a_storage_without_checksums_is_told_with_the_remedy(case: Case) -> None:
    ruling = case.rule("FAILED", "DESTINATION [22] Checksum value required if mode is not end to end")
    assert _outcome(ruling) is FileOutcome.FAILED
    assert "verifyChecksum: none" in ruling.settled[0].error


def test_a_credential_that_a_storage_refuses_is_delegated_anew(case: Case) -> None:
    ruling = case.rule("FAILED", "TRANSFER [13] The proxy has expired")
    assert ruling.needs_credential
    assert _again(ruling) == 10.0


def test_our_own_cancel_costs_no_try(case: Case) -> None:
    for state in (CANCEL, ENDING):
        ruling = case.rule("CANCELED", job=replace(JOB, state=state))
        assert (_again(ruling), ruling.again[0].tries) == (-NOW, 0)


def test_anothers_cancel_is_worth_another_try(case: Case) -> None:
    reason = "Job has been canceled because it stayed in the queue for too long (max-time-in-queue timeout)"
    ruling = case.rule("CANCELED", reason, job_state="CANCELED")
    assert (_again(ruling), ruling.again[0].tries) == (10.0, 1)


def test_a_cancelled_copy_that_still_runs_is_waited_for(case: Case) -> None:
    """It might replace what is sent after it. But not for ever."""
    job = replace(JOB, state=ENDING, since=NOW - 5)
    started = {"start_time": "2026-01-01T00:00:00"}
    ruling = case.rule("CANCELED", job=job, job_state="CANCELED", **started)
    assert (ruling.again, ruling.settled) == ([], [])
    ended = {**started, "finish_time": "2026-01-01T00:00:09"}
    assert _again(case.rule("CANCELED", job=job, job_state="CANCELED", **ended)) == -NOW
    late = replace(job, since=NOW - SETTINGS.unsettled - 1)
    assert _again(case.rule("CANCELED", job=late, job_state="CANCELED", **started)) == -NOW


def test_a_job_that_is_over_before_its_file_is_given_time_and_then_looked_after(case: Case) -> None:
    case.there.found = case.stat()
    fresh = replace(JOB, since=NOW - 1)
    ruling = case.rule("ACTIVE", job=fresh, job_state="FINISHED")
    assert (ruling.settled, ruling.again, case.there.asked) == ([], [], [])
    assert _outcome(case.rule("ACTIVE", job_state="FINISHED")) is FileOutcome.DELIVERED


def test_how_long_a_job_ran_does_not_count_when_it_has_just_ended(case: Case) -> None:
    seen = ServiceJob.read(
        {"job_id": "id", "job_state": "CANCELED", "job_finished": "1970-01-12T13:46:30"}  # 10 s before now
    )
    file = TransferFile.read({"file_index": 0, "file_state": "ACTIVE"})
    ruling = case.judge.rule(JOB, FACTS, [case.going], seen, [file], NOW)
    assert (ruling.settled, ruling.again, case.there.asked) == ([], [], [])


def test_a_file_that_runs_far_too_long_is_stuck(case: Case) -> None:
    assert case.rule("ACTIVE").running == [7]
    case.going = replace(case.going, running_since=NOW - 3_599)
    assert case.rule("ACTIVE").stuck == 0
    case.going = replace(case.going, running_since=NOW - 3_601)
    assert case.rule("ACTIVE").stuck == 1


def test_a_word_that_nobody_knows_settles_nothing(case: Case) -> None:
    case.there.found = case.stat()
    for state, job_state in (("NEWLY_INVENTED", "ACTIVE"), ("FINISHED", "NEWLY_INVENTED")):
        ruling = case.rule(state, job_state=job_state)
        assert (ruling.settled, ruling.again, case.there.asked) == ([], [], [])


def test_a_file_that_the_service_does_not_name_is_looked_for_when_its_job_is_over(case: Case) -> None:
    """Before that it may be under way, and would be sent twice."""
    case.there.found = case.stat()
    for state, settled in (("ACTIVE", 0), ("NEWLY_INVENTED", 0), ("FINISHED", 1)):
        seen = ServiceJob.read({"job_id": "id", "job_state": state})
        ruling = case.judge.rule(JOB, FACTS, [case.going], seen, [], NOW)
        assert (len(ruling.settled), ruling.again) == (settled, [])
