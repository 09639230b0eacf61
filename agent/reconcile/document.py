"""The status document, a documented contract: what `status --output json` and `/api/v1/status` give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.model.condition import Condition, ConditionType, Reason
from agent.model.spec import DesiredState, DestinationSpec, Key, Spec
from agent.planning.windows import in_force
from agent.reconcile.delivered import Delivered
from agent.reconcile.status import ObjectStatus, Overall
from agent.state.overrides import Override

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the document says beside the objects."""

    overall: Overall
    attempted_revision: str
    applied_revision: str
    held_revision: str
    source: Document  # where the specs come from, and how reading them goes
    invalid: Mapping[str, list[str]]  # object or file -> its errors
    agent: Document
    now: float
    labels: Mapping[Key, Mapping[str, str]] = field(default_factory=dict)
    positions: Mapping[Key, str] = field(default_factory=dict)  # file:line
    overrides: Mapping[Key, Override] = field(default_factory=dict)
    desired: DesiredState = field(default_factory=lambda: DesiredState(""))
    oldest: Mapping[tuple[str, str], float] = field(default_factory=dict)  # open attempts, by delivery


def status_document(statuses: Iterable[ObjectStatus], facts: Facts, delivered: Delivered) -> Document:
    objects = [
        {
            **object_document(status),
            "labels": dict(facts.labels.get(status.key, {})),
            "from": facts.positions.get(status.key),
            "suspension": suspension_document(facts.desired.get(status.key), facts.overrides.get(status.key)),
            **_at_this_moment(status, facts),
        }
        for status in statuses
    ]
    return {
        "inSync": facts.overall.state == "inSync",
        "state": str(facts.overall.state),
        "message": facts.overall.message,
        "revision": {
            "attempted": facts.attempted_revision,
            "applied": facts.applied_revision,
            "held": facts.held_revision,
        },
        "source": facts.source,
        "agent": facts.agent,
        "time": facts.now,
        "objects": objects,
        "invalid": {name: list(errors) for name, errors in facts.invalid.items()},
        "delivered": [
            {
                "mapping": mapping,
                "destination": destination,
                "files": tally.files,
                "bytes": tally.bytes,
                "deleted": tally.deleted,
                "paths": tally.named,
            }
            for (mapping, destination), tally in sorted(delivered.all().items())
        ],
        "lastDelivered": [{"time": at, "path": path} for at, path in delivered.last()],
    }


def _at_this_moment(status: ObjectStatus, facts: Facts) -> Document:
    """What changes by itself: how long a delivery has been waiting, what the windows of a destination say."""
    if "deliveries" in status.detail:
        name, deliveries = status.key.name, status.detail["deliveries"]
        oldest = [facts.oldest.get((name, each["destination"])) for each in deliveries]
        return {"deliveries": [{**d, "oldestPending": at} for d, at in zip(deliveries, oldest, strict=True)]}
    spec = facts.desired.get(status.key)
    if not isinstance(spec, DestinationSpec) or not spec.windows:
        return {}
    found = in_force(spec.windows, facts.now)
    window = {"pause": found.pause, "sendRateMaxKbps": found.send_rate_max, "until": found.until}
    return {"window": window}


def suspension_document(spec: Spec | None, override: Override | None) -> Document | None:
    """What holds an object back by intent, in its spec and on this machine; None when nothing does."""
    in_spec = bool(getattr(spec, "suspend", False))
    if not in_spec and override is None:
        return None
    local = None
    if override is not None:
        words = {"author": override.author, "reason": override.reason}
        local = {**words, "since": override.at, "until": override.until}
    return {"inSpec": in_spec, "local": local}


def object_document(status: ObjectStatus) -> Document:
    return {
        "kind": str(status.key.kind),
        "name": status.key.name,
        "ready": status.ready,
        "conditions": [condition_document(condition) for condition in status.conditions],
        "revision": status.revision,
        "updatedAt": status.updated_at,
        "lastSuccess": status.last_success,
        **status.detail,
    }


def condition_document(condition: Condition) -> Document:
    return {
        "type": str(condition.type),
        "status": condition.status,
        "reason": str(condition.reason),
        "message": condition.message,
        "since": condition.since,
    }


def with_invalid(statuses: list[ObjectStatus], invalid: Mapping[Key, str], now: float) -> list[ObjectStatus]:
    """An object whose newest spec is invalid is stalled, although its last good version stays in force."""
    found = {status.key: status for status in statuses}
    for key, error in invalid.items():
        before = found.get(key)
        stalled = Condition(ConditionType.STALLED, True, Reason.INVALID_SPEC, error, now)
        if before is None:
            ready = Condition(ConditionType.READY, False, Reason.INVALID_SPEC, error, now)
            found[key] = ObjectStatus(key, (ready, stalled), updated_at=now)
        else:
            kept = tuple(c for c in before.conditions if c.type is not ConditionType.STALLED)
            found[key] = ObjectStatus(
                key,
                (*kept, stalled),
                before.detail,
                before.revision,
                before.updated_at,
                before.last_success,
            )
    return [found[key] for key in sorted(found)]
