"""Names that a destination cannot hold or tell apart: found for a change set, and told."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.model.change import Change, ChangeSet, NameProblem, NameTrouble, Rename
from agent.model.condition import ConditionType, Reason
from agent.model.observed import Capabilities
from agent.model.outcome import Stalled
from agent.model.paths import destination_prefixes, is_below, parent
from agent.model.spec import MappingSpec
from agent.planning.names import collisions, fold, holdable, renamed_to_its_like
from agent.reconcile.report import Report

EXAMPLES = 3


def sendable(spec: MappingSpec, changes: ChangeSet, can: Capabilities) -> ChangeSet:
    """Without what must be left out. Where case does not count, a file whose name changed its case waits for
    the deletion of the one before."""
    if not can.case_sensitive and changes.partial:
        known = (*changes.names, *_Siblings(spec).problems(changes.changes))
        changes = replace(changes, names=tuple(dict.fromkeys(known)))
    changes = holdable(changes, can)
    if can.case_sensitive or not spec.prune:
        return changes
    late = renamed_to_its_like(changes, changes.deletions)
    if not late:
        return changes
    now = tuple(change for change in changes.changes if change.path not in late)
    return replace(changes, changes=now, waiting=(*changes.waiting, *sorted(late)))


def possible_renames(renames: tuple[Rename, ...], can: Capabilities | None) -> tuple[Rename, ...]:
    if can is None or can.case_sensitive:
        return renames
    return tuple(rename for rename in renames if fold(rename.old) != fold(rename.change.path))


@dataclass(slots=True)
class _Siblings:
    """The names beside single paths that were looked at, at every level of the source."""

    spec: MappingSpec
    _seen: dict[str, list[NameProblem]] = field(default_factory=dict)

    def problems(self, changes: Iterable[Change]) -> list[NameProblem]:
        found: list[NameProblem] = []
        for change in changes:
            path, source = change.path, change.source
            while any(is_below(source, e.source) and source != e.source for e in self.spec.paths):
                mine = (p for p in self._of(parent(path), parent(source)) if path in (p.path, p.other))
                found += mine
                path, source = parent(path), parent(source)
        return found

    def _of(self, directory: str, source: str) -> list[NameProblem]:
        if directory not in self._seen:
            try:
                names = os.listdir(source)
            except OSError:
                names = []
            self._seen[directory] = collisions(directory, names)
        return self._seen[directory]


def learned(
    before: tuple[NameProblem, ...], found: tuple[NameProblem, ...], whole: bool
) -> tuple[NameProblem, ...]:
    """A partial look adds what it found; only a whole one can take something back."""
    return found if whole else tuple(dict.fromkeys((*before, *found)))


def stalled_by_names(names: tuple[NameProblem, ...]) -> Stalled | None:
    """What is left out does not get there by itself: a person has to rename it."""
    left_out = [problem for problem in names if problem.left_out]
    if not left_out:
        return None
    first = left_out[0].trouble
    reason = Reason.NAME_COLLISION if first is NameTrouble.COLLISION else Reason.NAME_NOT_POSSIBLE
    return Stalled(reason, f"{_text(left_out)}: left out; rename them at the source")


def tell_names(spec: MappingSpec, names: Iterable[NameProblem], report: Report) -> None:
    """Names that the destination can tell apart, and that another file system might not."""
    prefixes = destination_prefixes(spec)
    told = [p for p in names if not p.left_out and any(is_below(p.path, prefix) for prefix in prefixes)]
    if told:
        text = f"{_text(told)}: both are there, but not on every file system"
        report.add(ConditionType.LIMITED, Reason.NAME_COLLISION, text)


def _text(problems: list[NameProblem]) -> str:
    more = f" (and {len(problems) - EXAMPLES} more)" if len(problems) > EXAMPLES else ""
    return "; ".join(problem.text for problem in problems[:EXAMPLES]) + more
