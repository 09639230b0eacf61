"""Symbolic links that are delivered as links: only those that stay within the source tree."""

from __future__ import annotations

import os

import xxhash

from agent.model.change import FileKind, FileStat


class LinkError(Exception):
    """A link is left out; the message says why."""


def link_stat(path: str, depth: int) -> FileStat:
    """The version of a link that lies `depth` directories below the source root. LinkError for one that
    leads out of the tree, as far as it says itself; OSError when it is gone, or is none."""
    info = os.lstat(path)
    target = os.readlink(path)
    if (why := leads_out(target, depth)) is not None:
        raise LinkError(why)
    size = len(os.fsencode(target))
    return FileStat(FileKind.SYMLINK, size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, False)


def link_digest(path: str, version: FileStat) -> str:
    """xxh3_64 of what a link says, as a transfer's results have it; empty when it is no longer of this
    version."""
    try:
        target = os.fsencode(os.readlink(path))
        info = os.lstat(path)
    except OSError:
        return ""
    same = (info.st_mtime_ns, info.st_ctime_ns, info.st_ino) == (
        version.mtime_ns,
        version.ctime_ns,
        version.inode,
    )
    return xxhash.xxh3_64_hexdigest(target) if same else ""


def leads_out(target: str, depth: int) -> str | None:
    """Why a link may lead out of the tree. It may climb only at its beginning: behind a name, which can be
    another link, nobody knows where `..` leads."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/"):
        return f"link leads out of the source: to the absolute path {target}"
    if climbs > depth:
        return f"link leads out of the source: to {target}"
    if ".." in parts[climbs:]:
        return f"link may lead out of the source: to {target}, with `..` behind a name"
    return None
