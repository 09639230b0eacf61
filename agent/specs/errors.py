"""What is wrong with specs, and where: `file:line:column: path: message`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from agent.model.printable import printable

MAX_SHOWN = 1000
"""Most errors that are handed out for one set of specs; the rest is counted."""

MAX_KEPT = 10_000
"""Most errors that are remembered while reading, so that hostile input cannot fill memory."""

SECRET_KEYS = frozenset({"auth", "credentials", "password", "token", "webhook"})
"""Below these keys no message names a value or an unexpected key: either may be a misplaced secret."""


@dataclass(frozen=True, slots=True, order=True)
class SpecError:
    """One error. Line and column count from 1; line 0 means the file as a whole. `path` may be empty."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return printable(": ".join(part for part in (place, self.path, self.message) if part))


class Collector:
    """Gathers errors up to a bound and counts the rest."""

    def __init__(self) -> None:
        self.errors: list[SpecError] = []
        self.omitted = 0

    def add(self, error: SpecError) -> None:
        if len(self.errors) < MAX_KEPT:
            self.errors.append(error)
        else:
            self.omitted += 1

    def forget(self, errors: Iterable[SpecError]) -> None:
        gone = set(errors)
        self.errors = [error for error in self.errors if error not in gone]

    def shown(self) -> tuple[tuple[SpecError, ...], int]:
        """The errors by place, without repeats, at most MAX_SHOWN of them, and the number of the others."""
        ordered = sorted(set(self.errors))
        return tuple(ordered[:MAX_SHOWN]), self.omitted + max(0, len(ordered) - MAX_SHOWN)


def nearest(word: str, known: tuple[str, ...]) -> str:
    """` (did you mean …?)` when a known word is close, else an empty string."""
    best = closest(word[:64], known)
    return f"; did you mean `{best}`?" if best else ""


@lru_cache(maxsize=4096)
def closest(word: str, known: tuple[str, ...]) -> str | None:
    import difflib

    lower = {k.lower(): k for k in known}
    plain = re.sub(r"[-_ ]", "", word).lower()
    if plain in lower:
        return lower[plain]
    found = difflib.get_close_matches(plain, lower, n=1, cutoff=0.7)
    return lower[found[0]] if found else None
