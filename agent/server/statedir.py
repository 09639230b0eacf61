"""The server's state directory: its lock, and telling others where the server listens."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from agent.server.errors import StartError

LOCK_NAME = "server.lock"


def lock(state_dir: Path) -> int:
    """Create the directory if needed and lock it; returns the descriptor that holds the lock. Workers
    inherit it, so the lock is free only when all of the server's processes are gone. StartError names the
    process that has it."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(state_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"state directory {state_dir} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StartError(
            f"state directory {state_dir} is in use by the server with process id {holder}; "
            "stop it, or choose another --state-dir"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def announce_file(path: Path, address: dict[str, object]) -> None:
    """Write the address for others to read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(address) + "\n", encoding="ascii")
    temporary.replace(path)


def announce_fd(fd: int, address: dict[str, object]) -> None:
    """Write the address to a pipe and close it."""
    try:
        os.write(fd, json.dumps(address).encode("ascii") + b"\n")
    except OSError:
        pass  # nobody reads any more
    finally:
        os.close(fd)
