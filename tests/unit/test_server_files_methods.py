"""File methods: a walk belongs to its caller, and few go on at once."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.server import fileops
from agent.server.methods import files
from agent.server.methods.files import FileMethods
from agent.server.options import ServeOptions
from agent.server.reach import Reach
from agent.server.session import Session


def _methods(tmp_path: Path, io: ThreadPoolExecutor) -> FileMethods:
    core: Any = SimpleNamespace(io=io, reach=Reach(ServeOptions(tmp_path), {}))
    return FileMethods(core)


def test_a_walk_ends_when_its_caller_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is free again soon: it is told to stop."""
    begun, ended = threading.Event(), threading.Event()

    def endless(_roots: object, _path: bytes, stop: threading.Event, _seconds: float) -> fileops.Usage:
        begun.set()
        if stop.wait(20):
            ended.set()
        return fileops.Usage()

    monkeypatch.setattr(fileops, "du_roots", endless)

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as io:
            call = asyncio.create_task(_methods(tmp_path, io).du(Session(user="u"), "/"))
            await asyncio.to_thread(begun.wait, 20)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(scenario())
    assert ended.is_set()


def test_walks_leave_threads_to_those_who_ask_for_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many measure, a listing is answered."""
    go, running = threading.Event(), threading.Semaphore(0)

    def slow(_roots: object, _path: bytes, _stop: threading.Event, _seconds: float) -> fileops.Usage:
        running.release()
        go.wait(20)
        return fileops.Usage()

    monkeypatch.setattr(fileops, "du_roots", slow)

    async def scenario() -> None:
        with ThreadPoolExecutor(files.WALKS_AT_ONCE + 1) as io:
            methods, session = _methods(tmp_path, io), Session(user="u")
            walks = [asyncio.create_task(methods.du(session, "/")) for _ in range(10)]
            for _ in range(files.WALKS_AT_ONCE):
                await asyncio.to_thread(running.acquire, True, 20)
            found = await asyncio.wait_for(methods.ls(session, "/"), 60)
            assert found["entries"] == []
            go.set()
            await asyncio.gather(*walks)

    asyncio.run(scenario())
