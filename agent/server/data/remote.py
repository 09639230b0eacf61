"""What a sender asks of the receiver besides writing files: delete, ping, discard."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.jetstream.constants import PERMISSION_MODIFY
from agent.server.confine import Directories, FileError, reason
from agent.server.data.granting import Grant
from agent.server.data.syncer import Job, Syncer
from agent.server.data.wire import Json, WireError
from agent.server.sandboxes import Place

if TYPE_CHECKING:
    from agent.server.data.receiver import Receiver

MAX_PATHS = 50_000
SYNC_SECONDS = 60.0

DELETED, ABSENT, KEPT, FAILED = "deleted", "absent", "kept", "failed"
Result = tuple[str, str, str]  # path, state, message


def carry_out(value: Json, grant: Grant, receiver: Receiver) -> Json:
    """The answer to one REMOTE frame, below the roots of whoever asks. WireError for a malformed one,
    RefusedError for what is not theirs to ask; a verb that is unknown is an error in the answer, because a
    newer sender may ask for it."""
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


class _Deletion:
    """Deletes below the roots of one grant, for one thread."""

    def __init__(self, grant: Grant, receiver: Receiver) -> None:
        self._grant = grant
        self._receiver = receiver
        self._open: dict[bytes, tuple[Directories, Syncer]] = {}
        self._changed: set[bytes] = set()

    def attempt(self, action: Action, path: str) -> Result:
        try:
            place = self._grant.roots.resolve(os.fsencode(path))
            if place is None or not place.parts:
                return path, KEPT, "it is a root"
            state, message = action(self, place)
        except FileError as error:
            return path, FAILED, str(error)
        except UnicodeEncodeError:
            return path, FAILED, "the file system cannot carry such a name"
        except (FileNotFoundError, NotADirectoryError):
            return path, ABSENT, ""
        except OSError as error:
            return path, FAILED, f"{reason(error)} at the destination"
        return path, state, message

    def directories(self, base: bytes) -> Directories:
        if base not in self._open:
            self._open[base] = (Directories(base), self._receiver.use(base).syncer)
        return self._open[base][0]

    def deleted(self, place: Place) -> tuple[str, str]:
        self._open[place.base][1].published(place.parts[:-1], None)
        self._changed.add(place.base)
        return DELETED, ""

    def finish(self) -> None:
        """Have it on storage."""
        for base, (directories, syncer) in self._open.items():
            directories.clear()
            if base in self._changed:
                synced = threading.Event()
                syncer.submit(Job(None, lambda _error, synced=synced: synced.set()))  # type: ignore[misc]
                synced.wait(SYNC_SECONDS)
            self._receiver.unuse(base)


Action = Callable[[_Deletion, Place], tuple[str, str]]


def _delete(arguments: Json, grant: Grant, receiver: Receiver) -> list[Result]:
    """Files first, then directories, deepest first. Durable when it returns."""
    files = _texts(arguments, "files")
    folders = sorted(_texts(arguments, "directories"), key=lambda path: path.count("/"), reverse=True)
    deletion = _Deletion(grant, receiver)
    try:
        results = [deletion.attempt(_delete_file, path) for path in files]
        return results + [deletion.attempt(_delete_directory, path) for path in folders]
    finally:
        deletion.finish()


def _delete_file(deletion: _Deletion, place: Place) -> tuple[str, str]:
    name = place.parts[-1]
    fd = deletion.directories(place.base).get(place.parts[:-1], create=False)
    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        return KEPT, "it is a directory at the destination"
    os.unlink(name, dir_fd=fd)
    return deletion.deleted(place)


def _delete_directory(deletion: _Deletion, place: Place) -> tuple[str, str]:
    name = place.parts[-1]
    directories = deletion.directories(place.base)
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
    return deletion.deleted(place)
