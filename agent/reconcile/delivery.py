"""One mapping at one destination: what is remembered between two reconciles, and what one of them found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.model.change import NameProblem, Suspect, SuspectReason
from agent.model.condition import Reason
from agent.model.observed import ObservedTransfer
from agent.model.outcome import Done, Outcome, Stalled, Wait
from agent.model.plan import Held, Later, Plan
from agent.model.spec import MappingSpec
from agent.model.units import format_duration
from agent.planning.sentinel import Unsealed
from agent.planning.words import count
from agent.reconcile.halves import Halves
from agent.reconcile.names import learned, stalled_by_names
from agent.reconcile.progress import progress_text, transfer_document
from agent.reconcile.queue import WHOLE, Hints
from agent.reconcile.sets import LeftOut
from agent.reconcile.survey import Walk
from agent.reconcile.suspension import Suspension
from agent.state.attempts import Failures

PERSON_AFTER = 3
"""Failures in a row after which a person is asked to look, while trying goes on."""

RECHECK = 30.0
_MAKE_ROOM = ", whose storage is full: free space there; it goes on by itself"
RETRY_SECONDS = 5.0


@dataclass(slots=True)
class Memory:
    """Kept between reconciles of one delivery; lost at a restart, which begins with a whole survey."""

    pending: Hints = WHOLE  # what has not been looked at yet
    waiting: Hints = Hints()  # differs, but in flight: to be looked at when that has ended
    survey_due: float = 0.0  # monotonic time of the next whole survey
    look_cost: float = 0.0  # processor seconds of the whole look that goes on
    look_interval: float = 0.0  # seconds between whole looks as of the last one; 0 = there was none
    spec_digest: str = ""  # of the version that was last surveyed whole
    held: tuple[Held, ...] = ()  # as of the last whole survey, or found since
    suspects: tuple[Suspect, ...] = ()
    deletions: list[tuple[float, int]] = field(default_factory=list)  # monotonic time, how many
    files: int = 0  # in the ledger, as last counted
    bytes: int = 0
    receipt_due: bool = True  # something may have been delivered that no receipt lists
    receipt_limits: tuple[str, ...] = ()
    unsealed: Unsealed = field(default_factory=Unsealed)  # what waits for a sentinel
    later: tuple[Later, ...] = ()  # deletions that wait, as of the last whole survey
    halves: Halves = field(default_factory=Halves)
    names: tuple[NameProblem, ...] = ()  # of this destination, as of the last whole survey, or found since
    walk: Walk | None = None  # a whole look that rests until there is room for more
    left_out: LeftOut = field(default_factory=LeftOut)
    behind: bool = False  # there is more than a look had room for: another one is due when there is

    def learn(self, plan: Plan, whole: bool) -> None:
        """A partial survey adds what it found; only a whole one can take something back."""
        self.held = plan.held if whole else plan.held or self.held
        self.suspects = plan.suspects if whole else plan.suspects or self.suspects
        self.later = plan.later if whole else plan.later or self.later
        self.names = learned(self.names, plan.names, whole)

    def recent_deletions(self, now: float, window: float) -> int:
        """How many were carried out within the window: a removal that is noticed piece by piece is one."""
        self.deletions = [(at, count) for at, count in self.deletions if now - at < window]
        return sum(count for _, count in self.deletions)


@dataclass(slots=True)
class Findings:
    """What one reconcile found for one delivery; pure input of its outcome."""

    destination: str
    reachable: bool = True
    blocked_by: str = ""
    suspended: Suspension | None = None
    active: tuple[ObservedTransfer, ...] = ()
    in_flight: int = 0
    deleting: int = 0
    looking: bool = False  # a whole look rests; what it has not come to yet is not known
    settling: int = 0
    unsealed: int = 0  # files that wait for a sentinel
    held: tuple[Held, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    names: tuple[NameProblem, ...] = ()
    failures: Failures = Failures()
    adopting: str = ""  # how far the look at what is there already is; nothing is sent before its end
    releasing: str = ""  # what is being done to delete what is delivered at the source
    full: bool = False  # the destination's storage
    destination_error: str = ""  # why the destination does not answer
    error: str = ""  # why this reconcile could not be finished here
    needs_person: bool = False  # trying again alone will not mend that error


def judge(found: Findings, now: float) -> Outcome:
    """What one delivery's findings mean: on its way, held, failed, or in sync."""
    if not found.reachable:
        return Wait(Reason.DEPENDENCY_NOT_READY)
    if found.error and found.needs_person:
        return Stalled(Reason.SERVER_FAILED, found.error, RECHECK)
    if found.error:
        return Wait(Reason.RETRYING, RETRY_SECONDS)
    if found.suspended is not None and found.suspended.reason is Reason.REFUSED_BY_POLICY:
        return Stalled(found.suspended.reason, found.suspended.text, RECHECK)
    if found.suspended is not None:
        return Wait(found.suspended.reason)
    if found.in_flight or found.active or found.deleting or found.adopting or found.looking:
        if found.full and (found.in_flight or found.active) and not found.adopting:
            return Wait(Reason.NO_SPACE)
        moves = Reason.ADOPTING if found.adopting else Reason.TRANSFERRING
        return Wait(Reason.DESTINATION_UNREACHABLE if found.destination_error else moves)
    if found.blocked_by:
        return Wait(Reason.DEPENDENCY_NOT_READY)
    if found.held:
        return Stalled(Reason.DELETIONS_HELD, _held_text(found))
    if found.suspects:
        return Stalled(Reason.SOURCE_SUSPECT, _suspect_text(found), RECHECK)
    if found.failures.consecutive:
        left = found.failures.next_retry_at - now
        left = left if left > 0 else RETRY_SECONDS  # tried again, and what came of it is not seen yet
        if found.failures.consecutive >= PERSON_AFTER:
            return Stalled(Reason.FILES_FAILED, f"{found.failures.last_error}; trying on", left)
        return Wait(Reason.RETRYING, left)
    return _rests(found)


