"""What a sender asks of the receiver besides writing files: delete, rename, list, discard."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.jetstream.constants import PERMISSION_DOWNLOAD, PERMISSION_MODIFY, PERMISSION_UPLOAD
from agent.server.confine import FileError
from agent.server.data import listing, renaming
from agent.server.data.changing import Changing, Result, unsure
from agent.server.data.granting import Grant
from agent.server.data.wire import Json, WireError
from agent.server.sandboxes import Place

if TYPE_CHECKING:
    from agent.server.data.receiver import Receiver

MAX_PATHS = 50_000
PAGE_SECONDS = 5.0  # after which a page of a listing ends

DELETED, KEPT = "deleted", "kept"
Stopped = Callable[[], bool]


def is_errand(value: Json) -> bool:
    """Whether a verb takes too long for the thread that reads a stream."""
    return value.get("verb") in ("list", "rename")


def is_slow(value: Json) -> bool:
    """Whether it may take minutes: contents are read."""
    arguments = value.get("args")
    return value.get("verb") == "list" and isinstance(arguments, dict) and arguments.get("checksum") is True


def carry_out(value: Json, grant: Grant, receiver: Receiver, stopped: Stopped) -> Json:
    """The answer to one REMOTE frame, below the roots of whoever asks. WireError for a malformed one,
    RefusedError for what is not theirs to ask; a verb that is unknown is an error in the answer, because a
    newer sender may ask for it. `stopped`: nobody waits for the answer any more."""
    verb, arguments = value.get("verb"), value.get("args") or {}
    if not isinstance(arguments, dict):
        raise WireError("a REMOTE frame is malformed")
    if verb == "discard":
        for uid in _texts(arguments, "uids"):
            for root in grant.roots.roots:
                receiver.discard(root.base, grant.ident(uid))
        return {"results": []}
    if verb == "delete":
        grant.require(PERMISSION_MODIFY)
        return {"results": _delete(arguments, grant, receiver)}
    if verb == "rename":
        grant.require(PERMISSION_MODIFY | PERMISSION_UPLOAD)
        return {"results": renaming.rename(_pairs(arguments), grant, receiver)}
    if verb == "list":
        grant.require(PERMISSION_DOWNLOAD)
        return _list(arguments, grant, receiver, stopped)
    return {
        "error": f"the destination's server does not know {str(verb)[:40]!r}; bring it to a newer version"
    }


def _texts(arguments: Json, key: str) -> list[str]:
    found = arguments.get(key, [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise WireError(f"a REMOTE frame is malformed: {key}")
    if len(found) > MAX_PATHS:
        raise WireError(f"a REMOTE frame names more than {MAX_PATHS} paths")
    return found


def _pairs(arguments: Json) -> list[renaming.Pair]:
    """Told as one list, old and new in turn."""
    found = _texts(arguments, "renames")
    if len(found) % 2:
        raise WireError("a REMOTE frame is malformed: renames")
    return list(zip(found[::2], found[1::2], strict=True))


# --- listing ----------------------------------------------------------------------------------------------


def _list(arguments: Json, grant: Grant, receiver: Receiver, stopped: Stopped) -> Json:
    """One page. Where there is no answer, there is nobody to read it."""
    deadline = time.monotonic() + PAGE_SECONDS
    try:
        wish = _wish(arguments, lambda: time.monotonic() > deadline, stopped)
        page = listing.Listing(wish, receiver.leftovers)
        page.walk(grant.roots)
    except listing.StoppedError:
        return {"error": "the session is over"}
    except FileError as error:
        return {"error": str(error)}
    return {"results": page.rows, "next": None if page.next is None else os.fsdecode(page.next)}


def _wish(arguments: Json, over: Stopped, stopped: Stopped) -> listing.Wish:
    directory, after = arguments.get("directory"), arguments.get("after", "")
    checksum, rows = arguments.get("checksum", False), arguments.get("rows", listing.PAGE_ROWS)
    if not isinstance(directory, str) or not isinstance(after, str) or not isinstance(checksum, bool):
        raise WireError("a REMOTE frame is malformed: list")
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise WireError("a REMOTE frame is malformed: rows")
    try:
        paths = os.fsencode(directory), os.fsencode(after)
    except UnicodeEncodeError:
        raise FileError("the file system cannot carry such a name") from None
    return listing.Wish(*paths, checksum, min(rows, listing.PAGE_ROWS), over, stopped)


# --- deleting ---------------------------------------------------------------------------------------------


def _delete(arguments: Json, grant: Grant, receiver: Receiver) -> list[Result]:
    """Files first, then directories, deepest first. Durable when it returns."""
    files = _texts(arguments, "files")
    folders = sorted(_texts(arguments, "directories"), key=lambda path: path.count("/"), reverse=True)
    changing = Changing(grant, receiver)
    try:
        results = [_attempt(changing, _delete_file, path) for path in files]
        results += [_attempt(changing, _delete_directory, path) for path in folders]
        return unsure(results, DELETED, changing.settle())
    finally:
        changing.finish()


def _attempt(changing: Changing, delete: Callable[[Changing, Place], tuple[str, str]], path: str) -> Result:
    def action() -> tuple[str, str]:
        place = changing.place(path)
        return (KEPT, "it is a root") if place is None else delete(changing, place)

    return changing.attempt(path, action)


def _delete_file(changing: Changing, place: Place) -> tuple[str, str]:
    name = place.parts[-1]
    fd = changing.directories(place.base).get(place.parts[:-1], create=False)
    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        return KEPT, "it is a directory at the destination"
    os.unlink(name, dir_fd=fd)
    changing.changed(place)
    return DELETED, ""


def _delete_directory(changing: Changing, place: Place) -> tuple[str, str]:
    name = place.parts[-1]
    directories = changing.directories(place.base)
    fd = directories.get(place.parts[:-1], create=False)
    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        return KEPT, "it is not a directory at the destination"
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return KEPT, "it is not empty"
        raise
    directories.forget(place.parts)
    changing.changed(place)
    return DELETED, ""
