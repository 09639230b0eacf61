"""Renaming files at the destination: nothing is replaced, and what is told is on storage."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from agent.server import noreplace
from agent.server.confine import TRASH, FileError, shown
from agent.server.data.changing import Changing, Result, unsure
from agent.server.data.granting import Grant
from agent.server.data.symlink import check_target
from agent.server.sandboxes import Place

if TYPE_CHECKING:
    from agent.server.data.receiver import Receiver

RENAMED, TAKEN = "renamed", "taken"
Pair = tuple[str, str]


def rename(pairs: list[Pair], grant: Grant, receiver: Receiver) -> list[Result]:
    """In the given order; the results are by the new path. Directories are made above it, and those that are
    left empty stay."""
    changing = Changing(grant, receiver)
    try:
        results = [_attempt(changing, old, new) for old, new in pairs]
        return unsure(results, RENAMED, changing.settle())
    finally:
        changing.finish()


def _attempt(changing: Changing, old: str, new: str) -> Result:
    def action() -> tuple[str, str]:
        _check_reserved(old)
        source, target = changing.place(old), changing.place(new)
        if source is None or target is None:
            raise FileError("a root keeps its name")
        return _rename(changing, source, target)

    return changing.attempt(new, action)


def _check_reserved(old: str) -> None:
    """FileError: files go into the trash this way, and a person takes them out of it."""
    first = next((part for part in old.split("/") if part), "")
    if first == os.fsdecode(TRASH):
        raise FileError(f"{first} holds what was removed; nothing is renamed out of it")


def _rename(changing: Changing, old: Place, new: Place) -> tuple[str, str]:
    source = changing.directories(old.base).get(old.parts[:-1], create=False)
    found = os.stat(old.parts[-1], dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        raise FileError(f"{old.shown} is a directory at the destination; files are renamed one by one")
    if stat.S_ISLNK(found.st_mode):  # from its new place it may lead elsewhere
        check_target(new.parts[:-1], new.parts[-1], os.readlink(old.parts[-1], dir_fd=source))
    source = os.dup(source)  # the other directory may push it out of the cache
    try:
        target = changing.directories(new.base).get(new.parts[:-1])
        noreplace.rename(source, old.parts[-1], target, new.parts[-1])
    except FileExistsError:
        return TAKEN, "something is there already"
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise FileError(
            f"{old.shown} and {shown(new.parts[-1])} lie on different file systems at the destination"
        ) from error
    finally:
        os.close(source)
    changing.changed(old)
    changing.changed(new, new.parts[-1])
    return RENAMED, ""
