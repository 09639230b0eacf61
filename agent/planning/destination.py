"""A destination: what must happen on its server so that it is as its spec says."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from agent.model.observed import ObservedDefaults, ObservedDestination, ObservedTransfer, Tag
from agent.model.plan import (
    Action,
    CancelTransfer,
    CreateDestination,
    DeleteDestination,
    Plan,
    RetagDestination,
    SetDefaults,
    SetLanes,
    SetSendRate,
)
from agent.model.spec import (
    DestinationSpec,
    Lane,
    MinCipher,
    OnRemove,
    TransferDefaults,
    default_lane,
    digest,
)
from agent.planning.effective import same_lanes, same_rate
from agent.planning.ownership import alive, is_destination, mapping_of


def destination_digest(desired: DestinationSpec, lanes: tuple[Lane, ...]) -> str:
    """What the tag's `spec_digest` must be; the lanes count, although they are an object of their own."""
    text = digest(desired) + repr([(lane.name, lane.share) for lane in lanes])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def plan_destination(
    desired: DestinationSpec,
    lanes: tuple[Lane, ...],
    observed: ObservedDestination | None,
    tag: Tag,
    transfers: tuple[ObservedTransfer, ...] = (),
) -> Plan:
    """Create the destination, or change what differs.

    `tag` is the one that the agent would set now. What the server does not report is unknown: it is set
    once whenever the observed tag has another spec digest, so the tag must be set last. A destination that
    carries another tag than ours is not there for us. A changed address, identity or relay is another
    destination: the old one goes, with those of our `transfers` that are still under way to it.
    """
    if desired.suspend:
        return Plan()
    defaults = _resolved(desired, lanes)
    create = CreateDestination(
        desired.name,
        desired.server,
        desired.address,
        desired.port,
        lanes,
        desired.send_rate_max,
        defaults,
        desired.route,
    )
    if observed is None or not _is_ours(observed, tag):
        return Plan((create,))
    if (observed.address, observed.port) != (desired.address, desired.port):
        reason = f"address changed to {desired.place}"
        return Plan((*_drop(desired.name, observed, transfers, reason), create))
    if observed.route is not None and observed.route != desired.route:
        reason = "its identity or relay changed"
        return Plan((*_drop(desired.name, observed, transfers, reason), create))
    return Plan(_differences(desired, lanes, defaults, observed, tag))


def plan_destination_removal(
    name: str,
    on_remove: OnRemove,
    observed: ObservedDestination | None,
    transfers: tuple[ObservedTransfer, ...],
) -> Plan:
    """What becomes of a destination that has left the specs: orphan leaves it on the server with its tag;
    cancel and delete end our transfers to it and delete it."""
    if on_remove is OnRemove.ORPHAN or observed is None or not is_destination(observed.tag, name):
        return Plan()
    return Plan(_drop(name, observed, transfers, "removed from the specs"))


def _is_ours(observed: ObservedDestination, tag: Tag) -> bool:
    return observed.tag is not None and (observed.tag.agent, observed.tag.spec) == (tag.agent, tag.spec)


def _resolved(desired: DestinationSpec, lanes: tuple[Lane, ...]) -> TransferDefaults:
    defaults = desired.transfer_defaults
    cipher = MinCipher.NONE if is_loopback(desired.address) else MinCipher.ENCRYPTED_256
    return replace(
        defaults,
        lane=defaults.lane or default_lane(lanes),
        min_cipher=cipher if defaults.min_cipher is None else defaults.min_cipher,
    )


def is_loopback(address: str) -> bool:
    """Whether a host name or address is this machine by its very spelling."""
    return address.lower() in ("localhost", "::1") or address.startswith("127.")


def _drop(
    name: str, observed: ObservedDestination, transfers: tuple[ObservedTransfer, ...], reason: str
) -> tuple[Action, ...]:
    agent = observed.tag.agent if observed.tag else ""
    cancels = [
        CancelTransfer(mapping, name, transfer.id, f"destination {name}: {reason}")
        for transfer in transfers
        if transfer.destination_id == observed.id and alive(transfer)
        if transfer.tag and transfer.tag.agent == agent
        if (mapping := mapping_of(transfer)) is not None
    ]
    return (*cancels, DeleteDestination(name, observed.id, reason))


def _differences(
    desired: DestinationSpec,
    lanes: tuple[Lane, ...],
    defaults: TransferDefaults,
    observed: ObservedDestination,
    tag: Tag,
) -> tuple[Action, ...]:
    """The rate comes first: a server may refuse to add or remove lanes while transfers are in progress, and
    that must not hold up a limit."""
    outdated = observed.tag is None or observed.tag.spec_digest != tag.spec_digest
    actions: list[Action] = []
    if not same_rate(observed.send_rate_max, desired.send_rate_max):
        rate = desired.send_rate_max
        actions.append(SetSendRate(desired.name, observed.id, observed.send_rate_max, rate))
    if outdated if observed.lanes is None else not same_lanes(observed.lanes, lanes):
        actions.append(SetLanes(desired.name, observed.id, observed.lanes, lanes))
    if _defaults_differ(defaults, observed.defaults, outdated):
        actions.append(SetDefaults(desired.name, observed.id, defaults))
    if outdated:
        actions.append(RetagDestination(desired.name, observed.id))
    return tuple(actions)


def _defaults_differ(desired: TransferDefaults, observed: ObservedDefaults, outdated: bool) -> bool:
    """The time-out is not among them: it is given with each transfer."""
    pairs = (
        (desired.priority, observed.priority),
        (desired.lane, observed.lane),
        (desired.checkpoint_interval, observed.checkpoint_interval),
        (desired.overwrite, observed.overwrite),
        (desired.modification_time_tolerance, observed.modification_time_tolerance),
        (desired.min_cipher, observed.min_cipher),
    )
    return any(outdated if there is None else there != want for want, there in pairs)
