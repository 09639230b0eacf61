"""What keeps a mistake at the source from becoming a loss at the destination; it halts deletions only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator

from agent.model.change import Deletion, Suspect, SuspectReason
from agent.model.paths import is_below
from agent.model.plan import Held
from agent.model.spec import Deletions, MappingSpec

SMALL_SET = 20
"""Up to so many deletions the percentage does not count: in a small tree one file is 20 % already."""


def judge_root(
    exists: bool,
    readable: bool,
    device: int | None,
    known_device: int | None,
    entries_seen: int,
    ledger_count: int,
) -> SuspectReason | None:
    """Why a source root is not to be believed when it says that files are gone; None when it is.

    A root is emptied when nothing is left of what the ledger says was delivered from it: an unmounted disk
    looks like that, and a person who means it can say so.
    """
    if not exists:
        return SuspectReason.MISSING
    if not readable:
        return SuspectReason.UNREADABLE
    if known_device is not None and device != known_device:
        return SuspectReason.OTHER_DEVICE
    if entries_seen == 0 and ledger_count > 0:
        return SuspectReason.EMPTIED
    return None


def ancestors(path: str) -> Iterator[str]:
    """`/a/b/c` -> `/a/b`, `/a`; the root itself is not among them."""
    cut = path.rfind("/")
    while cut > 0:
        path = path[:cut]
        yield path
        cut = path.rfind("/")


def suppressed(path: str, suspects: Iterable[Suspect]) -> bool:
    """Whether a deletion of `path` is held back because what lies above it is suspect."""
    return any(is_below(path, suspect.path) for suspect in suspects)


def deletions_digest(deletions: Iterable[Deletion]) -> str:
    """Identity of a set of deletions, whatever its order: what a person approves is this set and no other."""
    state = hashlib.sha256()
    for path, kind in sorted((deletion.path, deletion.kind) for deletion in deletions):
        state.update(os.fsencode(path) + b"\0" + kind.encode() + b"\0")
    return state.hexdigest()[:16]


def over_limit(count: int, ledger_count: int, limits: Deletions, recent: int = 0) -> str:
    """Which limit `count` deletions exceed, as a sentence; empty when none.

    `recent` deletions were carried out a short while ago: a large removal that is noticed piece by piece is
    still one large removal. They are gone from the ledger, so they count on both sides. What a person
    approved does not belong among them.
    """
    total = count + recent
    before = f" (with {recent} a short while ago)" if recent else ""
    if total > limits.max_count:
        return f"{count} deletions{before} exceed deletions.maxCount {limits.max_count}"
    everything = max(ledger_count + recent, total)
    if total > SMALL_SET and total > everything * limits.max_percent:
        percent = 100 * total / everything
        return (
            f"{count} deletions{before} are {percent:.3g}% of what was delivered,"
            f" deletions.maxPercent is {limits.max_percent * 100:.3g}%"
        )
    return ""


def hold(
    desired: MappingSpec,
    destination: str,
    deletions: tuple[Deletion, ...],
    ledger_count: int,
    approved: frozenset[str],
    recent: int = 0,
) -> Held | None:
    """The hold on these deletions, or None when they are within limits or a person approved exactly them."""
    reason = over_limit(len(deletions), ledger_count, desired.deletions, recent) if deletions else ""
    digest = deletions_digest(deletions) if reason else ""
    if not reason or digest in approved:
        return None
    return Held(desired.name, destination, deletions, reason, digest)


def removable_directories(
    deletions: Iterable[Deletion],
    roots: tuple[str, ...],
    still_present: Callable[[str], bool] | frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """The directories that these deletions may leave empty, deepest first.

    Only those strictly below the closest root of a deletion, which are not in the source any more; a path
    under no root has none. They are deleted only if they are empty, so one too many does no harm.
    """
    present = still_present if callable(still_present) else still_present.__contains__
    closest_first = sorted(roots, key=len, reverse=True)
    found: dict[str, bool] = {}
    for deletion in deletions:
        root = next((root for root in closest_first if is_below(deletion.path, root)), None)
        if root is None:
            continue
        for directory in ancestors(deletion.path):
            if directory in found or directory == root or not is_below(directory, root):
                break
            found[directory] = not present(directory)
    gone = [directory for directory, removable in found.items() if removable]
    return tuple(sorted(gone, key=lambda directory: (-directory.count("/"), directory)))
