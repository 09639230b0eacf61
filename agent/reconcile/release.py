"""`release: deleteSource`: source files are deleted once every destination of the mapping has them.

The ledger says what was delivered; the destinations are asked for checksums of it all the same, each of them,
before anything is deleted. Then the files are marked as released, durably, and deleted one by one, each only
if it is still the version that was delivered. Whatever ends in between is begun anew by the next round.

A round goes on over many turns, a batch at a time, and fails no mapping: what stays is told by conditions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from agent.model.condition import ConditionType, Reason
from agent.model.outcome import LaneSyncError
from agent.model.spec import DriftPolicy, Key, Kind, MappingSpec, Release, digest
from agent.model.units import format_size
from agent.planning.backoff import delay
from agent.planning.effective import effective
from agent.planning.release import places
from agent.planning.words import count
from agent.reconcile.context import Context
from agent.reconcile.drift import Look
from agent.reconcile.found import document_of, drift_text, is_open, reason_of
from agent.reconcile.listing import Listing
from agent.reconcile.one_delivery import Delivery
from agent.reconcile.oversight import FAILED_MAX, FAILED_MIN, Watched, new_look, rounds_of
from agent.reconcile.releasable import BATCH, Candidate, Staying, candidates
from agent.reconcile.releasing import delete_at_source
from agent.reconcile.report import Report
from agent.state.audit import Act

log = structlog.get_logger(__name__)

Document = dict[str, Any]

TURN_SECONDS = 0.5
SOON = 1.0
"""Seconds until a round is begun anew that could not decide."""

LATER = 300.0
"""The same after many of them."""

UNDECIDED_MAX = 5
"""So many rounds in a row that could not decide come soon."""


@dataclass(slots=True)
class Round:
    candidates: Iterator[list[Candidate]] = iter(())
    begun: float = 0.0  # monotonic
    batch: dict[str, Candidate] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)  # at the destinations, for the batch
    done: set[str] = field(default_factory=set)  # of them
    files: int = 0  # released
    bytes: int = 0
    undecided: int = 0  # delivered once more, or on their way: the next round tells
    staying: Staying = field(default_factory=Staying)
    trouble: dict[str, Document] = field(default_factory=dict)  # by destination: what is not as delivered

    def close(self) -> None:
        for look in self.looks.values():
            look.close()
        self.looks, self.done, self.batch = {}, set(), {}


@dataclass(slots=True)
class Releasing:
    """One mapping, between its turns."""

    wanted: bool = True  # something may be there to be released
    due: float = 0.0  # monotonic time before which no round begins
    round: Round | None = None
    blocked: str = ""  # why there is none
    failures: int = 0
    error: str = ""
    undecided: int = 0  # rounds in a row
    stayed: int = 0  # rounds in a row that released nothing of what was found
    spec_digest: str = ""
    last: Round = field(default_factory=Round)
    last_at: float | None = None  # Unix seconds: when something was released
    released: int | None = None  # of all files that were delivered
    watched: dict[str, Watched] = field(default_factory=dict)


@dataclass(slots=True)
class Releases:
    """Called by the one worker that has the mapping."""

    context: Context
    _memories: dict[str, Releasing] = field(default_factory=dict)

    def drop(self, mapping: str) -> None:
        memory = self._memories.pop(mapping, None)
        if memory is not None and memory.round is not None:
            memory.round.close()

    # -- one turn

    def turn(self, spec: MappingSpec, deliveries: list[Delivery]) -> None:
        """After everything else of a mapping's turn. Never raises what a destination or the source does."""
        if spec.release is not Release.DELETE_SOURCE:
            self.drop(spec.name)
            return
        memory = self._memories.setdefault(spec.name, Releasing())
        now = self.context.clock.monotonic()
        if any(d.collected.delivered or d.collected.ended or _looked_whole(d) for d in deliveries):
            memory.wanted = True
        if any(d.collected.delivered for d in deliveries) and not memory.failures:
            memory.due = min(memory.due, now + SOON if memory.undecided else now)
        if memory.spec_digest != digest(spec):  # whatever stood in its way may be another now
            self._end(spec, memory)
            memory.spec_digest, memory.wanted, memory.due, memory.stayed = digest(spec), True, now, 0
        memory.blocked = self._blocked(spec, deliveries)
        if memory.blocked:
            self._end(spec, memory)
            return
        if memory.round is None and memory.wanted and now >= memory.due:
            memory.wanted = False
            memory.round = Round(begun=now)
            memory.round.candidates = candidates(self.context, spec, memory.round.staying)
        if memory.round is not None:
            self._go_on(spec, deliveries, memory, memory.round)
        self._say(spec, deliveries, memory)

    def _end(self, spec: MappingSpec, memory: Releasing) -> None:
        """Give up a round; it is begun anew when that is possible."""
        round_, memory.round = memory.round, None
        if round_ is not None:
            round_.close()
            memory.wanted = True
            self._tell_released(spec, memory, round_)

    def _blocked(self, spec: MappingSpec, deliveries: list[Delivery]) -> str:
        """Why nothing is released now: every destination has to be asked."""
        if refusal := self.context.refusal(spec):
            return refusal
        for delivery in deliveries:
            if not delivery.surveys:
                return f"waits for {delivery.destination.name}"
            can = delivery.live_scene.connected.capabilities
            if not (can.inventory and can.digests):
                return f"the server of {delivery.destination.name} cannot tell checksums"
            if delivery.memory.suspects:
                return f"source {delivery.memory.suspects[0].source} is not believed"
        return ""

    def _say(self, spec: MappingSpec, deliveries: list[Delivery], memory: Releasing) -> None:
        """Come back when it is time; meanwhile the mapping is on its way, if it is not long."""
        left = memory.due - self.context.clock.monotonic()
        if memory.round is None and not memory.wanted:
            return
        if memory.round is None:
            self._come_back(spec, max(0.05, left))
        if memory.round is not None or left <= SOON:
            batch = memory.round.batch if memory.round is not None else {}
            number = count(len(batch), "file") if batch else "what is delivered"
            places = ", ".join(delivery.destination.name for delivery in deliveries)
            for delivery in deliveries:
                delivery.found.releasing = f"verifies {number} at {places} to delete it at the source"

    def _come_back(self, spec: MappingSpec, after: float) -> None:
        self.context.queue.add(Key(Kind.MAPPING, spec.name), delay=after)

    # -- a round

    def _go_on(self, spec: MappingSpec, deliveries: list[Delivery], memory: Releasing, round_: Round) -> None:
        try:
            over = self._steps(spec, deliveries, memory, round_)
        except LaneSyncError as error:
            log.warning("not released", mapping=spec.name, why=str(error))
            self._end(spec, memory)
            memory.failures, memory.error = memory.failures + 1, str(error)
            after = delay(memory.failures, FAILED_MIN, FAILED_MAX, random.random())  # noqa: S311
            memory.due = self.context.clock.monotonic() + after
            return
        for delivery in deliveries:
            again = memory.watched.setdefault(delivery.destination.name, Watched())
            if not again.again.empty:
                delivery.memory.pending |= again.again
                again.again = type(again.again)()
                self._come_back(spec, 0.0)
        if over:
            self._conclude(spec, deliveries, memory, round_)

    def _steps(self, spec: MappingSpec, deliveries: list[Delivery], memory: Releasing, round_: Round) -> bool:
        """True when the round is over. Raises what asking a destination raises."""
        clock = self.context.clock
        until = clock.monotonic() + TURN_SECONDS
        while True:
            if not round_.looks:
                more = self._gather(round_, until)
                if not more and not round_.batch:
                    return True
            if not round_.looks and round_.batch:
                for delivery in deliveries:
                    round_.looks[delivery.destination.name] = self._look(spec, delivery, memory, round_)
            waits = [self._ask(name, look, round_) for name, look in round_.looks.items()]
            if any(wait is not None for wait in waits):
                self._come_back(spec, min(wait for wait in waits if wait is not None))
                return False
            if round_.looks:
                self._decide(spec, memory, round_)
            if clock.monotonic() >= until:
                self._come_back(spec, 0.0)
                return False

    def _gather(self, round_: Round, until: float) -> bool:
        """Fill the batch. False at the end of the sources."""
        for some in round_.candidates:
            round_.batch.update({candidate.path: candidate for candidate in some})
            if len(round_.batch) >= BATCH or self.context.clock.monotonic() >= until:
                return True
        return False

    def _look(self, spec: MappingSpec, delivery: Delivery, memory: Releasing, round_: Round) -> Look:
        """At the files of the batch, with their contents."""
        name, ledger = delivery.destination.name, self.context.state.ledger
        lanes = self.context.desired.lanes_of(delivery.destination)
        overwrite = effective(spec, delivery.destination, lanes).overwrite
        before = memory.last.trouble.get(name, {})
        watched = memory.watched.setdefault(name, Watched())
        look = new_look(delivery.live_scene, spec, overwrite, before, True, watched)
        look.only = frozenset(round_.batch)
        asked = places(round_.batch, lambda directory: ledger.count(spec.name, name, directory))
        look.listing = Listing(asked, checksum=True)
        return look

    def _ask(self, name: str, look: Look, round_: Round) -> float | None:
        """Seconds after which to ask again; None when it has told all."""
        if name not in round_.done and look.turn():
            round_.done.add(name)
        return None if name in round_.done else look.listing.wait

    def _decide(self, spec: MappingSpec, memory: Releasing, round_: Round) -> None:
        """Every destination has told of the batch."""
        now, sure = self.context.clock.time(), dict(round_.batch)
        for name, look in round_.looks.items():
            tally, missing = look.tally, len(sure.keys() - look.confirmed)
            round_.undecided += max(0, missing - tally.differing - tally.unverified)
            if tally.unverified:
                first = next(n.path for n in tally.named if n.what == "not verified")
                round_.staying.add(f"{name} tells no checksum", first, tally.unverified)
            if tally.differing:
                first = next(n.path for n in tally.named if n.what != "not verified")
                round_.staying.add(f"{name} does not have it as it was delivered", first, tally.differing)
                document = document_of(look, now)
                document |= rounds_of(spec, look, memory.last.trouble.get(name, {}), now)
                round_.trouble[name] = document
            sure = {path: found for path, found in sure.items() if path in look.confirmed}
        round_.close()
        done = delete_at_source(self.context, spec, list(sure.values()))
        round_.files, round_.bytes = round_.files + done.files, round_.bytes + done.bytes
        round_.undecided += done.changed
        for path, why in done.failed:
            round_.staying.add(why, path)

    def _conclude(
        self, spec: MappingSpec, deliveries: list[Delivery], memory: Releasing, round_: Round
    ) -> None:
        now = self.context.clock.monotonic()
        memory.round, memory.last, memory.failures, memory.error = None, round_, 0, ""
        memory.undecided = memory.undecided + 1 if round_.undecided else 0
        memory.stayed = memory.stayed + 1 if round_.staying.found and not round_.files else 1
        after = 0.0
        if any(d.found.in_flight for d in deliveries):
            after = max(SOON, 10 * (now - round_.begun))  # the sources are not read all the time
        if round_.staying.sentinels and round_.files:
            memory.wanted = True
        elif round_.undecided:
            memory.wanted = True
            after = max(after, SOON if memory.undecided <= UNDECIDED_MAX else LATER)
        elif round_.staying.found:
            memory.wanted = True
            after = max(after, delay(memory.stayed, FAILED_MIN, FAILED_MAX, random.random()))  # noqa: S311
        memory.due = now + after
        self._tell_released(spec, memory, round_)

    def _tell_released(self, spec: MappingSpec, memory: Releasing, round_: Round) -> None:
        if round_.files or memory.released is None:
            memory.released = self.context.state.released.count(spec.name, spec.destinations[0])
        if not round_.files:
            return
        now, key, revision = (
            self.context.clock.time(),
            Key(Kind.MAPPING, spec.name),
            self.context.desired.revision,
        )
        memory.last_at = now
        files, size = count(round_.files, "file"), format_size(round_.bytes)
        text = f"deleted {files} ({size}) at the source: verified at {', '.join(spec.destinations)}"
        log.info("released", mapping=spec.name, files=round_.files, bytes=round_.bytes)
        self.context.state.events.tell(now, key, "Normal", "Released", text, revision)
        act = Act(now, str(key), "release", revision, files=round_.files, bytes=round_.bytes, reason=text)
        self.context.state.audit.add(act)

    # -- what is told

    def tell(self, spec: MappingSpec, report: Report) -> None:
        """Into the report of the turn."""
        memory = self._memories.get(spec.name)
        if memory is None:
            return
        last, now = memory.last, self.context.clock.time()
        report.detail["release"] = {
            "released": memory.released or 0,
            "lastReleased": memory.last_at,
            "verifying": len(memory.round.batch) if memory.round is not None else 0,
            "waitsFor": memory.blocked or None,
            "stays": [{"why": w, "files": n, "path": path} for w, (n, path) in last.staying.found.items()],
        }
        if spec.drift.policy is not DriftPolicy.IGNORE:
            for name, found in last.trouble.items():
                if is_open(found):
                    text = drift_text(spec, name, found, {}, now)
                    report.add(ConditionType.DRIFTED, reason_of(found, {}), text)
        if stays := last.staying.found:
            number = sum(files for files, _ in stays.values())
            why, (_, path) = next(iter(stays.items()))
            text = f"{count(number, 'file')} not deleted at the source: {path} ({why})"
            report.add(ConditionType.LIMITED, Reason.NOT_RELEASED, f"{text}; tried again")
        if memory.error:
            text = f"nothing is deleted at the source for now: {memory.error}; trying on"
            report.add(ConditionType.LIMITED, Reason.NOT_RELEASED, text)


def _looked_whole(delivery: Delivery) -> bool:
    return delivery.surveyed is not None and not delivery.surveyed.changes.partial
