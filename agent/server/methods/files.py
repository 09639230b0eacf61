"""`server.ls`, `du`, `mkdir`, `mv`, `rm`: files below the roots of whoever asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from threading import Event
from typing import Any, TypeVar

import structlog

from agent.jetstream.constants import ERROR_COMMAND, ERROR_NOT_FOUND
from agent.server import fileops
from agent.server.confine import FileError, reason
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.fileops import Item
from agent.server.params import Boolean, Count, Path, Seconds
from agent.server.registry import command
from agent.server.sandboxes import Place, Roots
from agent.server.session import Session

_log = structlog.get_logger(__name__)

LS_LIMIT, LS_MOST = 1000, 5000
DU_MOST_SECONDS = 600.0
WALKS_AT_ONCE = 2  # the other threads are for those who ask for little
T = TypeVar("T")


class FileMethods:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._walks = asyncio.Semaphore(WALKS_AT_ONCE)

    @command("server.lsRoots", twin=True)
    async def ls_roots(self, session: Session) -> list[dict[str, str]]:
        return [{"path": name, "type": "file"} for name in self._roots(session).names()]

    @command("server.ls", twin=True)
    async def ls(
        self, session: Session, path: Path = "/", limit: Count = LS_LIMIT, after: Path | None = None
    ) -> dict[str, Any]:
        if not 0 < limit <= LS_MOST:
            raise CommandError(f"limit is 1 to {LS_MOST}; ask for more with after=next")
        start = None if after is None else os.fsencode(after)

        def work(roots: Roots, _stop: Event) -> tuple[list[Item], bool]:
            place = roots.resolve(os.fsencode(path))
            if place is not None:
                return fileops.ls(place, limit, start)
            return fileops.ls_roots(roots, limit, start)

        items, more = await self._run(session, path, work)
        following = os.fsdecode(items[-1].name) if more and items else None
        return {"path": path, "entries": [_entry(item) for item in items], "next": following}

    @command("server.du", twin=True, waits=True)
    async def du(self, session: Session, path: Path = "/", timeoutSeconds: Seconds = 60.0) -> dict[str, Any]:
        seconds = min(timeoutSeconds, DU_MOST_SECONDS)

        def work(roots: Roots, stop: Event) -> fileops.Usage:
            return fileops.du_roots(roots, os.fsencode(path), stop, seconds)

        async with self._walks:
            usage = await self._run(session, path, work)
        return {
            "path": path,
            "totalSize": usage.size,
            "totalFiles": usage.files,
            "totalDirectories": usage.directories,
            "complete": usage.complete,
        }

    @command("server.mkdir", twin=True)
    async def mkdir(self, session: Session, path: Path) -> None:
        await self._run(session, path, lambda roots, _stop: fileops.mkdir(_place(roots, path)))

    @command("server.mv", twin=True)
    async def mv(self, session: Session, source: Path, destination: Path) -> None:
        def work(roots: Roots, _stop: Event) -> None:
            fileops.mv(_place(roots, source), _place(roots, destination))

        await self._run(session, source, work)
        _log.info("file moved", user=session.user, source=source, destination=destination)

    @command("server.rm", twin=True)
    async def rm(self, session: Session, path: Path, recursive: Boolean = False) -> dict[str, int]:
        def work(roots: Roots, stop: Event) -> fileops.Removed:
            return fileops.rm(_place(roots, path), stop, recursive=recursive)

        async with self._walks:
            removed = await self._run(session, path, work)
        _log.info("files removed", user=session.user, path=path, files=removed.files)
        return {"files": removed.files, "directories": removed.directories}

    def _roots(self, session: Session) -> Roots:
        return self._core.reach.roots(session.user or "", session.path)

    async def _run(self, session: Session, path: str, work: Callable[[Roots, Event], T]) -> T:
        """In a thread; a walk whose caller is gone ends soon."""
        roots, stop = self._roots(session), Event()

        def carry_out() -> T:
            self._core.reach.ensure(session.user or "", roots)
            try:
                return work(roots, stop)
            except FileError as error:
                raise CommandError(str(error)) from None
            except OSError as error:
                code = ERROR_NOT_FOUND if isinstance(error, FileNotFoundError) else ERROR_COMMAND
                raise CommandError(f"{path}: {reason(error)}", code) from None

        try:
            return await asyncio.get_running_loop().run_in_executor(self._core.io, carry_out)
        finally:
            stop.set()


def _place(roots: Roots, path: str) -> Place:
    """FileError for the top of several named roots, which cannot be changed."""
    place = roots.resolve(os.fsencode(path))
    if place is None:
        raise FileError(f"{path}: the roots are set by the administrator; name one of them")
    return place


def _entry(item: Item) -> dict[str, Any]:
    return {
        "name": os.fsdecode(item.name),
        "type": item.kind,
        "size": item.size,
        "modificationTime": item.mtime_us,
        "executable": item.executable,
    }
