"""States of jobs and files, and what a file's reason says."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    SUBMITTED = "SUBMITTED"
    STAGING = "STAGING"
    READY = "READY"  # only jobs with reuse
    ACTIVE = "ACTIVE"
    ARCHIVING = "ARCHIVING"
    QOS_TRANSITION = "QOS_TRANSITION"
    QOS_REQUEST_SUBMITTED = "QOS_REQUEST_SUBMITTED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    FINISHEDDIRTY = "FINISHEDDIRTY"  # some files finished, some failed
    CANCELED = "CANCELED"  # also when only some of its files were; the others may have finished
    UNKNOWN = "UNKNOWN"  # ours: a word that this client has not heard of

    @property
    def over(self) -> bool:
        return self in _JOB_OVER

    @classmethod
    def read(cls, word: object) -> JobState:
        return _JOB_STATES.get(word, cls.UNKNOWN) if isinstance(word, str) else cls.UNKNOWN


class FileState(StrEnum):
    TOKEN_PREP = "TOKEN_PREP"  # noqa: S105 -- waits until the engine holds a token of its own
    STAGING = "STAGING"
    STARTED = "STARTED"  # being brought from tape
    SUBMITTED = "SUBMITTED"
    READY = "READY"
    ACTIVE = "ACTIVE"
    ARCHIVING = "ARCHIVING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    NOT_USED = "NOT_USED"  # a later hop or another replica; stays so for ever when its turn never comes
    ON_HOLD = "ON_HOLD"  # its storage is banned with `wait`
    ON_HOLD_STAGING = "ON_HOLD_STAGING"
    FORCE_START = "FORCE_START"
    QOS_TRANSITION = "QOS_TRANSITION"
    QOS_REQUEST_SUBMITTED = "QOS_REQUEST_SUBMITTED"
    UNKNOWN = "UNKNOWN"

    @property
    def over(self) -> bool:
        """It will not change by itself any more. NOT_USED may, while its job is under way."""
        return self in _FILE_OVER

    @classmethod
    def read(cls, word: object) -> FileState:
        return _FILE_STATES.get(word, cls.UNKNOWN) if isinstance(word, str) else cls.UNKNOWN


_JOB_STATES = {state.value: state for state in JobState}
_FILE_STATES = {state.value: state for state in FileState}
_JOB_OVER = frozenset({JobState.FINISHED, JobState.FAILED, JobState.FINISHEDDIRTY, JobState.CANCELED})
_FILE_OVER = frozenset({FileState.FINISHED, FileState.FAILED, FileState.CANCELED})


class Side(StrEnum):
    SOURCE = "SOURCE"
    DESTINATION = "DESTINATION"
    TRANSFER = "TRANSFER"
    STAGING = "STAGING"
    AGENT = "AGENT"
    UNKNOWN = ""


_REASON = re.compile(r"(SOURCE|DESTINATION|TRANSFER|STAGING|AGENT)\s+\[(\d+)\]\s*(.*)", re.DOTALL)
_FINAL_CODES = frozenset(
    {
        errno.ENOENT,
        errno.EPERM,
        errno.EACCES,
        errno.EEXIST,
        errno.ENOSPC,
        errno.EISDIR,
        errno.EROFS,
        errno.ENAMETOOLONG,
        errno.EPROTONOSUPPORT,
    }
)
_FINAL_WORDS = re.compile(r"no such file|permission denied|file exists|checksum mismatch", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reason:
    """A file's reason, `SIDE [errno] text`. code: 0 when there is none."""

    side: Side
    code: int
    text: str

    @classmethod
    def read(cls, reason: str) -> Reason:
        found = _REASON.fullmatch(reason)
        if found is None:
            return cls(Side.UNKNOWN, 0, reason)
        return cls(Side(found[1]), int(found[2][:9]), found[3])

    @property
    def final(self) -> bool:
        """The service does not try this again by itself. Anything that is not plainly final may pass."""
        return self.code in _FINAL_CODES or bool(_FINAL_WORDS.search(self.text))
