"""What a look at the sources finds for one destination, while it goes on and when it is handed over."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.model.change import Change, ChangeSet, Deletion, NameProblem, Suspect
from agent.planning.sentinel import Unsealed
from agent.reconcile.queue import Hints
from agent.state.ledger import Directories


@dataclass(frozen=True, slots=True)
class Survey:
    changes: ChangeSet = ChangeSet()
    again: Hints = Hints()  # changed under the walk, or a moment before it: to be looked at soon
    sliced: bool = False  # one of several that make up a whole look
    missed: bool = False  # there was more than room for it: only another whole look finds the rest
    unsealed: Unsealed | None = None  # with a sentinel: what waits for one, of what was looked at …
    looked: tuple[str, ...] | None = None  # … namely these source paths; None = all
    left_out: dict[str, str] = field(default_factory=dict)  # links, by path, and why


@dataclass(slots=True)
class Gathered:
    """What is found for one destination while the sources are walked."""

    name: str
    changes: list[Change] = field(default_factory=list)
    deletions: dict[str, Deletion] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    again: set[tuple[str, str]] = field(default_factory=set)
    digests: dict[str, bytes] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    names: list[NameProblem] = field(default_factory=list)
    shown: bool = False  # nothing is carried out: a directory is looked at once, whatever the room
    room: int | None = None  # so many changes may still be gathered; None = any number
    cut: bool = False  # there were more in the directory that was just compared
    missed: bool = False  # there were more elsewhere: only another whole look finds them
    still: bool = False  # nothing is in flight, and nothing will be while the walk goes on
    small: Directories | None = None  # of a small delivery, while the walk goes on without a rest

    @property
    def full(self) -> bool:
        return self.room is not None and self.room <= 0

    def take(self, changes: list[Change]) -> None:
        if self.room is not None:
            if not self.shown:
                self.cut = self.cut or len(changes) > self.room
                changes = changes[: self.room]
            self.room -= len(changes)
        self.changes += changes

    def survey(self, partial: bool, unfinished: bool = False) -> Survey:
        changes = ChangeSet(
            tuple(self.changes),
            tuple(self.deletions.values()),
            tuple(self.suspects),
            tuple(self.waiting),
            partial,
            tuple(self.names),
            unfinished,
        )
        return Survey(changes, Hints(paths=frozenset(self.again)), missed=self.missed)

    def handed_over(self) -> None:
        """What was gathered is dealt with, but for deletions: those are decided together."""
        self.changes, self.waiting, self.again, self.digests = [], [], set(), {}
        self.left_out = {}
