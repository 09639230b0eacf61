"""When garbage is collected: at the interval that is set now, tokens whatever it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent.server import collect
from agent.server.collect import Collector, Settings
from agent.server.core import Core, open_core
from agent.server.options import ServeOptions
from agent.server.store import manifests, tokens
from agent.server.store.database import Database
from agent.server.store.scope import Owner
from agent.server.store.tokens import Token

HOUR = 3600 * 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000 * HOUR

    def wall_us(self) -> int:
        return self.now

    def steady_us(self) -> int:
        return self.now


Scenario = Callable[[Core, Collector], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def play(tmp_path: Path, clock: Clock) -> Iterator[Play]:
    database = Database(tmp_path / "server.db")

    async def run(scenario: Scenario) -> None:
        core = await open_core(ServeOptions(tmp_path), database, clock)

        async def purge() -> None:
            pass

        try:
            async with asyncio.timeout(60):
                await scenario(core, Collector(core, lambda _destination: None, purge))
        finally:
            core.io.shutdown()

    yield lambda scenario: asyncio.run(run(scenario))
    database.close()


def _token(name: str, expires: int | None, manifest: int | None = None) -> Token:
    kind = tokens.API if manifest is None else tokens.SHARED
    return Token(0, name * 48, kind, None, 15, "", 0, expires, "me", manifest_id=manifest)


async def _manifest(core: Core) -> int:
    made = await core.database.run(manifests.create, Owner("me"), 0)
    await core.database.run(manifests.finish, made.id, 0, 0, "")
    return made.id


async def _left(core: Core) -> list[int]:
    return [row.id for row in await core.database.run(manifests.get_all, None, None, None)]


async def _is_empty(core: Core) -> bool:
    return await _left(core) == []


@contextlib.asynccontextmanager
async def _serving(collector: Collector) -> AsyncIterator[None]:
    task = asyncio.create_task(collector.serve())
    try:
        yield
    finally:
        task.cancel()


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():
        await asyncio.sleep(0.005)


def test_a_manifest_stays_as_long_as_a_shared_token_lives(play: Play, clock: Clock) -> None:
    """The token goes at its expiry, the manifest with the same run."""

    async def scenario(core: Core, collector: Collector) -> None:
        shared, unused = await _manifest(core), await _manifest(core)
        await core.database.run(tokens.create, _token("a", clock.now + HOUR, shared))
        removed = await collector.collect()
        assert removed.manifests == [unused] and await _left(core) == [shared]
        clock.now += HOUR
        removed = await collector.collect()
        assert len(removed.tokens) == 1 and removed.manifests == [shared]

    play(scenario)


def test_expired_tokens_go_also_when_the_next_run_is_far(
    play: Play, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "TOKENS_SECONDS", 0.01)

    async def scenario(core: Core, collector: Collector) -> None:
        async def gone() -> bool:
            return await core.database.run(tokens.find, "a" * 48) is None

        await core.database.run(tokens.create, _token("a", clock.now + 1))
        first = await _manifest(core)
        async with _serving(collector):
            await _until(lambda: _is_empty(core))
            kept = await _manifest(core)
            assert kept > first and not await gone()
            clock.now += 1
            await _until(gone)
            assert await _left(core) == [kept], "it was no run"

    play(scenario)


def test_a_change_of_the_interval_counts_from_now(play: Play) -> None:
    """Not only after the interval before, which may be years."""

    async def scenario(core: Core, collector: Collector) -> None:
        await collector.change(Settings(interval_seconds=2**31 - 1))
        await _manifest(core)
        async with _serving(collector):
            await _until(lambda: _is_empty(core))
            await _manifest(core)
            await collector.change(Settings(interval_seconds=0, time_limit_seconds=0))
            await _until(lambda: _is_empty(core))
        assert await collector.settings() == Settings(0, 0)

    play(scenario)
