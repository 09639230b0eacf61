"""What the engine in memory does at its destinations beside transfers: delete, rename, list."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from agent.engines.memory_transfer import Directory
from agent.model.change import FileKind
from agent.model.observed import FarFile, FileOutcome, FileResult
from agent.model.outcome import NotFoundError
from agent.model.paths import is_below

PAGE = 1000

Tree = dict[str, FileResult]
"""What is at a destination, by path."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Implements RemoteState and InventoryState of the port."""

    done: bool
    results: tuple[FileResult, ...] = ()
    files: tuple[FarFile, ...] = ()
    next: str | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Deleting:
    files: tuple[str, ...]
    directories: tuple[str, ...]

    def carry_out(self, tree: Tree) -> Answer:
        for path in self.files:
            tree.pop(path, None)
        kept = [d for d in self.directories if any(p.startswith(d + "/") for p in tree)]
        for path in set(self.directories) - set(kept):
            tree.pop(path, None)
        return Answer(
            True,
            tuple(
                FileResult(p, FileOutcome.SKIPPED if p in kept else FileOutcome.DELIVERED)
                for p in (*self.files, *self.directories)
            ),
        )


@dataclass(frozen=True, slots=True)
class Renaming:
    renames: tuple[tuple[str, str], ...]

    def carry_out(self, tree: Tree) -> Answer:
        return Answer(True, tuple(self._one(tree, old, new) for old, new in self.renames))

    def _one(self, tree: Tree, old: str, new: str) -> FileResult:
        if new in tree:
            return FileResult(new, FileOutcome.SKIPPED, error="something is there already")
        if old not in tree:
            return FileResult(new, FileOutcome.VANISHED)
        tree[new] = tree.pop(old)
        return FileResult(new, FileOutcome.DELIVERED, tree[new].size, tree[new].mtime_ns)


@dataclass(frozen=True, slots=True)
class Listing:
    directory: str
    after: str
    checksum: bool

    def carry_out(self, tree: Tree) -> Answer:
        below = sorted((p for p in tree if is_below(p, self.directory)), key=os.fsencode)
        page = [p for p in below if os.fsencode(p) > os.fsencode(self.after)][: PAGE + 1]
        found = tuple(self._file(path, tree[path]) for path in page[:PAGE])
        return Answer(True, files=found, next=page[PAGE - 1] if len(page) > PAGE else None)

    def _file(self, path: str, found: FileResult) -> FarFile:
        digest = found.digest if self.checksum else ""
        kind = FileKind.EMPTY_DIRECTORY if isinstance(found, Directory) else FileKind.FILE
        return FarFile(path, kind, found.size, found.mtime_ns, digest)


Request = Deleting | Renaming | Listing


@dataclass(slots=True)
class FarVerbs:
    """Requests by id, each for one destination, and their answers."""

    asked: dict[str, tuple[str, Request]] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)

    def work(self, destination_id: str, tree: Tree, only: str = "") -> list[str]:
        """Carry out what is asked of a destination, or `only` one request; returns the ids."""
        ours = [number for number, (owner, _) in self.asked.items() if owner == destination_id]
        ours = [number for number in ours if only in ("", number)]
        todo = [number for number in ours if number not in self.answers]
        for number in todo:
            self.answers[number] = self.asked[number][1].carry_out(tree)
        return todo

    def answer(self, number: str) -> Answer:
        if number not in self.asked:
            raise NotFoundError(f"request {number} was not found")
        return self.answers.get(number, Answer(False))
