"""What FTS3 says of a file, and what it means for us. Pure and total.

A file is judged by the states of its job and of itself, because they disagree: a cancelled job may hold
finished files, a running one failed files, and a file may be finished up to a second before its job is.
"""

from __future__ import annotations

import errno
import re
from enum import StrEnum

from agent.fts3 import FileState, JobState, Reason, Side


class Verdict(StrEnum):
    WAITING = "waiting"  # in the service's queue
    RUNNING = "running"
    DELIVERED = "delivered"
    FAILED = "failed"  # its reason says how badly
    CANCELLED = "cancelled"  # by us, an operator, a ban or a time limit of the service
    UNSETTLED = "unsettled"  # the job is over and the file is not: wait a while, then look for ourselves
    UNKNOWN = "unknown"  # a word that we do not know: never success


_SETTLED = {
    FileState.FINISHED: Verdict.DELIVERED,
    FileState.FAILED: Verdict.FAILED,
    FileState.CANCELED: Verdict.CANCELLED,
}
_UNDER_WAY = frozenset({FileState.READY, FileState.ACTIVE, FileState.ARCHIVING})


def _verdict(job: JobState, file: FileState) -> Verdict:
    if JobState.UNKNOWN is job or FileState.UNKNOWN is file:
        return Verdict.UNKNOWN
    if file in _SETTLED:
        return _SETTLED[file]
    if job.over:
        # NOT_USED stays so for ever once its job is over: it never ran.
        return Verdict.CANCELLED if file is FileState.NOT_USED else Verdict.UNSETTLED
    return Verdict.RUNNING if file in _UNDER_WAY else Verdict.WAITING


TABLE: dict[tuple[JobState, FileState], Verdict] = {
    (job, file): _verdict(job, file) for job in JobState for file in FileState
}


class Cause(StrEnum):
    """Why a file failed, as far as it decides what we do."""

    EXISTS = "exists"  # something is at the destination already
    SOURCE_GONE = "source gone"
    NO_CHECKSUM = "no checksum"  # a storage has none, or not of this kind
    UNREACHABLE = "unreachable"  # nobody answers at a storage: waited for, no failure of the file
    CREDENTIAL = "credential"  # the storage does not take what we delegated
    PERMANENT = "permanent"  # the same try will fail again
    PASSING = "passing"  # everything else: worth another try


_THERE = re.compile(r"\bexists?\b", re.IGNORECASE)
"""The number alone does not tell: a refused write comes with that of "file exists", too."""
_NOBODY_THERE = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
)
_NOBODY_SAYS = re.compile(
    r"connection refused|no route to host|name or service not known|could not (connect|resolve)"
    r"|temporary failure in name resolution|network is unreachable",
    re.IGNORECASE,
)
_NO_CHECKSUM = re.compile(
    r"checksum[^.;]{0,60}\b(not supported|unsupported|not available|unavailable|not implemented|required"
    r"|not returned|missing)|(no|unsupported|could not (get|retrieve)( the)?)\s+checksum|no digest",
    re.IGNORECASE,
)
_CREDENTIAL = re.compile(
    r"(proxy|credential|token|certificate)[^.;]{0,60}\b(expired|invalid|missing|not valid)"
    r"|HTTP 401\b|authentication (error|failed)",
    re.IGNORECASE,
)


def cause(reason: Reason) -> Cause:
    """Deny by list: what is not plainly final may pass, and is worth another try."""
    text = reason.text
    if _CREDENTIAL.search(text):
        return Cause.CREDENTIAL
    if _NO_CHECKSUM.search(text):
        return Cause.NO_CHECKSUM
    if reason.code == errno.EEXIST and reason.side is not Side.SOURCE and _THERE.search(text):
        return Cause.EXISTS
    if reason.code == errno.ENOENT and reason.side is Side.SOURCE:
        return Cause.SOURCE_GONE
    if reason.code in _NOBODY_THERE or _NOBODY_SAYS.search(text):
        return Cause.UNREACHABLE
    return Cause.PERMANENT if reason.final else Cause.PASSING
