"""Which source files may be deleted for every destination has them, and where to look to be sure. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from agent.model.change import FileKind, FileStat
from agent.model.known import Known, Origin
from agent.model.paths import is_below, parent
from agent.planning.changes import difference

RACY_SECONDS = 2.0
"""A file that was delivered sooner after its last change may have changed once more without showing."""

SPARE = 8
"""A directory may hold twice as many files as are asked for, and so many more, to be listed as a whole."""


def is_delivered(stat: FileStat, rows: Mapping[str, Known | None]) -> bool:
    """Whether every destination has got exactly this version, as the ledger says."""
    return stat.kind is FileKind.FILE and all(
        known is not None and known.stat.ctime_ns != 0 and not difference(stat, known.stat)
        for known in rows.values()
    )


def not_sent(rows: Mapping[str, Known | None]) -> str:
    """Why a destination's file is not one that was sent there; empty when all are.

    What was there before may be the source itself, by another way to the same storage: then there is one
    file, and not two. What was sent there is another one for sure.
    """
    why = {
        Origin.KEPT: "keeps its own instead",
        Origin.ADOPTED: "had it before; touch it to have it sent, or delete it yourself",
    }
    found = ((name, known.origin) for name, known in rows.items() if known is not None)
    return next((f"{name} {why[origin]}" for name, origin in found if origin in why), "")


def is_racy(stat: FileStat, rows: Iterable[Known]) -> bool:
    """Whether only its content tells that the file is still what was delivered."""
    return any(known.delivered_at < stat.ctime_ns / 1e9 + RACY_SECONDS for known in rows)


def places(paths: Iterable[str], delivered: Callable[[str], int]) -> tuple[str, ...]:
    """What to list at a destination so that all of `paths` and little else is read there: whole directories
    where most of what was delivered (`delivered` counts it) is asked for, single files elsewhere. In the byte
    order of paths, none below another."""
    left = sorted(set(paths))
    found: list[str] = []
    for directory in sorted({parent(path) for path in left}):
        if any(is_below(directory, known) for known in found):
            continue
        inside = sum(is_below(path, directory) for path in left)
        if inside > 1 and delivered(directory) <= 2 * inside + SPARE:
            found.append(directory)
    return tuple(sorted([*found, *(p for p in left if not any(is_below(p, known) for known in found))]))
