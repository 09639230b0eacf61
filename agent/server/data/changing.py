"""Changing what is at the destination, path by path, below the roots of one grant."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.server.confine import Directories, FileError, reason
from agent.server.data.granting import Grant
from agent.server.data.syncer import Job, Syncer
from agent.server.sandboxes import Place

if TYPE_CHECKING:
    from agent.server.data.receiver import Receiver

SYNC_SECONDS = 60.0
ABSENT, FAILED = "absent", "failed"

Result = tuple[str, str, str]  # path, state, message
Action = Callable[[], tuple[str, str]]


class Changing:
    """For one thread. `finish` gives the descriptors back; call it whatever happened."""

    def __init__(self, grant: Grant, receiver: Receiver) -> None:
        self._grant = grant
        self._receiver = receiver
        self._open: dict[bytes, tuple[Directories, Syncer]] = {}
        self._changed: set[bytes] = set()

    def place(self, path: str) -> Place | None:
        """None for a root, which is not changed. FileError for a path that leads nowhere."""
        try:
            place = self._grant.roots.resolve(os.fsencode(path))
        except UnicodeEncodeError:
            raise FileError("the file system cannot carry such a name") from None
        return place if place is not None and place.parts else None

    def attempt(self, path: str, action: Action) -> Result:
        try:
            state, message = action()
        except FileError as error:
            return path, FAILED, str(error)
        except (FileNotFoundError, NotADirectoryError):
            return path, ABSENT, ""
        except OSError as error:
            return path, FAILED, f"{reason(error)} at the destination"
        return path, state, message

    def directories(self, base: bytes) -> Directories:
        if base not in self._open:
            self._open[base] = (Directories(base), self._receiver.use(base).syncer)
        return self._open[base][0]

    def changed(self, place: Place, name: bytes | None = None) -> None:
        """Note that the directory of a place has changed, and what got the name there."""
        self._open[place.base][1].published(place.parts[:-1], name)
        self._changed.add(place.base)

    def settle(self) -> str:
        """Have it on storage; what went wrong, if anything did."""
        problem = ""
        for base in self._changed:
            problem = _sync(self._open[base][1]) or problem
        self._changed.clear()
        return problem

    def finish(self) -> None:
        for base, (directories, _) in self._open.items():
            directories.clear()
            self._receiver.unuse(base)


def _sync(syncer: Syncer) -> str:
    synced, problems = threading.Event(), list[str]()

    def done(error: OSError | None) -> None:
        if error is not None:
            problems.append(f"the destination cannot sync its storage: {reason(error)}")
        synced.set()

    syncer.submit(Job(None, done))
    if not synced.wait(SYNC_SECONDS):
        return f"the destination's storage did not confirm it within {SYNC_SECONDS:.0f} s"
    return problems[0] if problems else ""


def unsure(results: list[Result], changed: str, problem: str) -> list[Result]:
    """What may be undone by a power cut is not told as changed."""
    if not problem:
        return results
    return [
        (path, FAILED, problem) if state == changed else (path, state, text) for path, state, text in results
    ]
