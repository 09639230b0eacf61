"""How often everything is looked at that nobody wrote an interval for. Pure; seconds, shares of one core.

Looks that find nothing to do are the whole cost of an agent at rest. Thousands of mappings share what
they may take: each is looked at less often, instead of all of them together taking ever more.
"""

from __future__ import annotations

WHOLE_SHARE = 0.003
"""What whole looks at sources may take together, where changes are told by a watch anyway."""

DRIFT_SHARE = 0.0015
"""What looks at destinations may take together, of the agent's own time."""

COMPARE_SHARE = 0.002
"""What comparing watched roots with those that were armed may take."""

LONGEST = 6 * 3600.0
"""However many mappings there are, each is looked at so often."""

SPREAD_FROM = 30.0
"""Looks that take longer than this one after the other, within their share, are spread over the interval."""


def round_seconds(looks: int, cost: float, share: float) -> float:
    """How long a round of so many looks takes that each cost `cost` seconds, within their share."""
    return looks * cost / share


def stretched(interval: float, looks: int, cost: float, share: float) -> float:
    """The interval of each of `looks`: as given, or longer, that together they take no more than the share;
    but none is made longer than LONGEST."""
    return max(interval, min(LONGEST, round_seconds(looks, cost, share)))


def spread(interval: float, chance: float, *, first: bool) -> float:
    """Seconds to the next of many looks; `chance` is from [0, 1). After a start all were taken at once: the
    first ones are spread over the whole interval, and the others keep their distance."""
    return interval * (chance if first else 0.9 + 0.1 * chance)
