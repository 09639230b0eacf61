"""Where the agent's socket is. Apart from what serves it, so that a command is quick to start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

SOCKET_NAME = "agent.sock"


@contextmanager
def short_path(state_dir: str) -> Iterator[str]:
    """The agent's socket under a name that fits a socket address, however deep the state directory is."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET_NAME}"
    finally:
        os.close(directory)
