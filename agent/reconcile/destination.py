"""Reconcile one Destination: it exists on its server with the right lanes, rate and defaults.

resolve the spec → suspended? → server reached? → observe → duplicates and strays → plan → act → conditions
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import structlog

from agent.engines.port import Holding, Knocking
from agent.model.condition import ConditionType, Reason
from agent.model.observed import EngineState, ObservedDestination, ObservedTransfer
from agent.model.outcome import Done, NotFoundError, Outcome, PermanentError, Stalled, Wait
from agent.model.plan import Plan
from agent.model.spec import DestinationSpec, Key, Kind, MappingSpec, OnRemove
from agent.planning.destination import plan_destination, plan_destination_removal
from agent.planning.unsupported import unsupported_of_destination
from agent.planning.windows import in_force, limited
from agent.reconcile.act import Scene, execute
from agent.reconcile.context import Connected, Context
from agent.reconcile.report import Report
from agent.reconcile.suspension import suspension

log = structlog.get_logger(__name__)

INTERVAL = 60.0
"""Seconds between two looks at a destination that is as it should be."""

TOGETHER = 20
"""So many destinations of one server are looked at within an interval."""

REMOVAL_INTERVAL = 5.0
UNREACHABLE_INTERVAL = 5.0


def reconcile_destination(context: Context, name: str, report: Report) -> Outcome:
    spec = context.desired.destinations.get(name)
    if spec is None:
        return _remove(context, name, report)
    connected = context.connected(spec.server)
    if connected is None or context.doubts.turned_away(spec.server, report.key):
        report.message = f"waits for Server/{spec.server}"
        return Wait(Reason.DEPENDENCY_NOT_READY)
    state = connected.engine.observe(context.state.agent_id)
    observed = own_destination(state, report.key)
    _sweep(context, connected, state, observed, name)
    if refused := context.refusal(spec):
        if observed is not None:  # what runs there is suspended by its mappings
            context.set_destination_id(name, connected, observed.id)
        return Stalled(Reason.REFUSED_BY_POLICY, refused, INTERVAL)
    plan = plan_destination(
        limited(spec, context.clock.time()),
        context.desired.lanes_of(spec),
        observed,
        context.tag(report.key),
        state.transfers,
    )
    # Mappings wait for the id on this connection: those that came before us are woken, plan or no plan.
    known = observed is not None and context.destination_id(name, connected) == observed.id and plan.empty
    if observed is not None:
        context.set_destination_id(name, connected, observed.id)
    execute(Scene(context, connected, spec), plan)
    if not known:
        for key in context.mappings_of(name):
            context.queue.add(key)
    _describe(context, spec, observed, report)
    _limits(context, connected, spec, observed, report)
    _hold(context, connected, spec, observed, report)
    _wake_if_changed(context, report)
    if observed is not None and observed.refused and not observed.connected:
        if not _works(observed, state):
            _knock(context, connected, observed, report)
        return Stalled(Reason.AUTHENTICATION_FAILED, _refusal(observed.last_error), UNREACHABLE_INTERVAL)
    context.knocks.over(name)
    if observed is not None and observed.full and _works(observed, state):
        report.message = f"{spec.place}: {observed.last_error}"
        return Wait(Reason.NO_SPACE, UNREACHABLE_INTERVAL)
    if observed is not None and _unreachable(observed, state):
        report.message = observed.last_error
        return Wait(Reason.DESTINATION_UNREACHABLE, UNREACHABLE_INTERVAL)
    return Done(_next_in(spec, len(state.destinations), context.clock.time()))


def _next_in(spec: DestinationSpec, others: int, now: float) -> float:
    """Seconds to the next look: at the latest when a window begins or ends. Each look is told of all
    destinations of its server, so where there are many they take longer turns; changes are told anyway."""
    edge, interval = in_force(spec.windows, now).until, INTERVAL * max(1.0, others / TOGETHER)
    return interval if edge is None else max(0.05, min(interval, edge - now))


def _refusal(error: str) -> str:
    """What the server says names its own parameters; the spec has other words for them."""
    return f"{error}; the spec names it in `identity.publicKey`" if "destinationPublicKey" in error else error


def _knock(context: Context, connected: Connected, observed: ObservedDestination, report: Report) -> None:
    """Nothing is to be sent, so nobody else would find out that it lets us in again."""
    engine, now = connected.engine, context.clock.monotonic()
    if isinstance(engine, Knocking) and context.knocks.due(report.key.name, now, asked=report.asked):
        with contextlib.suppress(PermanentError):
            engine.knock(observed.id)


def _unreachable(observed: ObservedDestination, state: EngineState) -> bool:
    """Something waits to be sent there and nobody answers. (Without work nobody tries.)"""
    return _works(observed, state) and not observed.connected and bool(observed.last_error)


def _works(observed: ObservedDestination, state: EngineState) -> bool:
    return any(t.destination_id == observed.id and t.state.active for t in state.transfers)


def preview_destination(context: Context, spec: DestinationSpec, state: EngineState) -> Plan:
    """The plan that reconciling would carry out now, its server being as observed; nothing is changed."""
    key = Key(Kind.DESTINATION, spec.name)
    lanes = context.desired.lanes_of(spec)
    now = limited(spec, context.clock.time())
    return plan_destination(now, lanes, own_destination(state, key), context.tag(key), state.transfers)


def own_destination(state: EngineState, key: Key) -> ObservedDestination | None:
    """The destination that carries this spec's tag; the oldest, should a crash have made two."""
    mine = [d for d in state.destinations if d.tag is not None and d.tag.spec == str(key)]
    return min(mine, key=lambda d: (len(d.id), d.id), default=None)


