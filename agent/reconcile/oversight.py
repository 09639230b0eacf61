"""When destinations are looked at, what the looks found, and how it is told: adoption, drift, verification.

A look never holds up deliveries and never fails a mapping: what it cannot do is a condition of its own. Only
adoption comes first, because what it takes over is not sent.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from agent.model.condition import ConditionType, Reason
from agent.model.outcome import LaneSyncError
from agent.model.spec import DriftPolicy, Key, Kind, MappingSpec, Overwrite, VerifyMode
from agent.planning.backoff import delay
from agent.planning.drift import hold_back
from agent.planning.effective import effective
from agent.planning.pace import DRIFT_SHARE
from agent.reconcile.act import Scene
from agent.reconcile.adopt import (
    Adoption,
    adopt,
    begin,
    comparable,
    finish,
    give_up,
    left_to_adopt,
    progress,
    refused,
)
from agent.reconcile.context import Context
from agent.reconcile.drift import MAX_REMEMBERED, Look
from agent.reconcile.found import Document, damage_of, document_of, drift_text, is_open, reason_of
from agent.reconcile.one_delivery import Delivery
from agent.reconcile.pace import Pace
from agent.reconcile.queue import Hints
from agent.reconcile.report import Report
from agent.reconcile.survey_places import hints_for
from agent.reconcile.verify import Verifications

log = structlog.get_logger(__name__)

SOON_SECONDS, LOOK_COST = 60.0, 0.005
"""Seconds after a start within which every destination is looked at once, spread at random; and processor
seconds that one such look takes on a small mapping, until it is known better."""

FAILED_MIN, FAILED_MAX = 5.0, 600.0


@dataclass(slots=True)
class Watched:
    """One delivery: what is under way, and when the next look is due (monotonic seconds)."""

    adopted: bool = False
    adoption: Adoption | None = None
    look: Look | None = None
    verifies: bool = False  # the look is a verification: asked for, or by its interval
    requested: bool = False  # a person waits for it
    due: float | None = None
    turned: bool = False  # in this reconcile
    cost: float = 0.0  # processor seconds of the look that goes on
    failures: int = 0
    error: str = ""
    again: Hints = field(default_factory=Hints)  # what a look wants sent again


@dataclass(slots=True)
class Oversight:
    """Called by the one worker that has the mapping; requests come from any thread."""

    context: Context
    requests: Verifications = field(default_factory=Verifications)
    pace: Pace = field(default_factory=lambda: Pace(DRIFT_SHARE, LOOK_COST))
    _watched: dict[tuple[str, str], Watched] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _of(self, mapping: str, destination: str) -> Watched:
        with self._lock:
            return self._watched.setdefault((mapping, destination), Watched())

    def drop(self, mapping: str) -> None:
        with self._lock:
            for pair in [pair for pair in self._watched if pair[0] == mapping]:
                _close(self._watched.pop(pair))

    # -- adoption

    def adopt(self, spec: MappingSpec, delivery: Delivery) -> None:
        """Before the first survey: what is there already. Until that is known nothing is sent."""
        watched = self._of(spec.name, delivery.destination.name)
        if watched.adopted or not delivery.surveys:
            return
        scene = delivery.live_scene
        if watched.adoption is None:
            can = scene.connected.capabilities
            left = left_to_adopt(self.context, spec, delivery.destination.name) if can.inventory else ()
            watched.adopted = not left
            prefixes = comparable(spec, left)
            if not prefixes:
                return  # nothing is left, or its source is not there: that nothing is sent of
            watched.adoption = begin(self.context, spec, can, prefixes)
        try:
            over = adopt(scene, spec, watched.adoption)
        except LaneSyncError as error:
            self._adoption_failed(spec, delivery, watched, error)
            return
        if over:
            watched.adopted = finish(self.context, spec, delivery.destination, watched.adoption)
            watched.adoption = None
            return
        delivery.found.adopting = progress(watched.adoption, delivery.destination.name)
        self._come_back(spec, watched.adoption.listing.wait)

    def _adoption_failed(
        self, spec: MappingSpec, delivery: Delivery, watched: Watched, error: LaneSyncError
    ) -> None:
        if watched.adoption is not None and refused(error, watched.adoption):
            give_up(self.context, spec, delivery.destination, error)
            watched.adopted, watched.adoption = True, None
            return
        delivery.found.adopting = str(error)
        self._come_back(spec, FAILED_MIN)

    # -- looks

    def look(self, spec: MappingSpec, delivery: Delivery) -> None:
        """After everything else of a turn. Never raises what a destination does."""
        watched = self._of(spec.name, delivery.destination.name)
        names = (spec.name, delivery.destination.name)
        if not delivery.surveys or watched.adoption is not None:
            _close(watched)
            self.requests.refuse(*names, _why_not(delivery))
            return
        if not delivery.live_scene.connected.capabilities.inventory:
            self.requests.refuse(*names, "its server cannot tell what is there")
            return
        self._begin(spec, delivery, watched)
        if watched.look is not None and (watched.requested or not self._busy(delivery)):
            self._turn(spec, delivery, watched, watched.look)
        delivery.memory.pending |= watched.again
        if not watched.again.empty:
            self._come_back(spec, 0.0)
        watched.again = Hints()

    @staticmethod
    def _busy(delivery: Delivery) -> bool:
        return bool(delivery.found.in_flight or delivery.found.deleting)

    def _begin(self, spec: MappingSpec, delivery: Delivery, watched: Watched) -> None:
        names = (spec.name, delivery.destination.name)
        if (asked := self.requests.wanted(*names)) is not None:
            _close(watched)
            watched.verifies = watched.requested = True
            watched.look = self._new_look(spec, delivery, watched, asked.checksum)
            self.requests.begun(*names, watched.look)
            return
        if watched.look is not None:
            return
        now = self.context.clock.monotonic()
        if watched.due is None:
            soon = max(SOON_SECONDS, self.pace.round(len(self.context.desired.mappings)))
            watched.due = now + random.random() * min(soon, self._interval(spec))  # noqa: S311
        verification = self._verification_due(spec, delivery.destination.name)
        drifting = spec.drift.policy is not DriftPolicy.IGNORE and now >= watched.due
        if (drifting or verification) and not self._busy(delivery) and now >= self._not_before(watched):
            can = delivery.live_scene.connected.capabilities
            checksum = verification and spec.verify.mode is VerifyMode.CHECKSUM and can.digests
            watched.verifies, watched.requested = verification, False
            watched.look = self._new_look(spec, delivery, watched, checksum)
        elif spec.drift.policy is not DriftPolicy.IGNORE:
            self._come_back(spec, max(0.05, watched.due - now))

    @staticmethod
    def _not_before(watched: Watched) -> float:
        return watched.due if watched.failures and watched.due is not None else 0.0

    def _drift_interval(self, spec: MappingSpec) -> float:
        if spec.drift.interval_written:
            return spec.drift.interval
        return self.pace.interval(spec.drift.interval, len(self.context.desired.mappings))

    def _interval(self, spec: MappingSpec) -> float:
        return min(self._drift_interval(spec), spec.verify.interval or math.inf)

    def every(self, spec: MappingSpec) -> float | None:
        """Seconds between looks at the destination for drift; None = there are none."""
        return None if spec.drift.policy is DriftPolicy.IGNORE else self._drift_interval(spec)

    def note_cost(self, spec: MappingSpec, deliveries: list[Delivery], seconds: float) -> None:
        """Of one reconcile; looks take several."""
        for delivery in deliveries:
            watched = self._of(spec.name, delivery.destination.name)
            if watched.turned:
                watched.turned, watched.cost = False, watched.cost + seconds
                if watched.look is None:
                    self.pace.note(watched.cost)
                    watched.cost = 0.0

    def _verification_due(self, spec: MappingSpec, destination: str) -> bool:
        """By the time of the last one, which is kept over restarts; the first is one interval away."""
        if spec.verify.interval is None:
            return False
        looks, now = self.context.state.looks, self.context.clock.time()
        last = looks.get(spec.name, destination, "verify")
        if last is None:
            looks.put(spec.name, destination, "verify", {"since": now}, now)
            last = {"since": now}
        at = float(last.get("at") or last.get("since") or 0.0)
        left = min(at, now) + spec.verify.interval - now
        if left > 0:
            self._come_back(spec, left)
        return left <= 0

    def _new_look(self, spec: MappingSpec, delivery: Delivery, watched: Watched, checksum: bool) -> Look:
        lanes = self.context.desired.lanes_of(delivery.destination)
        overwrite = effective(spec, delivery.destination, lanes).overwrite
        before = self.context.state.looks.get(spec.name, delivery.destination.name, "drift") or {}
        return new_look(delivery.live_scene, spec, overwrite, before, checksum, watched)

    def _turn(self, spec: MappingSpec, delivery: Delivery, watched: Watched, look: Look) -> None:
        names, watched.turned = (spec.name, delivery.destination.name), True
        try:
            if not look.turn():
                self._come_back(spec, look.listing.wait)
                return
        except LaneSyncError as error:
            log.warning("not looked at", mapping=names[0], destination=names[1], why=str(error))
            self.requests.failed(*names, str(error))
            watched.failures, watched.error = watched.failures + 1, str(error)
            after = delay(watched.failures, FAILED_MIN, FAILED_MAX, random.random())  # noqa: S311
        else:
            document = conclude_look(self.context, spec, look, verifies=watched.verifies)
            self.requests.done(*names, document)
            watched.failures, watched.error = 0, ""
            after = self._drift_interval(spec) * (0.9 + 0.2 * random.random())  # noqa: S311
        _close(watched)
        watched.due = self.context.clock.monotonic() + after
        if spec.drift.policy is not DriftPolicy.IGNORE or watched.failures:
            self._come_back(spec, after)

    def _come_back(self, spec: MappingSpec, after: float) -> None:
        self.context.queue.add(Key(Kind.MAPPING, spec.name), delay=after)

    # -- what is told

    def tell(self, spec: MappingSpec, deliveries: Iterable[Delivery], report: Report) -> None:
        """Into the report of the turn: what the looks found, and where they could not look."""
        for delivery, document in zip(deliveries, report.detail["deliveries"], strict=True):
            document.update(self._described(spec, delivery))
            if (found := self._drifted(spec, delivery)) is not None:
                report.add(ConditionType.DRIFTED, *found)
            watched = self._of(spec.name, delivery.destination.name)
            if watched.error:
                text = f"what is at the destination could not be looked at: {watched.error}; trying on"
                report.add(ConditionType.LIMITED, Reason.NOT_LISTED, text)

    def _described(self, spec: MappingSpec, delivery: Delivery) -> Document:
        names = (spec.name, delivery.destination.name)
        drift = self.context.state.looks.get(*names, "drift")
        verify = self.context.state.looks.get(*names, "verify") or {}
        return {
            "drift": {k: v for k, v in (drift or {}).items() if k != "remembered"} or None,
            "lastVerified": verify.get("at"),
            "verified": verify if verify.get("at") else None,
        }

    def _drifted(self, spec: MappingSpec, delivery: Delivery) -> tuple[Reason, str] | None:
        names, looks = (spec.name, delivery.destination.name), self.context.state.looks
        if spec.drift.policy is DriftPolicy.IGNORE and spec.verify.interval is None:
            return None
        drift, verify = looks.get(*names, "drift") or {}, damage_of(looks.get(*names, "verify") or {})
        moving = self._busy(delivery) or not delivery.memory.pending.empty
        if drift.get("correcting") and not moving and not delivery.found.failures.consecutive:
            drift = {**drift, "correcting": False}
            looks.put(*names, "drift", drift, self.context.clock.time())
        if not is_open(drift) and not is_open(verify):
            return None
        now = self.context.clock.time()
        return reason_of(drift, verify), drift_text(spec, names[1], drift, verify, now)


def new_look(
    scene: Scene, spec: MappingSpec, overwrite: Overwrite, before: Document, checksum: bool, watched: Watched
) -> Look:
    now, remembered = scene.context.clock.time(), set(before.get("remembered") or ())
    held_back = now < float(before.get("correctAfter") or 0.0)
    everything = bool(before.get("rememberedAll"))

    def hold(path: str) -> bool:
        return held_back and (everything or path in remembered)

    def forget(paths: list[str]) -> None:
        watched.again |= hints_for(spec, paths)

    return Look(scene, spec, overwrite, checksum, hold, forget)


def conclude_look(context: Context, spec: MappingSpec, look: Look, *, verifies: bool) -> Document:
    """Remember what was found; tell what is new."""
    destination, now = look.scene.destination.name, context.clock.time()
    before = context.state.looks.get(spec.name, destination, "drift") or {}
    document = document_of(look, now)
    document |= rounds_of(spec, look, before, now)
    context.state.looks.put(spec.name, destination, "drift", document, now)
    if verifies:
        shown = {k: v for k, v in document.items() if k not in ("remembered", "rememberedAll")}
        context.state.looks.put(spec.name, destination, "verify", shown, now)
    log.info("looked at", mapping=spec.name, destination=destination, **_numbers(document))
    if look.tally.differing and (look.tally.corrected or _told(document) != _told(before)):
        text = drift_text(spec, destination, document, {}, now)
        key, reason = Key(Kind.MAPPING, spec.name), str(reason_of(document, {}))
        context.state.events.tell(now, key, "Warning", reason, text, context.desired.revision)
    return document


def rounds_of(spec: MappingSpec, look: Look, before: Document, now: float) -> Document:
    """How often in a row the same was corrected, and until when it is not corrected again."""
    remembered = set(before.get("remembered") or ())
    rounds = int(before.get("rounds") or 0)
    if not look.tally.differing:
        return {"rounds": 0, "correctAfter": None, "remembered": [], "rememberedAll": False}
    if not look.corrected:  # nothing new: what is held back stays so
        return {k: before.get(k) for k in ("rounds", "correctAfter", "remembered", "rememberedAll")}
    again = bool(before.get("rememberedAll")) or any(path in remembered for path in look.corrected)
    rounds = rounds + 1 if again else 1
    return {
        "rounds": rounds,
        "correctAfter": now + hold_back(rounds, spec.drift.interval, random.random()),  # noqa: S311
        "remembered": look.corrected[:MAX_REMEMBERED],
        "rememberedAll": len(look.corrected) > MAX_REMEMBERED,
    }


def _told(document: Document) -> Document:
    """What must differ for another event."""
    return {k: document.get(k) for k in ("missing", "changed", "damaged", "held", "kept", "paths")}


def _numbers(document: Document) -> Document:
    return {name: value for name, value in document.items() if isinstance(value, int) and value}


def _close(watched: Watched) -> None:
    if watched.look is not None:
        watched.look.close()
    watched.look, watched.requested = None, False


def _why_not(delivery: Delivery) -> str:
    found = delivery.found
    if found.suspended is not None:
        return found.suspended.text
    return found.error or found.adopting or f"waits for {found.blocked_by}"
