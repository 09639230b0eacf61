"""Every pair of job state and file state has one meaning, and every reason one cause."""

from __future__ import annotations

import pytest

from agent.engines.fts3.outcomes import TABLE, Cause, Verdict, cause
from agent.fts3 import FileState, JobState, Reason

_ONGOING = "SUBMITTED STAGING READY ACTIVE ARCHIVING QOS_TRANSITION QOS_REQUEST_SUBMITTED".split()
_OVER = "FINISHED FAILED FINISHEDDIRTY CANCELED".split()

# One row a file state: while its job is under way, and once it is over.
_MEANINGS = {
    "TOKEN_PREP": ("waiting", "unsettled"),
    "STAGING": ("waiting", "unsettled"),
    "STARTED": ("waiting", "unsettled"),
    "SUBMITTED": ("waiting", "unsettled"),
    "READY": ("running", "unsettled"),
    "ACTIVE": ("running", "unsettled"),
    "ARCHIVING": ("running", "unsettled"),
    "FINISHED": ("delivered", "delivered"),
    "FAILED": ("failed", "failed"),
    "CANCELED": ("cancelled", "cancelled"),
    "NOT_USED": ("waiting", "cancelled"),
    "ON_HOLD": ("waiting", "unsettled"),
    "ON_HOLD_STAGING": ("waiting", "unsettled"),
    "FORCE_START": ("waiting", "unsettled"),
    "QOS_TRANSITION": ("waiting", "unsettled"),
    "QOS_REQUEST_SUBMITTED": ("waiting", "unsettled"),
    "UNKNOWN": ("unknown", "unknown"),
}
_CELLS = [
    *((job, file, row[0]) for job in _ONGOING for file, row in _MEANINGS.items()),
    *((job, file, row[1]) for job in _OVER for file, row in _MEANINGS.items()),
    *(("UNKNOWN", file, "unknown") for file in _MEANINGS),
]


@pytest.mark.parametrize(("job", "file", "meaning"), _CELLS)
def test_each_cell_of_the_table(job: str, file: str, meaning: str) -> None:
    assert TABLE[JobState(job), FileState(file)] is Verdict(meaning)


def test_the_table_is_total_and_the_cells_above_are_all_of_it() -> None:
    every = {(job, file) for job in JobState for file in FileState}
    assert set(TABLE) == every
    assert {(JobState(job), FileState(file)) for job, file, _ in _CELLS} == every


@pytest.mark.parametrize("word", ["DONE", "finished", "", None, 7])
def test_a_word_that_nobody_knows_is_never_success(word: object) -> None:
    for job in JobState:
        assert TABLE[job, FileState.read(word)] is Verdict.UNKNOWN
    for file in FileState:
        assert TABLE[JobState.read(word), file] is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("DESTINATION [17] Destination file exists and overwrite is not enabled", Cause.EXISTS),
        ("TRANSFER [17] TRANSFER ERROR: Copy failed. Last attempt: The file exists", Cause.EXISTS),
        (
            "TRANSFER [17] TRANSFER ERROR: Copy failed (streamed). "
            "Last attempt: HTTP 403 : Permission refused  (destination)",
            Cause.PERMANENT,
        ),
        ("SOURCE [1] HTTP 403 : Permission refused ", Cause.PERMANENT),
        ("SOURCE [112] Result Could not connect to server after 1 attempts", Cause.UNREACHABLE),
        ("SOURCE [38] checksum calculation for ADLER32 not supported for davs://a/b", Cause.NO_CHECKSUM),
        ("SOURCE [2] No such file or directory", Cause.SOURCE_GONE),
        ("SOURCE [2] Result HTTP 404 : File not found  after 1 attempts", Cause.SOURCE_GONE),
        ("DESTINATION [2] Result HTTP 409 : Conflict  after 1 attempts", Cause.PERMANENT),
        ("TRANSFER [13] Permission denied", Cause.PERMANENT),
        ("DESTINATION [28] No space left on device", Cause.PERMANENT),
        ("SOURCE [21] Is a directory", Cause.PERMANENT),
        ("DESTINATION [111] Connection refused", Cause.UNREACHABLE),
        ("DESTINATION [70] Could not connect to host", Cause.UNREACHABLE),
        ("SOURCE [113] No route to host", Cause.UNREACHABLE),
        ("TRANSFER [110] Connection timed out", Cause.PASSING),
        ("TRANSFER [5] Source and destination checksums do not match", Cause.PASSING),
        ("DESTINATION [22] Source and destination file size mismatch", Cause.PASSING),
        ("DESTINATION [22] Checksum value required if mode is not end to end", Cause.NO_CHECKSUM),
        ("SOURCE [95] Checksum type ADLER32 not supported", Cause.NO_CHECKSUM),
        ("TRANSFER [13] The proxy has expired", Cause.CREDENTIAL),
        ("SOURCE [13] Result HTTP 401 : Authentication Error  after 1 attempts", Cause.CREDENTIAL),
        ("something that nobody has seen before", Cause.PASSING),
        ("", Cause.PASSING),
    ],
)
def test_only_what_is_plainly_final_is_final(reason: str, expected: Cause) -> None:
    assert cause(Reason.read(reason)) is expected
