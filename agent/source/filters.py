"""Which paths of a source tree count: gitignore-style `include` and `exclude`.

One matcher serves scan, watch and plan, so that they never disagree. A file counts when `include` is empty or
matches it, and `exclude` does not. Paths are relative to the source root, without a leading slash.

By default only `.lanesync/` and `.lanesync-trash/` are excluded (where a receiver keeps unfinished files, and
those that were deleted). Temporary files of other programs are the user's choice: leaving out every `*.tmp`
unasked would lose data silently.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from pathspec import GitIgnoreSpec

from agent.model.patterns import compiled, pattern_problem
from agent.model.spec import TRASH

DEFAULT_EXCLUDE = (".lanesync/", f"{TRASH}/")

_MAX_PATTERNS = 1000


class KeepOut(NamedTuple):
    """Directories below `root` that are never delivered, whatever they are called and however they are
    reached: (device, inode) of the agent's own. With `within`, links that lead to nowhere below one of these
    real paths are not followed."""

    root: str
    identities: frozenset[tuple[int, int]]
    within: tuple[str, ...] | None = None

    def holds(self, path: str) -> bool:
        try:
            info = os.stat(self.root + "/" + path)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) in self.identities

    def leads_out(self, path: str) -> bool:
        if self.within is None:
            return False
        real = os.path.realpath(self.root + "/" + path)
        return not any(real == top or real.startswith(top.rstrip("/") + "/") for top in self.within)


class Filter:
    """Immutable. Raises ValueError, naming the pattern, for one that is broken or can match nothing."""

    __slots__ = ("_exclude", "_include", "_may_prune", "exclude", "include", "keep_out", "only_defaults")

    def __init__(
        self,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        keep_out: KeepOut | None = None,
    ) -> None:
        self.include = tuple(include)
        self.exclude = tuple(exclude)
        self.keep_out = keep_out
        self._include = _checked("include", self.include) if self.include else None
        self._exclude = _checked("exclude", (*DEFAULT_EXCLUDE, *self.exclude))
        # A negated pattern may bring back something inside an excluded directory.
        self._may_prune = not any(pattern.include is False for pattern in self._exclude.patterns)
        self.only_defaults = not self.include and not self.exclude
        """True when nothing but DEFAULT_EXCLUDE is left out: files then need no matching."""

    def includes(self, path: str, is_directory: bool) -> bool:
        """Does a file, or an empty directory, at this path count?"""
        if not path:
            return True
        name = path + "/" if is_directory else path
        if self._exclude.match_file(name):
            return False
        return self._include is None or bool(self._include.match_file(name))

    def prunes(self, path: str) -> bool:
        """Is a directory excluded whole, so that it need be neither scanned nor watched?"""
        if not path:
            return False
        if self._may_prune and self._exclude.match_file(path + "/"):
            return True
        return self.keep_out is not None and self.keep_out.holds(path)

    def leads_out(self, path: str) -> bool:
        """Is there a link on this path that must not be followed?"""
        return self.keep_out is not None and self.keep_out.leads_out(path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[tuple[str, ...], tuple[str, ...], KeepOut | None]:
        return self.include, self.exclude, self.keep_out

    def __repr__(self) -> str:
        return f"Filter(include={list(self.include)}, exclude={list(self.exclude)})"


def _checked(what: str, patterns: tuple[str, ...]) -> GitIgnoreSpec:
    if len(patterns) > _MAX_PATTERNS:
        raise ValueError(f"{what}: {len(patterns)} patterns are too many; at most {_MAX_PATTERNS}")
    for pattern in patterns:
        if problem := pattern_problem(pattern):
            raise ValueError(f"{what}: pattern {pattern[:100]!r} {problem}")
    return compiled(patterns)


EVERYTHING = Filter()
"""The filter of a source entry without patterns."""
