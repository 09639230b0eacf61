"""A plan in words for people, and as JSON for programs. Both are bounded, however long the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import chain, islice
from types import MappingProxyType
from typing import Any

from agent.model.change import Change, ChangeKind, NameProblem, Rename, Suspect
from agent.model.plan import Action, DeletePaths, ForgetPaths, Plan, RenamePaths, StartTransfer, TrashPaths
from agent.model.printable import printable
from agent.model.spec import Lane, Route, TransferDefaults
from agent.model.units import format_size
from agent.planning.eta import Estimate
from agent.planning.tombstones import later_text
from agent.planning.totals import eta_line, overall, totals
from agent.planning.words import count, describe, way

EXAMPLES = 5
"""Paths that are shown of a list; the rest is counted."""


Estimates = Mapping[tuple[str, str], Estimate]
"""By mapping and destination."""


def plan_lines(
    plan: Plan,
    examples: int = EXAMPLES,
    *,
    reasons: bool = False,
    estimates: Estimates = MappingProxyType({}),
) -> list[str]:
    """One line per action (`+` create, `~` change, `-` delete, `!` held back), a few paths indented, with
    `reasons` why each; last how long sending takes."""
    lines: list[str] = []
    for action in plan.actions:
        lines.append(describe(action))
        lines += _indented(_path_lines(action, examples, reasons), _path_count(action), examples)
    for held in plan.held:
        lines.append(f"! hold    {way(held)}: {held.reason}")
        lines += _indented([f"- {d.path}" for d in held.deletions[:examples]], len(held.deletions), examples)
    lines += [_suspect_line(suspect) for suspect in plan.suspects]
    left_out = [problem for problem in plan.names if problem.left_out]
    lines += [
        f"! name    {problem.text}" for problem in plan.names[: examples or None] if not problem.left_out
    ]
    lines += [f"! name    {problem.text}: left out" for problem in left_out[: examples or None]]
    for later in plan.later:
        lines.append(f"! grace   {way(later)}: {later_text(later)}")
        lines += _indented(
            [f"- {d.path}" for d in later.deletions[:examples]], len(later.deletions), examples
        )
    if plan.waiting:
        lines.append(f"! wait    {count(len(plan.waiting), 'path')} in use or in flight")
        lines += _indented(list(plan.waiting[:examples]), len(plan.waiting), examples)
    lines += [eta_line(*names, guess) for names, guess in sorted(estimates.items())]
    return [printable(line) for line in lines]


def summary(plan: Plan) -> str:
    """One line: what the plan amounts to."""
    starts = [action for action in plan.actions if isinstance(action, StartTransfer)]
    renames = [action for action in plan.actions if isinstance(action, RenamePaths)]
    deletes = [action for action in plan.actions if isinstance(action, DeletePaths | TrashPaths)]
    others = len(plan.actions) - len(starts) - len(renames) - len(deletes)
    parts = []
    if starts:
        paths = sum(start.paths for start in starts)
        size = format_size(sum(start.total_bytes for start in starts))
        parts.append(f"{count(paths, 'path')} ({size}) to send")
    if renames:
        parts.append(f"{count(sum(map(_path_count, renames)), 'file')} to rename")
    if deletes:
        parts.append(f"{count(sum(map(_path_count, deletes)), 'path')} to delete")
    if others:
        parts.append(f"{count(others, 'other action')}")
    if plan.held:
        parts.append(f"{count(sum(len(held.deletions) for held in plan.held), 'deletion')} held for approval")
    if plan.later:
        parts.append(f"{count(sum(len(later.deletions) for later in plan.later), 'deletion')} in grace")
    return ", ".join(parts) if parts else "nothing to do"


def plan_document(
    plan: Plan,
    examples: int = EXAMPLES,
    *,
    reasons: bool = False,
    estimates: Estimates = MappingProxyType({}),
) -> dict[str, Any]:
    """The plan as JSON-able data, with `lines` for people. Lists of paths are cut to `examples`, with the
    full count beside them."""
    return {
        "empty": plan.empty,
        "summary": summary(plan),
        "lines": plan_lines(plan, examples, reasons=reasons, estimates=estimates),
        "deliveries": totals(plan, estimates),
        "eta": overall(estimates),
        "actions": [_action_json(action, examples) for action in plan.actions],
        "held": [
            {
                "mapping": held.mapping,
                "destination": held.destination,
                "reason": held.reason,
                "digest": held.digest,
                **_some("paths", [deletion.path for deletion in held.deletions], examples),
            }
            for held in plan.held
        ],
        "suspects": [
            {"path": s.path, "source": s.source, "reason": str(s.reason), "detail": s.detail}
            for s in plan.suspects
        ],
        "waiting": _some("paths", plan.waiting, examples),
        "names": [
            {
                "reason": str(p.trouble),
                "path": p.path,
                "other": p.other,
                "text": p.text,
                "leftOut": p.left_out,
            }
            for p in plan.names[: examples or None]
        ],
        "namesCount": len(plan.names),
        "later": [
            {
                "mapping": later.mapping,
                "destination": later.destination,
                "due": later.due,
                "last": later.last,
                **_some("paths", [deletion.path for deletion in later.deletions], examples),
            }
            for later in plan.later
        ],
    }


def _name_json(problem: NameProblem) -> dict[str, Any]:
    return {
        "reason": str(problem.trouble),
        "path": problem.path,
        "other": problem.other,
        "text": problem.text,
        "leftOut": problem.left_out,
    }


def _suspect_line(suspect: Suspect) -> str:
    detail = f" ({suspect.detail})" if suspect.detail else ""
    return f"! hold    deletions below {suspect.path}: source {suspect.source} is {suspect.reason}{detail}"


def _indented(lines: list[str], total: int, limit: int) -> list[str]:
    rest = [f"... and {total - limit:,} more"] if limit and total > limit else []
    return [f"    {line}" for line in lines[:limit] + rest]


def _path_count(action: Action) -> int:
    if isinstance(action, StartTransfer):
        return action.paths
    if isinstance(action, DeletePaths):
        return len(action.files) + len(action.directories)
    if isinstance(action, RenamePaths):
        return len(action.renames)
    if isinstance(action, TrashPaths):
        return len(action.moves) + len(action.directories)
    return len(action.paths) if isinstance(action, ForgetPaths) else 0


def _path_lines(action: Action, limit: int, reasons: bool) -> list[str]:
    if isinstance(action, StartTransfer):
        return [_change_line(change, reasons) for change in action.changes[:limit]]
    if isinstance(action, DeletePaths):
        directories = (f"{directory}/" for directory in action.directories)
        return [f"- {path}" for path in islice(chain(action.files, directories), limit)]
    if isinstance(action, RenamePaths):
        return [f"~ {rename.old} -> {rename.change.path}" for rename in action.renames[:limit]]
    if isinstance(action, TrashPaths):
        moves = (f"{path} -> {place}" for path, place in action.moves)
        return [f"- {line}" for line in islice(chain(moves, (f"{d}/" for d in action.directories)), limit)]
    return list(action.paths[:limit]) if isinstance(action, ForgetPaths) else []


def _change_line(change: Change, reasons: bool) -> str:
    mark = "+" if change.kind is ChangeKind.CREATED else "~"
    told = change.reason and (reasons or change.kind is ChangeKind.MODIFIED)
    reason = f", {change.reason}" if told else ""
    return f"{mark} {change.path} ({format_size(change.stat.size)}{reason})"


def _action_json(action: Action, examples: int) -> dict[str, Any]:
    """The action's fields in camelCase, `type` first; long lists as examples and a count."""
    found: dict[str, Any] = {"type": type(action).__name__, "description": printable(describe(action))}
    for field in fields(action):
        value = getattr(action, field.name)
        name = _camel(field.name)
        if field.name == "outline":
            continue
        if field.name in ("changes", "files", "directories", "paths", "renames", "moves"):
            found |= _some(name, value, examples)
        else:
            found[name] = _plain(value)
    if isinstance(action, StartTransfer | RenamePaths):
        found["totalBytes"] = action.total_bytes
    if isinstance(action, StartTransfer):
        found["changesCount"] = action.paths
    return found


def _some(name: str, values: Sequence[Any], limit: int) -> dict[str, Any]:
    return {name: [_plain(value) for value in values[:limit]], f"{name}Count": len(values)}


def _plain(value: Any) -> Any:
    if isinstance(value, Change):
        size = value.stat.size
        words = {"path": value.path, "source": value.source, "kind": str(value.kind)}
        return words | {"size": size, "reason": value.reason}
    if isinstance(value, Rename):
        return {"from": value.old, "to": value.change.path, "size": value.change.stat.size}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Lane | TransferDefaults | Route):
        return {_camel(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
