"""Conditions of one object, gathered during its reconcile and written once at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.model.condition import Condition, ConditionType, Reason
from agent.model.outcome import Done, Outcome, Retry, Stalled, Wait
from agent.model.spec import Key, MappingSpec
from agent.reconcile.context import Context
from agent.reconcile.status import ObjectStatus


@dataclass(slots=True)
class Report:
    """What a reconcile found. `write` turns it, with the outcome, into the object's status."""

    key: Key
    revision: str = ""  # the one in force when the reconcile began
    message: str = ""  # of Ready, when all is well
    detail: dict[str, Any] = field(default_factory=dict)
    request: str = ""  # the newest that this object has acted on
    asked: bool = False  # a person asked for this reconcile
    extra: list[tuple[ConditionType, Reason, str]] = field(default_factory=list)

    def add(self, kind: ConditionType, reason: Reason, message: str) -> None:
        self.extra.append((kind, reason, message))

    def conditions(self, outcome: Outcome, now: float) -> tuple[Condition, ...]:
        return tuple(
            Condition(kind, status, reason, message, now)
            for kind, status, reason, message in [
                *_from_outcome(outcome, self.message),
                *((kind, True, reason, message) for kind, reason, message in self.extra),
            ]
        )

    def write(self, context: Context, outcome: Outcome) -> None:
        now = context.clock.time()
        status = ObjectStatus(
            key=self.key,
            conditions=self.conditions(outcome, now),
            detail={**self.detail, "lastHandledRequest": self.request or None},
            revision=self.revision,
            updated_at=now,
            last_success=now if isinstance(outcome, Done) else None,
        )
        before, after = context.board.write(status)
        if before is None or _facts(before) != _facts(after):
            _record(context, after)
            context.alerts_changed.set()
            _tell_stalled(context, after)


def _facts(status: ObjectStatus) -> set[tuple[ConditionType, bool, Reason]]:
    return {(c.type, c.status, c.reason) for c in status.conditions}


_NOT_LOOKED = (Reason.DEPENDENCY_NOT_READY, Reason.SERVER_UNREACHABLE)
"""Nothing follows for the mapping itself: each start of the agent begins with these."""


def _tell_stalled(context: Context, status: ObjectStatus) -> None:
    """The mapping's hook is to hear of it, once for each reason, however often the agent is started."""
    spec = context.desired.get(status.key)
    if not isinstance(spec, MappingSpec) or spec.hooks.on_stalled is None:
        return
    why, hooks = status.why_not_ready(), context.state.hooks
    if status.stalled is None:
        if why is None or why.status or why.reason not in _NOT_LOOKED:
            hooks.moves(spec.name)
    elif hooks.stalled(
        spec.name, status.revision, status.stalled.reason, status.stalled.message, context.clock.time()
    ):
        context.hooks_changed.set()


def _record(context: Context, status: ObjectStatus) -> None:
    """A change of condition is an event; the status is kept for commands that run without an agent."""
    shown = status.why_not_ready() if not status.ready else status.condition(ConditionType.READY)
    if shown is not None:
        level = "Warning" if status.stalled is not None or shown.reason is Reason.RETRYING else "Normal"
        now, text = context.clock.time(), shown.message or str(shown.type)
        context.state.events.tell(now, status.key, level, str(shown.reason), text, status.revision)


def _from_outcome(outcome: Outcome, message: str) -> list[tuple[ConditionType, bool, Reason, str]]:
    ready, reconciling, stalled = ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED
    match outcome:
        case Done():
            return [(ready, True, Reason.IN_SYNC, message)]
        case Wait(reason=reason):
            return [(ready, False, reason, message), (reconciling, True, reason, message)]
        case Retry(error=error, reason=reason):
            return [(ready, False, reason, error), (reconciling, True, reason, error)]
        case Stalled(reason=reason, message=why):
            return [(ready, False, reason, why), (stalled, True, reason, why)]
