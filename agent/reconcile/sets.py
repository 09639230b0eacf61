"""What belongs together: a set is looked at as one, and links that are no part of a delivery are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from agent.model.change import ChangeSet
from agent.model.condition import ConditionType, Reason
from agent.model.spec import MappingSpec, Publish, Symlinks
from agent.planning.words import count
from agent.reconcile.queue import WHOLE, Hints
from agent.reconcile.report import Report
from agent.source.scan import Problem

MAX_HINTS = 10_000
SHOWN = 3


def is_bounded(spec: MappingSpec) -> bool:
    """Whether some of what differs may be sent before the rest."""
    return spec.publish is Publish.FILE


def as_one(
    spec: MappingSpec,
    changes: ChangeSet,
    again: Hints,
    hints_for: Callable[[MappingSpec, Iterable[str]], Hints],
) -> tuple[ChangeSet, Hints]:
    """While a file of a mapping is being written, none of its sets begins: all that differs is looked at
    again, with what is being written (`again`)."""
    differing = [one.path for one in changes.changes] + [gone.path for gone in changes.deletions]
    if is_bounded(spec) or again.empty or not differing:
        return changes, again
    later = WHOLE if len(differing) > MAX_HINTS else hints_for(spec, differing)
    return replace(changes, changes=(), deletions=()), again | later


@dataclass(slots=True)
class LeftOut:
    """Links of one delivery that are not made at the destination, and why."""

    found: dict[str, str] = field(default_factory=dict)  # by path

    def learn(self, found: dict[str, str], *, whole: bool) -> None:
        self.found = dict(found) if whole else self.found | found

    def text(self) -> str:
        """Empty when there are none."""
        if not self.found:
            return ""
        named = "; ".join(f"{path}: {why}" for path, why in sorted(self.found.items())[:SHOWN])
        more = f"; and {len(self.found) - SHOWN} more" if len(self.found) > SHOWN else ""
        are = "is" if len(self.found) == 1 else "are"
        return f"{count(len(self.found), 'link')} {are} left out: {named}{more}"


def links_left_out(spec: MappingSpec, problems: Iterable[Problem]) -> dict[str, str]:
    if spec.symlinks is not Symlinks.PRESERVE:
        return {}
    return {problem.path: problem.text for problem in problems if problem.text.startswith("link ")}


def report_left_out(texts: Iterable[str], report: Report) -> None:
    for text in dict.fromkeys(text for text in texts if text):
        report.add(ConditionType.LIMITED, Reason.LINKS_LEFT_OUT, text)
