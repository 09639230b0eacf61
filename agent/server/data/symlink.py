"""Symbolic links at the receiver: made under a temporary name, never followed, none that leads outside.

A link may climb (`..`) only at its beginning, and no higher than the root: the directory it lies in is
reached without following a link, so that far its way up is known. What follows goes down, through other
links at most, which are held to the same rule. `..` behind a name could step up from wherever a link there
leads, and is refused.
"""

from __future__ import annotations

import os

from agent.server.confine import PATH_MAX, STAGING, FileError, Parts, shown


def check_target(directory: Parts, name: bytes, target: bytes) -> None:
    """FileError for a link in `directory` (below the receive root) that could lead out of the root."""
    if not target or b"\0" in target or len(target) >= PATH_MAX:
        raise FileError(f"{shown(name)}: the target of the link is empty or too long")
    climbs, parts = _climbs(target)
    if target.startswith(b"/") or b".." in parts or climbs > len(directory):
        raise FileError(
            f"{shown(name)}: the link leads to {shown(target)}, which is not below the receive root; "
            "`symlinks: preserve` makes links that stay within it"
        )
    place = (*directory[: len(directory) - climbs], *parts)
    if place and place[0] == STAGING:
        raise FileError(f"{shown(name)}: the link leads into {STAGING.decode()}, which is reserved")


def _climbs(target: bytes) -> tuple[int, list[bytes]]:
    """How many `..` the target begins with, and what follows them."""
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == b"..":
        climbs += 1
    return climbs, parts[climbs:]


def make(target: bytes, directory: int, name: bytes, mtime_ns: int | None) -> None:
    """A link of that name in the directory (a descriptor); its own time is set when it is given."""
    os.symlink(target, name, dir_fd=directory)
    if mtime_ns is not None:
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=directory, follow_symlinks=False)