def sweep_orphans(context: Context, connected: Connected, mapping: str, destination: str) -> None:
    """A mapping is back before the transfers that it had left to themselves have ended: they would bring the
    same paths as those that it begins now."""
    if (mapping, destination) in context.orphaned:
        state = connected.engine.observe(context.state.agent_id)
        observed = own_destination(state, Key(Kind.DESTINATION, destination))
        _sweep(context, connected, state, observed, destination)
        context.orphaned.discard((mapping, destination))


def _sweep(
    context: Context,
    connected: Connected,
    state: EngineState,
    observed: ObservedDestination | None,
    destination: str,
) -> None:
    """Remove what a lost answer left behind: transfers of attempts that were closed meanwhile."""
    if observed is None:
        return
    for transfer in state.transfers:
        if transfer.destination_id == observed.id and _stray(context, transfer, destination):
            log.info("stray transfer removed", transfer=transfer.id, state=str(transfer.state))
            if transfer.state.finished:
                connected.engine.forget(transfer.id, transfer.manifest_id)
            else:
                connected.engine.cancel(transfer.id, "the agent has no record of this attempt")


def _stray(context: Context, transfer: ObservedTransfer, destination: str) -> bool:
    """Ours, of no attempt that is open, and over or of a mapping that is still wanted: what a mapping left
    behind by `onRemove: orphan` goes on to its end."""
    if transfer.tag is None:
        return False
    attempt = context.state.attempts.get(transfer.tag.attempt)
    if attempt is not None and attempt.destination == destination:
        return False
    return transfer.state.finished or transfer.tag.spec in {
        str(Key(Kind.MAPPING, name)) for name in context.desired.mappings
    }


def _describe(
    context: Context, spec: DestinationSpec, observed: ObservedDestination | None, report: Report
) -> None:
    lanes = context.desired.lanes_of(spec)
    report.detail = {
        "server": spec.server,
        "address": spec.address,
        "port": spec.port,
        "sendRateMaxKbps": limited(spec, context.clock.time()).send_rate_max,
        "lanes": [{"name": lane.name, "share": lane.share} for lane in lanes],
        "connected": bool(observed and observed.connected),
        "lastError": observed.last_error if observed else "",
        "full": bool(observed and observed.full),
    }
    if spec.control_server is not None:
        report.detail["controlled"] = context.connected(spec.control_server) is not None
    report.message = f"{spec.place} by Server/{spec.server}"
    suspended = suspension(context, spec)
    if suspended is not None:
        report.add(ConditionType.SUSPENDED, suspended.reason, suspended.text)