def _rests(found: Findings) -> Outcome:
    """Nothing is to be sent or deleted at the destination now."""
    if found.releasing:
        return Wait(Reason.RELEASING)
    if found.settling or found.unsealed:
        return Wait(Reason.SETTLING if found.settling else Reason.AWAITING_SENTINEL)
    return stalled_by_names(found.names) or Done()


def message(found: Findings, memory: Memory, spec: MappingSpec, outcome: Outcome, now: float) -> str:
    """The outcome in words, with numbers."""
    match outcome:
        case Wait(reason=Reason.DEPENDENCY_NOT_READY):
            return f"waits for {found.blocked_by}"
        case Wait() if found.suspended is not None:
            return found.suspended.text
        case Wait(reason=Reason.ADOPTING | Reason.RELEASING):
            return found.adopting or found.releasing
        case Wait(reason=Reason.DESTINATION_UNREACHABLE) if found.adopting:
            return f"{found.adopting}: {found.destination_error}"
        case Wait(reason=Reason.DESTINATION_UNREACHABLE | Reason.NO_SPACE as reason):
            waiting = f"{count(found.in_flight, 'path')} to send or delete at {found.destination}"
            full = reason is Reason.NO_SPACE
            return f"{waiting}{_MAKE_ROOM}" if full else f"{waiting}: {found.destination_error}"
        case Wait(reason=Reason.TRANSFERRING):
            return progress_text(describe(found, memory, spec))
        case Wait(reason=Reason.RETRYING) if found.error:
            return found.error
        case Wait(reason=Reason.RETRYING):
            wait = format_duration(max(0.0, found.failures.next_retry_at - now))
            return f"{found.failures.last_error}; next try in {wait}"
        case Wait(reason=Reason.SETTLING):
            written = "is still being" if found.settling == 1 else "are still being"
            return f"{count(found.settling, 'file')} {written} written"
        case Wait(reason=Reason.AWAITING_SENTINEL):
            return memory.unsealed.text(spec.trigger.sentinel or "")
        case Stalled(message=text):
            return text
        case _:
            return ""


def _held_text(found: Findings) -> str:
    held = found.held[0]
    return f"{held.reason}; look with `lanesync plan`, then `lanesync approve Mapping/{held.mapping}`"


def _suspect_text(found: Findings) -> str:
    suspect = found.suspects[0]
    advice = {
        SuspectReason.MISSING: "mount or create it",
        SuspectReason.EMPTIED: "if that is meant, approve it with `lanesync approve`",
        SuspectReason.OTHER_DEVICE: "mount the right one, or approve it with `lanesync approve`",
        SuspectReason.UNREADABLE: "give the agent's user permission to read it",
    }[suspect.reason]
    detail = f" ({suspect.detail})" if suspect.detail else ""
    return f"source {suspect.source} is {suspect.reason}{detail}: nothing below it is deleted; {advice}"


def describe(found: Findings, memory: Memory, spec: MappingSpec) -> dict[str, Any]:
    """The delivery as it appears in the status document."""
    return {
        "destination": found.destination,
        "files": memory.files,
        "bytes": memory.bytes,
        "filesInFlight": found.in_flight,
        "deletionsInFlight": found.deleting,
        "settling": found.settling,
        "awaitingSentinel": found.unsealed,
        "deletionsInGrace": sum(len(later.deletions) for later in memory.later),
        "nextDeletion": min((later.due for later in memory.later), default=None),
        "heldDeletions": sum(len(h.deletions) for h in found.held),
        "failuresInARow": found.failures.consecutive,
        "lastError": found.failures.last_error,
        "prune": spec.prune,
        "transfers": [transfer_document(t) for t in found.active[:100]],
    }
