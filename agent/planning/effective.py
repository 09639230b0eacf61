"""What holds for a mapping's transfers: its own words, else the destination's."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.spec import DestinationSpec, Lane, MappingSpec, Overwrite, default_lane


@dataclass(frozen=True, slots=True)
class Effective:
    lane: str
    priority: int
    send_rate_max: float | None  # kbit/s of all transfers of the mapping together; None = no limit of its own
    overwrite: Overwrite


def effective(mapping: MappingSpec, destination: DestinationSpec, lanes: tuple[Lane, ...]) -> Effective:
    defaults = destination.transfer_defaults
    return Effective(
        lane=mapping.lane or defaults.lane or default_lane(lanes),
        priority=defaults.priority if mapping.priority is None else mapping.priority,
        send_rate_max=mapping.send_rate_max,
        overwrite=mapping.overwrite or defaults.overwrite,
    )


def share_rate(total: float | None, transfers: int) -> float | None:
    """The part of a mapping's rate that each of its simultaneous transfers gets, in whole kbit/s.

    A server limits transfers, not mappings; equal parts keep the sum below what the spec allows.
    """
    if total is None or transfers <= 1:
        return total
    return float(max(1, int(total / transfers)))


def same_rate(left: float | None, right: float | None) -> bool:
    """Servers round to whole kbit/s, so less than that is no difference."""
    if left is None or right is None:
        return left is right
    return abs(left - right) < 1.0


def same_lanes(left: tuple[Lane, ...], right: tuple[Lane, ...]) -> bool:
    """The same names with the same shares; their order has no meaning."""
    shares = {lane.name: lane.share for lane in left}
    return len(left) == len(right) and all(
        abs(shares.get(lane.name, -1.0) - lane.share) < 1e-6 for lane in right
    )
