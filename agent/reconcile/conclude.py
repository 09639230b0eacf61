"""How a mapping is doing after one reconcile: the outcome of its deliveries, its conditions, when next."""

from __future__ import annotations

from dataclasses import replace

from agent.model.condition import ConditionType, Reason
from agent.model.outcome import Done, Outcome, Stalled, Wait
from agent.model.spec import Hooks, Key, Kind, MappingSpec
from agent.planning.unsupported import unsupported_of_mapping
from agent.planning.words import count
from agent.reconcile.context import Context
from agent.reconcile.delivery import describe, judge, message
from agent.reconcile.destination import unsupported_text
from agent.reconcile.names import tell_names
from agent.reconcile.one_delivery import Delivery
from agent.reconcile.overdue import next_overdue, overdue
from agent.reconcile.receipts import report_receipts
from agent.reconcile.report import Report
from agent.reconcile.sets import report_left_out
from agent.reconcile.sources import Sources
from agent.reconcile.suspension import suspension_ends
from agent.reconcile.turns import next_turn, turn_document, turn_text

LONGEST_PAUSE = 86_400.0
"""Seconds after which a mapping has its turn, whatever it waits for."""


def conclude(
    context: Context, sources: Sources, spec: MappingSpec, deliveries: list[Delivery], report: Report
) -> Outcome:
    """Say in the report how the mapping is doing, and return what that means for its next turn."""
    now = context.clock.time()
    judged = []
    for delivery in deliveries:
        status = context.board.get(Key(Kind.DESTINATION, delivery.destination.name))
        delivery.found.full = status is not None and bool(status.detail.get("full"))
        if status is not None and not status.detail.get("connected"):
            delivery.found.destination_error = str(status.detail.get("lastError") or "")
        judged.append((_named(spec, delivery, judge(delivery.found, now)), delivery))
    report.detail = {
        "destinationPath": spec.destination_path,
        "sources": [entry.source for entry in spec.paths],
        "deliveries": [describe(d.found, d.memory, spec) for d in deliveries],
        "watch": sources.document(spec),
        **turn_document(context, spec),
    }
    outcome, delivery = min(judged, key=lambda pair: _weight(pair[0]))
    said = _said(spec, delivery, outcome, now)
    report.message = said or _in_sync_text(spec, deliveries) + turn_text(context, spec)
    for other, _ in judged:
        if isinstance(other, Stalled) and not isinstance(outcome, Stalled):
            report.add(ConditionType.STALLED, other.reason, other.message)
    for reason, text in sources.degraded(spec):
        report.add(ConditionType.WATCH_DEGRADED, reason, text)
    for reason, text in overdue(spec, deliveries, sources.overdue(spec.name), now):
        report.add(ConditionType.LIMITED, reason, text)
    beyond: dict[str, None] = {}
    for delivery in deliveries:
        if delivery.scene is not None:
            connected = delivery.scene.connected
            if found := unsupported_of_mapping(spec, connected.capabilities):
                beyond[unsupported_text(connected, found)] = None
    for text in beyond:
        report.add(ConditionType.LIMITED, Reason.UNSUPPORTED, text)
    report_left_out((delivery.memory.left_out.text() for delivery in deliveries), report)
    report_receipts(deliveries, report)
    tell_names(spec, dict.fromkeys(problem for d in deliveries for problem in d.memory.names), report)
    if spec.hooks != Hooks() and (failing := context.state.hooks.failing(spec.name)) is not None:
        report.add(ConditionType.LIMITED, Reason.HOOK_FAILED, f"{failing.last_error}; trying on")
    for suspended in {d.found.suspended for d in deliveries if d.found.suspended is not None}:
        report.add(ConditionType.SUSPENDED, suspended.reason, suspended.text)
    return _with_next(outcome, _next_in(context, spec, deliveries))


def _at(spec: MappingSpec, delivery: Delivery, text: str) -> str:
    """With several destinations a trouble is that of one of them: which?"""
    name = delivery.destination.name
    return f"{name}: {text}" if len(spec.destinations) > 1 else text


def _said(spec: MappingSpec, delivery: Delivery, outcome: Outcome, now: float) -> str:
    text = message(delivery.found, delivery.memory, spec, outcome, now)
    retrying = isinstance(outcome, Wait) and outcome.reason is Reason.RETRYING
    return _at(spec, delivery, text) if retrying else text


def _named(spec: MappingSpec, delivery: Delivery, outcome: Outcome) -> Outcome:
    if isinstance(outcome, Stalled) and outcome.reason is not Reason.SOURCE_SUSPECT:  # that one is of all
        return replace(outcome, message=_at(spec, delivery, outcome.message))
    return outcome


def _next_in(context: Context, spec: MappingSpec, deliveries: list[Delivery]) -> float:
    now = context.clock.monotonic()
    reachable = [d.memory.survey_due - now for d in deliveries if d.surveys]
    ends = suspension_ends(context, spec)
    turn = next_turn(context, spec)
    wall = context.clock.time()
    times = [at - wall for at in (ends, turn, *next_overdue(spec, deliveries, wall)) if at is not None]
    soonest = min([*reachable, *times], default=LONGEST_PAUSE)
    return min(max(0.05, soonest), LONGEST_PAUSE)


def _weight(outcome: Outcome) -> int:
    """Which of several deliveries speaks for the mapping: what moves, then what waits, then what stands."""
    match outcome:
        case Wait(reason=Reason.TRANSFERRING):
            return 0
        case Wait(reason=Reason.DEPENDENCY_NOT_READY | Reason.SUSPENDED_IN_SPEC | Reason.SUSPENDED_LOCALLY):
            return 3
        case Wait():
            return 1
        case Stalled():
            return 2
        case _:
            return 4


def _with_next(outcome: Outcome, next_in: float) -> Outcome:
    match outcome:
        case Done():
            return Done(next_in)
        case Wait(reason=reason, next_in=sooner):
            return Wait(reason, next_in if sooner is None else min(sooner, next_in))
        case Stalled(reason=reason, message=text, next_in=sooner):
            return Stalled(reason, text, next_in if sooner is None else min(sooner, next_in))
        case _:
            return outcome


def _in_sync_text(spec: MappingSpec, deliveries: list[Delivery]) -> str:
    places = ", ".join(d.destination.name for d in deliveries)
    origin = spec.paths[0].source if len(spec.paths) == 1 else f"{len(spec.paths)} sources"
    return f"{count(max(d.memory.files for d in deliveries), 'file')} at {places}, from {origin}"
