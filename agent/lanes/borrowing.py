"""How much each direction may have when one may use what the other leaves; pure."""

from __future__ import annotations

from typing import NamedTuple

RESERVE = 0.05
"""Part of its limit that a direction keeps, however little it uses: enough to notice that it wants more."""

EAGER = 0.9
"""Who uses so much of its limit is lent more."""


class Side(NamedTuple):
    """One direction. Rates are kbit/s."""

    limit: float | None  # None = no limit
    used: float  # over the last second
    short: bool  # a moment ago it was allowed less than it wanted
    borrows: bool  # may use what the other direction leaves


def allowances(one: Side, other: Side) -> tuple[float | None, float | None]:
    """Limits for the next moment. They add up to what the two limits add up to, and none is below its limit
    while it wants more than that. Where a direction has no limit there is nothing to lend or to borrow."""
    if one.limit is None or other.limit is None:
        return one.limit, other.limit
    moved = _lent(other, one) - _lent(one, other)
    return one.limit + moved, other.limit - moved


def _lent(lender: Side, borrower: Side) -> float:
    if lender.limit is None or borrower.limit is None or not borrower.borrows or lender.short:
        return 0.0
    if not borrower.short and borrower.used < EAGER * borrower.limit:
        return 0.0
    return max(0.0, lender.limit * (1 - RESERVE) - lender.used)
