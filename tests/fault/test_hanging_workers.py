"""A data worker that hangs without dying is noticed, killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.server import ipc, supervisor
from agent.server.supervisor import Callbacks, Worker

pytestmark = pytest.mark.fault


async def _until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not found():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("role", ["sender", "receiver"])
def test_a_worker_that_stands_still_is_replaced(
    tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that runs, but has nothing to do, is left alone."""
    monkeypatch.setattr(supervisor, "SILENT_SECONDS", 4.0)
    ready, gone = list[int](), list[int]()

    async def run() -> None:
        async def told_ready() -> None:
            assert worker.pid is not None
            ready.append(worker.pid)

        async def told(_message: ipc.Message) -> None:
            return

        async def told_gone() -> None:
            gone.append(len(ready))

        worker = Worker(role, ["--state-dir", str(tmp_path)], (), Callbacks(told_ready, told, told_gone))
        worker.ensure()
        await _until(lambda: len(ready) == 1)
        await asyncio.sleep(1.5 * supervisor.SILENT_SECONDS)
        assert gone == [] and worker.pid == ready[0]
        os.kill(ready[0], signal.SIGSTOP)
        await _until(lambda: len(ready) == 2)
        assert gone == [1] and worker.pid == ready[1] != ready[0]
        assert not Path(f"/proc/{ready[0]}").exists()
        await worker.stop()

    asyncio.run(run())
    assert "worker hangs, killing it" in "".join(capfd.readouterr())
