"""What a plan amounts to for each mapping and destination, in numbers, and how long it takes, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.model.plan import DeletePaths, Plan, ResumeTransfer, StartTransfer, TrashPaths
from agent.model.units import format_duration
from agent.planning.eta import Estimate


@dataclass(slots=True)
class _Total:
    create: int = 0
    update: int = 0
    rename: int = 0
    delete: int = 0
    hold: int = 0
    grace: int = 0
    resume: int = 0
    bytes: int = 0
    lane: str | None = None
    priority: int | None = None


def totals(plan: Plan, estimates: Mapping[tuple[str, str], Estimate]) -> list[dict[str, Any]]:
    """One entry for each mapping and destination that the plan does something for."""
    found: dict[tuple[str, str], _Total] = {}
    for action in plan.actions:
        if not hasattr(action, "mapping"):
            continue
        total = found.setdefault((action.mapping, action.destination), _Total())
        if isinstance(action, StartTransfer):
            total.create += action.created
            total.update += action.paths - action.created
            total.bytes += action.total_bytes
            total.lane, total.priority = action.lane, action.priority
        elif isinstance(action, DeletePaths):
            total.delete += len(action.files) + len(action.directories)
        elif isinstance(action, TrashPaths):
            total.delete += len(action.moves) + len(action.directories)
        elif isinstance(action, ResumeTransfer):
            total.resume += 1
        else:
            total.rename += len(getattr(action, "renames", ()))
    for held in plan.held:
        found.setdefault((held.mapping, held.destination), _Total()).hold += len(held.deletions)
    for later in plan.later:
        found.setdefault((later.mapping, later.destination), _Total()).grace += len(later.deletions)
    return [_entry(*names, total, estimates.get(names)) for names, total in sorted(found.items())]


def _entry(mapping: str, destination: str, total: _Total, guess: Estimate | None) -> dict[str, Any]:
    return {
        "mapping": mapping,
        "destination": destination,
        "create": total.create,
        "update": total.update,
        "rename": total.rename,
        "delete": total.delete,
        "hold": total.hold,
        "grace": total.grace,
        "resume": total.resume,
        "bytes": total.bytes,
        "lane": total.lane,
        "priority": total.priority,
        "eta": None if guess is None else _eta(guess),
    }


def overall(estimates: Mapping[tuple[str, str], Estimate]) -> dict[str, Any] | None:
    """Of everything that is sent: destinations are served side by side. None when nothing is."""
    if not estimates:
        return None
    best = [guess.best for guess in estimates.values()]
    worst = [guess.worst for guess in estimates.values()]
    return _eta(Estimate(_longest(best), _longest(worst)))


def eta_line(mapping: str, destination: str, guess: Estimate) -> str:
    return f"  eta     {mapping} -> {destination}: {eta_text(guess)}"


def eta_text(guess: Estimate) -> str:
    """`40s to 2m (by limit)`; what is not known is said."""
    if guess.best is None:
        return "unknown: no rate limit, and no earlier delivery to measure"
    low = _words(guess.best)
    if guess.worst is None:
        return f"at least {low} (by its own limit; the link's speed is not known)"
    high = _words(guess.worst)
    return f"{low if low == high else f'{low} to {high}'} (by {guess.basis})"


def _eta(guess: Estimate) -> dict[str, Any]:
    return {
        "bestSeconds": None if guess.best is None else round(guess.best, 3),
        "worstSeconds": None if guess.worst is None else round(guess.worst, 3),
        "basis": guess.basis or None,
    }


def _longest(seconds: list[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return max(known) if len(known) == len(seconds) else None


def _words(seconds: float) -> str:
    """No more digits than such a number is good for."""
    if seconds < 1:
        return "less than 1s"
    return format_duration(float(round(seconds)) if seconds < 120 else float(round(seconds / 60) * 60))
