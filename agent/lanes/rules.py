"""The rules that a set of priority lanes must keep, each broken one named."""

from __future__ import annotations

import math
from collections.abc import Sequence

SUM_TOLERANCE = 1e-6


def validate_lanes(lanes: Sequence[tuple[str, float]]) -> list[str]:
    """Every rule that (name, share) pairs break, one sentence each; empty when they are valid.

    Shares are fractions of one. Values of a wrong type are named too, so that unchecked input may be passed.
    """
    if not lanes:
        return ["there must be at least one lane"]
    errors = _broken_names([name for name, _ in lanes])
    numbers = []
    for name, share in lanes:
        if isinstance(share, bool) or not isinstance(share, int | float) or not math.isfinite(share):
            errors.append(f"the share of lane {name!r} must be a number")
        elif share < 0:
            errors.append(f"the share of lane {name!r} must not be negative")
        else:
            numbers.append(share)
    if len(numbers) == len(lanes):
        errors += _broken_shares(lanes)
    return errors


def _broken_names(names: list[str]) -> list[str]:
    errors = []
    if any(not isinstance(name, str) or not name.strip() for name in names):
        errors.append("lane names must not be blank")
    repeated = sorted({name for name in names if isinstance(name, str) and names.count(name) > 1})
    errors += [f"lane names must be unique; {name!r} is there more than once" for name in repeated]
    return errors


def _broken_shares(lanes: Sequence[tuple[str, float]]) -> list[str]:
    errors = []
    total = math.fsum(share for _, share in lanes)
    if abs(total - 1.0) > SUM_TOLERANCE:
        errors.append(f"lane shares must add up to 100%, these add up to {total * 100:.6g}%")
    idle = [name for name, share in lanes if share == 0]
    if len(idle) > 1:
        names = ", ".join(repr(name) for name in idle)
        errors.append(f"at most one lane may have a share of 0 (the idle lane), these have: {names}")
    return errors
