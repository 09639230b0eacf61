"""Names that a destination cannot hold, or cannot tell apart. Pure.

Which of two colliding names should win is nobody's to guess: where the destination takes them for one, both
are left out and named, whichever was there first.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import replace

from agent.model.change import ChangeSet, Deletion, NameProblem, NameTrouble
from agent.model.observed import Capabilities
from agent.model.paths import join
from agent.model.spec import TRASH
from agent.planning.safety import ancestors

STAGING = ".lanesync"
MAX_NAME = 255
MAX_PATH = 4095
MOST_TOLD = 1000
"""Problems of one look that are kept; what is left out does not depend on it."""


def fold(name: str) -> str:
    """The same for names that differ only in case or in Unicode form."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def collisions(directory: str, names: Iterable[str]) -> list[NameProblem]:
    """Names of one directory that are alike, as pairs: each with the first of its kind in byte order."""
    names = list(names)
    if len({fold(name) for name in names}) == len(names):
        return []
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=os.fsencode):
        groups.setdefault(fold(name), []).append(name)
    return [
        NameProblem(
            NameTrouble.COLLISION, join(directory, first), join(directory, other), _difference(first, other)
        )
        for first, *others in groups.values()
        for other in others
    ]


def _difference(one: str, other: str) -> str:
    same_form = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return "Unicode form" if same_form else "case"


def not_possible(path: str, can: Capabilities) -> str:
    """Why the destination cannot hold this path; empty when it can."""
    if len(path) <= MAX_NAME and path.isascii() and path.isprintable() and not path.startswith("/.lanesync"):
        return ""
    top, _, _ = path[1:].partition("/")
    if top in (STAGING, TRASH):
        return f"is not possible: `/{top}` is the destination's own"
    if len(os.fsencode(path)) > MAX_PATH:
        return f"is longer than {MAX_PATH} bytes"
    if any(len(os.fsencode(part)) > MAX_NAME for part in path.split("/")):
        return f"has a name longer than {MAX_NAME} bytes"
    if not can.control_characters and any(unicodedata.category(c) == "Cc" for c in path):
        return "has control characters, which the destination does not take"
    return ""


def holdable(changes: ChangeSet, can: Capabilities) -> ChangeSet:
    """Without what the destination cannot hold or tell apart; `names` says what that is, and what only people
    might not tell apart."""
    told = [replace(problem, left_out=not can.case_sensitive) for problem in changes.names]
    alike = {path for problem in told if problem.left_out for path in (problem.path, problem.other)}
    kept = []
    for change in changes.changes:
        detail = not_possible(change.path, can)
        if detail:
            if len(told) < MOST_TOLD:
                told.append(NameProblem(NameTrouble.NOT_POSSIBLE, change.path, "", detail, left_out=True))
        elif not alike or not (change.path in alike or any(a in alike for a in ancestors(change.path))):
            kept.append(change)
    if not told:
        return changes
    return replace(changes, changes=tuple(kept), names=tuple(told))


def renamed_to_its_like(changes: ChangeSet, deletions: Iterable[Deletion]) -> frozenset[str]:
    """Changes that a destination which is not case-sensitive takes for something that is to be deleted: the
    deletion has to come first, or it would delete what was just sent."""
    gone = {fold(deletion.path) for deletion in deletions}
    return frozenset(change.path for change in changes.changes if fold(change.path) in gone)
