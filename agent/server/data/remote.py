"""What a sender asks of the receiver besides writing files: delete, ping, discard."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.server.confine import Directories, FileError, reason, split
from agent.server.data.syncer import Job
from agent.server.data.wire import Json, WireError

if TYPE_CHECKING:
    from agent.server.data.receiver import Receiver

MAX_PATHS = 50_000
SYNC_SECONDS = 60.0

DELETED, ABSENT, KEPT, FAILED = "deleted", "absent", "kept", "failed"
Result = tuple[str, str, str]  # path, state, message
Action = Callable[[bytes, Directories, "Receiver"], tuple[str, str]]


def carry_out(value: Json, directories: Directories, receiver: Receiver) -> Json:
    """The answer to one REMOTE frame. WireError for a malformed one; a verb that is unknown is an error in
    the answer, because a newer sender may ask for it."""
    verb, arguments = value.get("verb"), value.get("args") or {}
    if not isinstance(arguments, dict):
        raise WireError("a REMOTE frame is malformed")
    if verb == "ping":
        return {"results": []}
    if verb == "discard":
        for uid in _texts(arguments, "uids"):
            receiver.discard(uid)
        return {"results": []}
    if verb == "delete":
        return {"results": _delete(arguments, directories, receiver)}
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


def _delete(arguments: Json, directories: Directories, receiver: Receiver) -> list[Result]:
    """Files first, then directories, deepest first. Durable when it returns."""
    files = _texts(arguments, "files")
    folders = sorted(_texts(arguments, "directories"), key=lambda path: path.count("/"), reverse=True)
    results = [_attempt(_delete_file, path, directories, receiver) for path in files]
    results += [_attempt(_delete_directory, path, directories, receiver) for path in folders]
    if any(state == DELETED for _, state, _ in results):
        synced = threading.Event()
        receiver.syncer.submit(Job(None, lambda _error: synced.set()))
        synced.wait(SYNC_SECONDS)
    return results


def _attempt(action: Action, path: str, directories: Directories, receiver: Receiver) -> Result:
    try:
        state, message = action(os.fsencode(path), directories, receiver)
    except FileError as error:
        return path, FAILED, str(error)
    except (FileNotFoundError, NotADirectoryError):
        return path, ABSENT, ""
    except OSError as error:
        return path, FAILED, f"{reason(error)} at the destination"
    return path, state, message


def _delete_file(path: bytes, directories: Directories, receiver: Receiver) -> tuple[str, str]:
    parts = split(path)
    if not parts:
        raise FileError("a path without a name cannot be deleted")
    fd = directories.get(parts[:-1], create=False)
    found = os.stat(parts[-1], dir_fd=fd, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        return KEPT, "it is a directory at the destination"
    os.unlink(parts[-1], dir_fd=fd)
    receiver.syncer.published(parts[:-1], None)
    return DELETED, ""


def _delete_directory(path: bytes, directories: Directories, receiver: Receiver) -> tuple[str, str]:
    parts = split(path)
    if not parts:
        return KEPT, "it is the receive root"
    fd = directories.get(parts[:-1], create=False)
    found = os.stat(parts[-1], dir_fd=fd, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        return KEPT, "it is not a directory at the destination"
    try:
        os.rmdir(parts[-1], dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return KEPT, "it is not empty"
        raise
    directories.forget(parts)
    receiver.syncer.published(parts[:-1], None)
    return DELETED, ""
