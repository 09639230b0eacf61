"""The plan document: the plan of everything, how long it will take, and what it was made from."""

from __future__ import annotations

import hashlib

from agent.model.plan import DeletePaths, Plan, StartTransfer
from agent.model.spec import DesiredState, DestinationSpec
from agent.planning.describe import EXAMPLES, plan_document
from agent.planning.effective import effective
from agent.planning.eta import Estimate, Flow, Link, estimate
from agent.planning.windows import limited
from agent.reconcile.agent import Agent
from agent.reconcile.context import Context
from agent.reconcile.document import Document
from agent.reconcile.preview import plan_digest, preview, sent_digest

MAX_LIMIT = 100_000
"""Most paths of one list in a plan document."""

RECENT = 20
"""So many deliveries to a destination tell how fast it is."""

LEAST_BYTES, LEAST_SECONDS = 1 << 20, 0.05
"""Smaller and shorter ones tell nothing about a link."""


def planned(
    agent: Agent,
    desired: DesiredState,
    limit: int = 0,
    reasons: bool = False,
    still: frozenset[str] | None = None,
) -> Document:
    """`limit`: so many paths of each list, 0 = the usual few; `still` as for `preview`."""
    context = agent.context
    examples = min(limit, MAX_LIMIT) if limit else EXAMPLES
    plan = preview(context, desired, agent.mappings.recent_deletions, examples, still)
    estimates = _estimates(context, desired, plan)
    return {
        **plan_document(plan, examples, reasons=reasons, estimates=estimates),
        "revision": desired.revision,
        "ledger": ledger_digest(context),
        "source": source_digest(plan),
        "digest": plan_digest(plan),
    }


def source_digest(plan: Plan) -> str:
    """Identity of what the source holds that the plan is about: versions to send, and paths that are gone."""
    found = hashlib.sha256()
    for action in plan.actions:
        if isinstance(action, StartTransfer):
            found.update(sent_digest(action).encode())
        elif isinstance(action, DeletePaths):
            found.update(repr((action.files, action.directories)).encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:16]


def ledger_digest(context: Context) -> str:
    """Identity of what has been delivered: it changes with every delivery and deletion."""
    found = hashlib.sha256(str(context.state.audit.last_attempt()).encode())
    for total in context.state.ledger.totals():
        found.update(repr(total).encode())
    return found.hexdigest()[:16]


def _estimates(context: Context, desired: DesiredState, plan: Plan) -> dict[tuple[str, str], Estimate]:
    """By mapping and destination, of what the plan sends."""
    found: dict[tuple[str, str], Estimate] = {}
    starts = [action for action in plan.actions if isinstance(action, StartTransfer)]
    for name in dict.fromkeys(start.destination for start in starts):
        spec = desired.destinations[name]
        flows = _running(context, desired, spec)
        flows += [
            Flow(start.mapping, start.lane, start.priority, start.send_rate_max, start.total_bytes, True)
            for start in starts
            if start.destination == name
        ]
        link = Link(limited(spec, context.clock.time()).send_rate_max, _measured(context, name))
        lanes = tuple((lane.name, lane.share) for lane in desired.lanes_of(spec))
        for mapping, guess in estimate(lanes, link, tuple(flows)).items():
            found[mapping, name] = guess
    return found


def _running(context: Context, desired: DesiredState, spec: DestinationSpec) -> list[Flow]:
    """What is on its way to the destination already, as it was last heard of."""
    found = []
    for key in context.mappings_of(spec.name):
        mapping, status = desired.mappings.get(key.name), context.board.get(key)
        if mapping is None or status is None:
            continue
        place = effective(mapping, spec, desired.lanes_of(spec))
        left = [
            max(0, transfer["totalBytes"] - transfer["doneBytes"])
            for delivery in status.detail.get("deliveries", ())
            if delivery["destination"] == spec.name
            for transfer in delivery["transfers"]
        ]
        found += [
            Flow(mapping.name, place.lane, place.priority, place.send_rate_max, size, False) for size in left
        ]
    return found


def _measured(context: Context, destination: str) -> tuple[float, ...]:
    """kbit/s of the newest deliveries to a destination."""
    return tuple(
        act.bytes / act.duration / 125.0
        for act in context.state.audit.acts(key=f"Destination/{destination}", limit=RECENT)
        if act.action == "deliver"
        and act.outcome == "complete"
        and act.bytes >= LEAST_BYTES
        and (act.duration or 0.0) >= LEAST_SECONDS
        and act.duration is not None
    )
