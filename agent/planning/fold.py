"""The plan of one delivery put together from the parts of a long look: what is sent is counted, sized and
identified, and a few of its paths are kept, so that memory does not grow with them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from itertools import islice

from agent.model.change import Change, ChangeKind, NameProblem, Suspect
from agent.model.plan import Action, ForgetPaths, Outline, Plan, RenamePaths, StartTransfer


@dataclass(slots=True)
class _Sum:
    first: list[Change] = field(default_factory=list)
    paths: int = 0
    created: int = 0
    bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, changes: tuple[Change, ...], examples: int) -> None:
        self.first += islice(changes, max(0, examples - len(self.first)))
        for change in changes:
            self.created += change.kind is ChangeKind.CREATED
            self.bytes += change.stat.size
            self.digest.update(repr((change.path, *change.stat)).encode("utf-8", "surrogateescape"))
        self.paths += len(changes)

    def outline(self) -> Outline:
        return Outline(self.paths, self.created, self.bytes, self.digest.hexdigest()[:16])


@dataclass(slots=True)
class Fold:
    """Transfers that differ only in what they send are told as one. Deletions, and what is only forgotten,
    are those of the last part, which knows of all."""

    examples: int  # so many paths are kept of what is sent
    renamed: set[str] = field(default_factory=set)  # paths that a rename has made up for
    _sums: dict[Action, _Sum | None] = field(default_factory=dict)  # in the order of the actions
    _waiting: dict[str, None] = field(default_factory=dict)
    _suspects: dict[Suspect, None] = field(default_factory=dict)
    _names: dict[NameProblem, None] = field(default_factory=dict)
    _last: Plan = Plan()

    def add(self, part: Plan, *, last: bool) -> None:
        for action in part.actions:
            if isinstance(action, StartTransfer):
                found = self._sums.setdefault(replace(action, changes=()), _Sum())
                if found is not None:
                    found.add(action.changes, self.examples)
            elif last or not isinstance(action, ForgetPaths):
                self._sums.setdefault(action, None)
            if isinstance(action, RenamePaths):
                self.renamed.update(rename.old for rename in action.renames)
        self._waiting.update(dict.fromkeys(part.waiting))
        self._suspects.update(dict.fromkeys(part.suspects))
        self._names.update(dict.fromkeys(part.names))
        if last:
            self._last = part

    def plan(self) -> Plan:
        actions = tuple(_told(action, found) for action, found in self._sums.items())
        return Plan(
            actions,
            self._last.held,
            tuple(self._suspects),
            tuple(self._waiting),
            self._last.later,
            tuple(self._names),
        )


def _told(action: Action, found: _Sum | None) -> Action:
    if found is None or not isinstance(action, StartTransfer):
        return action
    return replace(action, changes=tuple(found.first), outline=found.outline())
