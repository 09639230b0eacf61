"""Reconcile one Mapping, as a checklist for each of its destinations:

resolve the spec → suspended? → destination there? → collect results → change set → approvals → plan (with
safety) → act → conditions → when next

A reconcile never waits for a transfer: what was started reports back as an event that brings the key again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from agent.model.condition import Reason
from agent.model.outcome import (
    NotFoundError,
    Outcome,
    PermanentError,
    Retry,
    RetryableError,
    UnreachableError,
)
from agent.model.plan import DeletePaths, Plan, TrashPaths
from agent.model.spec import Key, Kind, MappingSpec, digest
from agent.planning.backoff import delay
from agent.planning.pace import WHOLE_SHARE
from agent.reconcile.act import Scene, execute
from agent.reconcile.collect import collect
from agent.reconcile.conclude import conclude
from agent.reconcile.context import Context
from agent.reconcile.deciding import plan_for, unwanted_transfers
from agent.reconcile.delivery import RECHECK, Findings, Memory
from agent.reconcile.dependencies import waits_for
from agent.reconcile.destination import sweep_orphans
from agent.reconcile.hooks import settled
from agent.reconcile.looking import look, may_go_on
from agent.reconcile.one_delivery import Delivery
from agent.reconcile.oversight import Oversight
from agent.reconcile.pace import Pace
from agent.reconcile.queue import WHOLE, Hints
from agent.reconcile.receipts import keep_receipts
from agent.reconcile.release import Releases
from agent.reconcile.removal import leave_destinations, remove_mapping
from agent.reconcile.report import Report
from agent.reconcile.sources import Sources
from agent.reconcile.survey_gathered import Survey
from agent.reconcile.survey_places import hints_for
from agent.reconcile.suspension import delivery_suspension
from agent.reconcile.tombstones import next_look
from agent.reconcile.trash import deleted_files
from agent.reconcile.turns import interval_of, remembered, turn_is_due
from agent.reconcile.uncertain import Searches
from agent.state.attempts import Failures

log = structlog.get_logger(__name__)


DAY = 86_400.0
LOOK_COST = 0.002


def _window(spec: MappingSpec) -> float:
    """Seconds within which deletions count as one round."""
    return min(interval_of(spec), DAY)


@dataclass(slots=True)
class Mappings:
    """Reconciles mappings; one worker at a time per key, so a mapping's memory needs no lock."""

    context: Context
    sources: Sources
    once: bool = False  # one pass: everything is looked at, whatever a schedule says
    memories: dict[tuple[str, str], Memory] = field(default_factory=dict)
    oversight: Oversight = field(init=False)
    releases: Releases = field(init=False)
    pace: Pace = field(default_factory=lambda: Pace(WHOLE_SHARE, LOOK_COST))
    searches: Searches = field(init=False)

    def __post_init__(self) -> None:
        self.oversight = Oversight(self.context)
        self.releases = Releases(self.context)
        self.searches = Searches(self.context)

    def reconcile(self, name: str, hints: Hints, report: Report) -> Outcome:
        spec, begun = self.context.desired.mappings.get(name), time.thread_time()
        if spec is None:
            self._drop_memory(name)
            return remove_mapping(self.context, name, report)
        deliveries = [self._delivery(spec, destination, hints) for destination in spec.destinations]
        for delivery in deliveries:
            self._guarded(delivery, lambda d: self._collect(spec, d))
        for delivery in deliveries:
            self.oversight.adopt(spec, delivery)
        look(self.context, spec, [d for d in deliveries if d.surveys])
        self._set_pace(spec, deliveries)
        for delivery in deliveries:
            self._guarded(delivery, lambda d: self._act(spec, d))
            self.searches.turn(spec, delivery)
            self.oversight.look(spec, delivery)
        for delivery in deliveries:
            self._guarded(delivery, lambda d: keep_receipts(self.context, spec, d))
            settled(self.context, spec, delivery.destination.name, delivery.found.in_flight)
        self.releases.turn(spec, deliveries)
        outcome = conclude(self.context, self.sources, spec, deliveries, report)
        self.oversight.tell(spec, deliveries, report)
        self.releases.tell(spec, report)
        self._note_cost(spec, deliveries, time.thread_time() - begun)
        report.detail["looks"] = self._looks_document(spec, deliveries)
        waiting = leave_destinations(self.context, spec)
        return Retry(f"being removed at {', '.join(waiting)}", Reason.PROGRESSING) if waiting else outcome

    def _set_pace(self, spec: MappingSpec, deliveries: list[Delivery]) -> None:
        """Where every change is told, and nobody wrote how often, whole looks at many take longer turns."""
        trigger, now = spec.trigger, self.context.clock.monotonic()
        if not any(d.looked or d.memory.look_interval > interval_of(spec) for d in deliveries):
            return
        kept = trigger.interval is None or trigger.interval_written or not trigger.watch or self.once
        if kept or trigger.interval is None or self.sources.degraded(spec):
            for delivery in deliveries:
                memory = delivery.memory
                if memory.look_interval > interval_of(spec):  # it was told until now
                    memory.survey_due = min(memory.survey_due, now + interval_of(spec))
                memory.look_interval = interval_of(spec)
            return
        count = len(self.context.desired.mappings)
        for delivery in deliveries:
            memory = delivery.memory
            if delivery.looked:
                first = memory.look_interval == 0.0
                memory.survey_due = now + self.pace.next(trigger.interval, count, first=first)
                memory.look_interval = self.pace.interval(trigger.interval, count)

    def _note_cost(self, spec: MappingSpec, deliveries: list[Delivery], seconds: float) -> None:
        """What looks cost that find nothing to do; those that do are paid for by what they send."""
        self.oversight.note_cost(spec, deliveries, seconds)
        for delivery in deliveries:
            if delivery.looked and delivery.surveyed is not None:
                memory = delivery.memory
                memory.look_cost += seconds / len(deliveries)
                if memory.walk is None:
                    if not (delivery.surveyed.changes.changes or delivery.found.in_flight):
                        self.pace.note(memory.look_cost * len(deliveries))
                    memory.look_cost = 0.0

    def _looks_document(self, spec: MappingSpec, deliveries: list[Delivery]) -> dict[str, float | None]:
        """Seconds between two looks at the source, and at the destination; None = never by an interval."""
        whole = max((d.memory.look_interval for d in deliveries), default=0.0) or interval_of(spec)
        return {"source": None if math.isinf(whole) else whole, "destination": self.oversight.every(spec)}

    def _drop_memory(self, name: str) -> None:
        for pair in [pair for pair in self.memories if pair[0] == name]:
            del self.memories[pair]
        self.oversight.drop(name)
        self.releases.drop(name)
        self.searches.drop(name)

    def recent_deletions(self, spec: MappingSpec, destination: str) -> int:
        memory = self.memories.get((spec.name, destination))
        now = self.context.clock.monotonic()
        return memory.recent_deletions(now, _window(spec)) if memory is not None else 0

    # -- one step each

    def _delivery(self, spec: MappingSpec, destination: str, hints: Hints) -> Delivery:
        """Suspended? Destination there? Hints are kept until they have been looked at."""
        context = self.context
        memory = self.memories.get((spec.name, destination))
        if memory is None:
            memory = remembered(context, spec, destination, self.once)
            self.memories[spec.name, destination] = memory
        memory.pending |= hints
        found = Findings(destination, suspended=delivery_suspension(context, spec, destination))
        found.blocked_by = waits_for(context, spec)
        delivery = Delivery(context.desired.destinations[destination], memory, found)
        self._due(spec, destination, memory)
        connected, server = context.reached(delivery.destination), delivery.destination.server
        if connected is not None and context.doubts.turned_away(server, Key(Kind.MAPPING, spec.name)):
            found.reachable, found.blocked_by = False, f"Server/{server}"
        elif connected is None or context.destination_id(destination, connected) is None:
            found.reachable = False
            found.blocked_by = f"Destination/{destination}"
        else:
            delivery.scene = Scene(context, connected, delivery.destination)
        return delivery

    def _guarded(self, delivery: Delivery, step: Callable[[Delivery], None]) -> None:
        """A destination that fails does not hold up the others."""
        if delivery.scene is None or delivery.found.error:
            return
        try:
            step(delivery)
        except RetryableError as error:
            if isinstance(error, UnreachableError):
                self.context.doubt(delivery.destination.server)
            delivery.found.error = str(error) or type(error).__name__
            log.warning("will try again", destination=delivery.destination.name, error=delivery.found.error)
        except PermanentError as error:
            delivery.found.error = str(error) or type(error).__name__
            # What is refused while the destination is not yet as specified may be right once it is.
            delivery.found.needs_person = self._as_specified(delivery.destination.name)
            log.warning("needs a person", destination=delivery.destination.name, error=delivery.found.error)

    def _as_specified(self, destination: str) -> bool:
        status = self.context.board.get(Key(Kind.DESTINATION, destination))
        current = self.context.desired.revision
        return status is not None and status.ready and status.revision == current

    def _collect(self, spec: MappingSpec, delivery: Delivery) -> None:
        memory, connected = delivery.memory, delivery.live_scene.connected
        sweep_orphans(self.context, connected, spec.name, delivery.destination.name)
        delivery.collected = collect(self.context, connected, spec.name, delivery.destination.name)
        self._note_failures(spec, delivery)
        memory.pending |= WHOLE if delivery.collected.lost else hints_for(spec, delivery.collected.emptied)
        execute(delivery.live_scene, Plan(delivery.collected.follow_up))
        if delivery.collected.ended or delivery.collected.delivered:
            memory.pending |= memory.waiting
            memory.waiting = Hints()

    def _due(self, spec: MappingSpec, destination: str, memory: Memory) -> None:
        """A new version of the spec, the interval, the schedule, and the end of a backoff ask for a whole
        survey."""
        now, current = self.context.clock.monotonic(), digest(spec)
        turn = turn_is_due(self.context, spec, destination)
        if memory.spec_digest != current or now >= memory.survey_due or turn:
            memory.pending |= WHOLE
            memory.spec_digest = current

    def _note_failures(self, spec: MappingSpec, delivery: Delivery) -> None:
        context, collected = self.context, delivery.collected
        key = (spec.name, delivery.destination.name)
        before = context.state.attempts.failures(*key, context.desired.revision)
        if collected.failures:
            failed = before.consecutive + 1
            wait = delay(failed, spec.retry.interval, spec.retry.max_interval, random.random())  # noqa: S311
            more = f" (and {len(collected.failures) - 1} more)" if len(collected.failures) > 1 else ""
            before = Failures(failed, context.clock.time() + wait, collected.failures[0] + more)
            context.state.attempts.set_failures(*key, context.desired.revision, before)
            delivery.memory.survey_due = context.clock.monotonic() + wait
            log.warning("delivery failed", mapping=key[0], destination=key[1], error=before.last_error)
        elif collected.ended and before.consecutive and context.clock.time() >= before.next_retry_at:
            delivery.memory.pending |= WHOLE  # a retry may have succeeded: only a whole look can tell
        delivery.found.failures = before

    def _look_at_retry(self, delivery: Delivery) -> None:
        """The end of a back-off that began before this look, or before the agent did, asks for another look:
        only a whole one tells that what failed is over."""
        memory, clock = delivery.memory, self.context.clock
        left = delivery.found.failures.next_retry_at - clock.time()
        if left > 0:
            memory.survey_due = min(memory.survey_due, clock.monotonic() + left)

    def _act(self, spec: MappingSpec, delivery: Delivery) -> None:
        context, memory, found = self.context, delivery.memory, delivery.found
        surveyed = delivery.surveyed or Survey()
        active = tuple(delivery.collected.active)
        if delivery.surveyed is not None and (surveyed.changes.unfinished or not surveyed.changes.partial):
            unwanted = unwanted_transfers(context, spec, delivery.destination.name, active)
            execute(delivery.live_scene, Plan(unwanted))
            active = tuple(t for t in active if t.id not in {cancel.transfer_id for cancel in unwanted})
        now = context.clock.monotonic()
        undecided = not surveyed.changes.unfinished and memory.halves.wait(
            spec, delivery.live_scene.connected, surveyed.changes, now
        )
        plan = plan_for(
            context,
            spec,
            delivery.destination,
            surveyed.changes,
            active,
            found.suspended,
            memory.recent_deletions(now, _window(spec)),
            looked=memory.pending,
            undecided=undecided,
        )
        try:
            execute(delivery.live_scene, plan)
        except NotFoundError as error:
            # Something we relied on is gone from the server: look at everything again.
            memory.pending = WHOLE
            context.queue.add(Key(Kind.DESTINATION, delivery.destination.name), urgent=True)
            raise RetryableError(str(error)) from error
        if delivery.surveyed is not None:
            self._learn(spec, delivery, plan, now, undecided=undecided)
        deleting = [a for a in plan.actions if isinstance(a, DeletePaths | TrashPaths)]
        if deleting and not self._use_up_approvals(spec):
            memory.deletions.append((now, sum(map(deleted_files, deleting))))
        found.held, found.suspects, found.active = memory.held, memory.suspects, active
        found.names = memory.names
        found.deleting = delivery.collected.deleting + len(deleting)
        found.in_flight = context.state.attempts.in_flight_count(spec.name, delivery.destination.name)
        found.settling = self.sources.settling(spec.name) + len(memory.pending.paths)
        found.unsealed = memory.unsealed.count if spec.trigger.sentinel is not None else 0
        found.looking = memory.walk is not None or memory.behind
        if found.looking and delivery.surveys and may_go_on(context, spec, delivery):
            context.queue.add(Key(Kind.MAPPING, spec.name))
        if not (surveyed.changes.partial or surveyed.sliced or surveyed.changes.changes or found.in_flight):
            self._forgive(spec, delivery)
        if delivery.surveyed is not None or delivery.collected.ended:
            memory.files = context.state.ledger.count(spec.name, delivery.destination.name)
            memory.bytes = context.state.ledger.total_bytes(spec.name, delivery.destination.name)

    def _learn(
        self, spec: MappingSpec, delivery: Delivery, plan: Plan, now: float, *, undecided: bool
    ) -> None:
        """What a look found that is to be remembered, and when the next one is due."""
        memory, surveyed = delivery.memory, delivery.surveyed or Survey()
        memory.pending = memory.pending | surveyed.again if undecided else surveyed.again
        memory.waiting |= hints_for(spec, plan.waiting)
        memory.learn(plan, not surveyed.changes.partial)
        whole = not (surveyed.changes.partial or surveyed.sliced)
        memory.left_out.learn(surveyed.left_out, whole=whole)
        if surveyed.unsealed is not None:
            memory.unsealed.learn(surveyed.unsealed, surveyed.looked)
        if plan.suspects:
            memory.survey_due = min(memory.survey_due, now + RECHECK)
        self._look_at_retry(delivery)
        for later in plan.later:
            wait = next_look(spec, later.due, self.context.clock.time())
            memory.survey_due = min(memory.survey_due, now + wait)
        if undecided or not surveyed.again.empty:
            self.context.queue.add(Key(Kind.MAPPING, spec.name), delay=max(spec.trigger.settle, 0.05))

    def _forgive(self, spec: MappingSpec, delivery: Delivery) -> None:
        """A whole look found nothing that is not delivered: what failed before is over."""
        if delivery.surveyed is not None and delivery.found.failures.consecutive:
            self.context.state.attempts.reset_failures(spec.name, delivery.destination.name)
            delivery.found.failures = Failures()

    def _use_up_approvals(self, spec: MappingSpec) -> bool:
        """Deletions that a person approved are no part of what the limits count; true if there were any."""
        key = Key(Kind.MAPPING, spec.name)
        used = self.context.state.approvals.approved(key)
        if used:
            self.context.state.approvals.remove(key)
        return bool(used)
