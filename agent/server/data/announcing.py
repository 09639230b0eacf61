"""The announcement of a file that will come in pieces."""

from __future__ import annotations

import os

from agent.server.data.received import Identity, ReceivedFile
from agent.server.data.wire import Json, WireError


def announced(seq: int, generation: int, value: Json) -> ReceivedFile:
    """What a FILE frame says. WireError when it makes no sense."""
    try:
        size, mtime, ctime, inode = (int(part) for part in value["identity"])
        identity: Identity = (size, mtime, ctime, inode)
        path, flags, mtime_ns = os.fsencode(str(value["path"])), int(value["flags"]), int(value["mtimeNs"])
        seed = None if value.get("seed") is None else int(value["seed"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WireError("a FILE frame is malformed") from error
    numbers = (mtime, ctime, mtime_ns)
    if not 0 <= size < 1 << 63 or not 0 <= inode < 1 << 64 or max(map(abs, numbers)) >= 1 << 63:
        raise WireError("a FILE frame announces an impossible size or time")
    if seed is not None and not 0 <= seed < 1 << 64:
        raise WireError("a FILE frame has an impossible seed")
    file = ReceivedFile(seq, generation, identity, path, flags)
    file.mtime_ns, file.seed = mtime_ns, seed
    return file