def _limits(
    context: Context,
    connected: Connected,
    spec: DestinationSpec,
    observed: ObservedDestination | None,
    report: Report,
) -> None:
    """What the engine cannot do, and what it has to say."""
    beyond = unsupported_of_destination(spec, connected.capabilities)
    if beyond:
        report.add(ConditionType.LIMITED, Reason.UNSUPPORTED, unsupported_text(connected, beyond))
    control = spec.control_server
    if control is not None and context.connected(control) is None:
        text = f"waits for Server/{control} to delete, rename and look there; files are sent meanwhile"
        report.add(ConditionType.LIMITED, Reason.DEPENDENCY_NOT_READY, text)
    for notice in observed.notices if observed is not None else ():
        report.add(ConditionType.LIMITED, notice.reason, notice.message)


def unsupported_text(connected: Connected, beyond: Iterable[str]) -> str:
    return f"with engine {connected.spec.engine} {'; '.join(beyond)}"


def _hold(
    context: Context,
    connected: Connected,
    spec: DestinationSpec,
    observed: ObservedDestination | None,
    report: Report,
) -> None:
    """A person's suspension is the server's, too, where the engine can hold a destination there. A window's
    pause is not: it comes and goes every day."""
    engine = connected.engine
    if observed is None or not isinstance(engine, Holding) or not connected.capabilities.hold:
        return
    suspended = suspension(context, spec)
    held = suspended is not None and suspended.reason is not Reason.OUTSIDE_WINDOW
    text = engine.hold(observed.id, held)
    if text and suspended is not None:
        report.extra = [e for e in report.extra if e[0] is not ConditionType.SUSPENDED]
        report.add(ConditionType.SUSPENDED, suspended.reason, f"{suspended.text}; {text}")


def heard(detail: dict[str, Any]) -> tuple[Any, ...]:
    """What a mapping says of its destination. A session that ends for want of work is no news: with each look
    there it comes and goes."""
    trouble = "" if detail.get("connected") else detail.get("lastError") or ""
    return trouble, detail.get("full"), detail.get("controlled")


def _wake_if_changed(context: Context, report: Report) -> None:
    """Mappings say whether their destination answers, and wait for its control server; they must hear when
    that changes."""
    before = context.board.get(report.key)
    if before is not None and heard(before.detail) != heard(report.detail):
        for key in context.mappings_of(report.key.name):
            context.queue.add(key)


def _remove(context: Context, name: str, report: Report) -> Outcome:
    """The spec is gone: carry out the `onRemove` of its last applied version."""
    context.knocks.over(name)
    applied = context.state.specs.get(report.key)
    spec = applied.spec if applied is not None else None
    if not isinstance(spec, DestinationSpec):
        return Done()
    users = [m.name for m in context.removing() if isinstance(m, MappingSpec) and name in m.destinations]
    if users:
        report.message = f"waits for Mapping/{users[0]} to be removed"
        return Wait(Reason.PROGRESSING, REMOVAL_INTERVAL)
    connected = context.connected(spec.server)
    if connected is None and spec.on_remove is not OnRemove.ORPHAN:
        report.message = f"waits for Server/{spec.server} to be removed there"
        return Wait(Reason.PROGRESSING, REMOVAL_INTERVAL)
    if connected is not None:
        state = connected.engine.observe(context.state.agent_id)
        observed = own_destination(state, report.key)
        transfers = tuple(t for t in state.transfers if observed and t.destination_id == observed.id)
        plan = plan_destination_removal(name, spec.on_remove, observed, transfers)
        try:
            execute(Scene(context, connected, spec), plan)
        except NotFoundError:
            pass  # gone already is what we wanted
    return Done()
