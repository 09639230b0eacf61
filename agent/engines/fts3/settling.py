"""What becomes of the files of a job, one by one, when the service has told of them.

The decision itself is `outcomes.TABLE`; here it meets what only we can see: whether the source is still what
was submitted, and what lies at the destination.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from agent.engines.fts3 import urls
from agent.engines.fts3.destination import Destination, Stat
from agent.engines.fts3.files import CANCEL, ENDING, Again, Going, Job, Settled, TransferFacts
from agent.engines.fts3.outcomes import TABLE, Cause, Verdict, cause
from agent.engines.fts3.settings import Settings
from agent.engines.fts3.submitting import look
from agent.fts3 import Job as ServiceJob
from agent.fts3 import TransferFile
from agent.model.observed import FileOutcome
from agent.model.outcome import LaneSyncError, RetryableError

_BLOCK = 1 << 20
_MEGABYTE = 1e6

CREDENTIAL_TEXT = "the storage does not take the credential that FTS3 acts with"
NO_CHECKSUM_TEXT = (
    "the storage gives no ADLER32 checksum; turn checksums on there, or set `verifyChecksum: none` "
    "on the Server"
)


@dataclass(slots=True)
class Ruling:
    """settled and again leave the job; `running` were seen running; the rest stays as it is."""

    settled: list[Settled] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    stuck: int = 0  # of those that stay, how many have not moved for far too long
    unreachable: str = ""  # why nobody answers at a storage
    needs_credential: bool = False
    answered: bool = False  # a file arrived, so somebody answers


class Judge:
    """For one destination. Pure but for looking at sources and, where needed, at the destination."""

    def __init__(self, settings: Settings, url: str, destination: Callable[[], Destination]) -> None:
        self._settings = settings
        self._url = url
        self._destination = destination

    def rule(
        self,
        job: Job,
        facts: TransferFacts,
        going: Sequence[Going],
        seen: ServiceJob,
        files: Sequence[TransferFile],
        now: float,
    ) -> Ruling:
        """From what the service says of a job and its files. A file that it does not name is unknown, and
        unsettled once its job is over."""
        ruling = Ruling()
        unnamed = Verdict.UNSETTLED if seen.state.over else Verdict.UNKNOWN
        since = max(job.since, min(seen.finished.timestamp(), now)) if seen.finished else job.since
        by_place = {file.file_index: file for file in files}
        for mine in going:
            file = by_place.get(mine.place)
            verdict = TABLE[seen.state, file.state] if file is not None else unnamed
            self._one(ruling, job, facts, mine, verdict, file, now, since)
        return ruling

    def lost(self, job: Job, facts: TransferFacts, going: Sequence[Going], now: float) -> Ruling:
        """The service does not know the job (any more), which is not failed: the destination tells."""
        ruling = Ruling()
        for mine in going:
            self._look_there(ruling, job, facts, mine, now, "FTS3 no longer knows the job")
        return ruling

    def _one(
        self,
        ruling: Ruling,
        job: Job,
        facts: TransferFacts,
        mine: Going,
        verdict: Verdict,
        file: TransferFile | None,
        now: float,
        since: float,
    ) -> None:
        """since: when the job was over, or last changed its state with us."""
        match verdict:
            case Verdict.WAITING:
                pass
            case Verdict.RUNNING:
                if mine.running_since is None:
                    ruling.running.append(mine.number)
                elif now - mine.running_since > self._patience(mine):
                    ruling.stuck += 1
            case Verdict.DELIVERED:
                self._delivered(ruling, mine, file, now)
            case Verdict.FAILED:
                self._failed(ruling, job, facts, mine, file, now)
            case Verdict.CANCELLED:
                self._cancelled(ruling, job, facts, mine, file, now)
            case Verdict.UNSETTLED | Verdict.UNKNOWN:
                if now - since > self._settings.unsettled and verdict is Verdict.UNSETTLED:
                    self._look_there(ruling, job, facts, mine, now, "FTS3 left the file without an end")
                elif now - since > self._patience(mine):
                    ruling.stuck += 1

    def _patience(self, mine: Going) -> float:
        settings = self._settings
        return settings.stuck_base + settings.stuck_per_megabyte * mine.version.size / _MEGABYTE

    def _delivered(self, ruling: Ruling, mine: Going, file: TransferFile | None, now: float) -> None:
        """FTS3 reads the source itself: what it read is what we know only if the source stayed the same."""
        ruling.answered = True
        told = file.filesize if file is not None else None
        if (told is not None and told != mine.version.size) or not _unchanged(mine):
            self._retry(ruling, mine, "the source changed while it was sent", now, delay=1.0)
        else:
            ruling.settled.append(Settled(mine.number, FileOutcome.DELIVERED, "", mine.version))

    def _failed(
        self,
        ruling: Ruling,
        job: Job,
        facts: TransferFacts,
        mine: Going,
        file: TransferFile | None,
        now: float,
    ) -> None:
        reason = file.reason if file is not None else ""
        match cause(file.why) if file is not None else Cause.PASSING:
            case Cause.EXISTS if not facts.overwrite:
                ruling.settled.append(Settled(mine.number, FileOutcome.SKIPPED, "", mine.version))
            case Cause.EXISTS:
                self._look_there(ruling, job, facts, mine, now, reason)
            case Cause.SOURCE_GONE:
                self._source_gone(ruling, mine, reason, now)
            case Cause.UNREACHABLE:
                self._wait(ruling, facts, mine, reason, now)
            case Cause.CREDENTIAL:
                ruling.needs_credential = True
                self._retry(ruling, mine, f"{CREDENTIAL_TEXT}: {reason}", now)
            case Cause.NO_CHECKSUM:
                text = f"{NO_CHECKSUM_TEXT}: {reason}"
                ruling.settled.append(Settled(mine.number, FileOutcome.FAILED, text))
            case Cause.PERMANENT:
                ruling.settled.append(Settled(mine.number, FileOutcome.FAILED, reason))
            case Cause.PASSING:
                self._retry(ruling, mine, reason or "FTS3 gave no reason", now)

    def _source_gone(self, ruling: Ruling, mine: Going, reason: str, now: float) -> None:
        looked = look(mine.source)
        if isinstance(looked, Settled) and looked.outcome is FileOutcome.VANISHED:
            ruling.settled.append(Settled(mine.number, FileOutcome.VANISHED))
        else:
            text = f"{reason}; the file is here: does the server's `storage` name the right URL for it?"
            self._retry(ruling, mine, text, now)

    def _cancelled(
        self,
        ruling: Ruling,
        job: Job,
        facts: TransferFacts,
        mine: Going,
        file: TransferFile | None,
        now: float,
    ) -> None:
        """By us: back to those that wait. By others (a ban, a limit of the queue): worth another try."""
        if file is not None and _still_copying(file) and now - job.since < self._settings.unsettled:
            return
        if job.state in (CANCEL, ENDING) or facts.suspended or facts.removed:
            ruling.again.append(Again(mine.number, 0.0, mine.tries, mine.lost_since))
        else:
            reason = (file.reason if file is not None else "") or "cancelled at FTS3"
            self._retry(ruling, mine, reason, now)

    def _wait(self, ruling: Ruling, facts: TransferFacts, mine: Going, reason: str, now: float) -> None:
        """Nobody answers at a storage: waited for, up to the transfer's time-out (0 = for ever)."""
        since = mine.lost_since or now
        ruling.unreachable = reason
        if facts.timeout and now - since > facts.timeout:
            ruling.settled.append(Settled(mine.number, FileOutcome.FAILED, reason))
            return
        settings = self._settings
        pause = min(max(settings.retry_delay, (now - since) / 2), settings.max_retry_delay / 5)
        ruling.again.append(Again(mine.number, now + pause, mine.tries, since))

    def _retry(
        self, ruling: Ruling, mine: Going, reason: str, now: float, delay: float | None = None
    ) -> None:
        tries = mine.tries + 1
        if tries >= self._settings.tries:
            ruling.settled.append(Settled(mine.number, FileOutcome.FAILED, reason))
            return
        settings = self._settings
        pause = min(settings.retry_delay * 2.0 ** (tries - 1), settings.max_retry_delay)
        ruling.again.append(Again(mine.number, now + (pause if delay is None else delay), tries))

    def _look_there(
        self, ruling: Ruling, job: Job, facts: TransferFacts, mine: Going, now: float, why: str
    ) -> None:
        """There with the size and the content (or newer than the job): delivered. Else it is sent again."""
        try:
            found = self._destination().stat(urls.join(self._url, mine.path), "adler32")
        except RetryableError as error:
            self._wait(ruling, facts, mine, f"{why}; {error}", now)
            return
        except LaneSyncError as error:
            self._retry(ruling, mine, f"{why}; {error}", now)
            return
        if found is not None and _is_it(found, mine, job.since) and _unchanged(mine):
            ruling.settled.append(Settled(mine.number, FileOutcome.DELIVERED, "", mine.version))
        else:
            self._retry(ruling, mine, why, now, delay=0.0)


def _unchanged(mine: Going) -> bool:
    """Since it was submitted. A source that is gone now cannot be compared: what was sent was what it was."""
    looked = look(mine.source)
    gone = isinstance(looked, Settled) and looked.outcome is FileOutcome.VANISHED
    return gone or looked == mine.version


class _Checked(Enum):
    SAME = "same"
    OTHER = "other"
    UNTOLD = "untold"


def _is_it(found: Stat, mine: Going, submitted: float) -> bool:
    if found.is_directory or found.size != mine.version.size:
        return False
    checked = _content(found, mine.source)
    if checked is not _Checked.UNTOLD:
        return checked is _Checked.SAME
    return found.mtime is not None and found.mtime >= submitted


def _content(found: Stat, source: str) -> _Checked:
    told = found.checksums.get("adler32")
    if told is None:
        return _Checked.UNTOLD
    try:
        return _Checked.SAME if int(told, 16) == adler32(source) else _Checked.OTHER
    except (OSError, ValueError):
        return _Checked.UNTOLD


def adler32(path: str) -> int:
    """Of a local file. OSError when it cannot be read."""
    value = 1
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.adler32(block, value)
    return value


def _still_copying(file: TransferFile) -> bool:
    """A cancelled file that had started: its end is told only when its copy has been stopped."""
    return file.start_time is not None and file.finish_time is None
