"""Whose files an incoming transfer may write, and what ends a login."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.jetstream import constants
from agent.server import accounts, passwords
from agent.server.access import Access, Credentials
from agent.server.accounts import Accounts
from agent.server.core import Core, open_core
from agent.server.errors import CommandError
from agent.server.options import ServeOptions
from agent.server.session import Grant
from agent.server.store import tokens
from agent.server.store.database import Database
from agent.server.store.tokens import Token

HERE = "127.0.0.1"
START_US = 1_700_000_000_000_000


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_us = START_US

    def wall_us(self) -> int:
        return self.now_us

    def steady_us(self) -> int:
        return self.now_us


class World:
    def __init__(self, core: Core, clock: HandClock, file: Path) -> None:
        self.core, self.clock, self.file = core, clock, file

    def access(self, *, with_accounts: bool = True, control_token: str | None = None) -> Access:
        found = Accounts(self.file) if with_accounts else None
        return Access(self.core, Credentials("me", found, control_token))

    async def token(self, kind: str = tokens.API, password: str | None = None, **values: object) -> str:
        hashed = None if password is None else json.dumps(passwords.make(password).as_object())
        made = Token(
            id=0,
            token=secrets.token_hex(24),
            kind=kind,
            password_hash=hashed,
            permissions=constants.PERMISSIONS_ALL,
            description="",
            created_us=START_US,
            expires_us=None,
            owner="anna",
        )
        made = replace(made, **values)  # type: ignore[arg-type]
        return (await self.core.database.run(tokens.create, made)).token


Play = Callable[[Callable[[World], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    accounts.add(tmp_path / "accounts.json", "anna", "secret")

    async def run(scenario: Callable[[World], Awaitable[None]]) -> None:
        database = Database(tmp_path / "server.db")
        try:
            clock = HandClock()
            core = await open_core(ServeOptions(tmp_path), database, clock)
            await scenario(World(core, clock, tmp_path / "accounts.json"))
        finally:
            database.close()

    return lambda scenario: asyncio.run(run(scenario))


async def refused(work: Awaitable[object], match: str) -> CommandError:
    with pytest.raises(CommandError, match=match) as caught:
        await work
    return caught.value


def test_without_accounts_everybody_may_send(play: Play) -> None:
    """As the owner, whatever they show."""

    async def scenario(world: World) -> None:
        access = world.access(with_accounts=False)
        assert await access.authorize_transfer(None, None, None, HERE) == Grant("me")
        assert await access.authorize_transfer("anna", "wrong", None, HERE) == Grant("me")

    play(scenario)


def test_with_accounts_a_transfer_needs_credentials(play: Play) -> None:
    """Which of name and password was wrong is not told."""

    async def scenario(world: World) -> None:
        access = world.access()
        assert await access.authorize_transfer("anna", "secret", None, HERE) == Grant("anna")
        missing = await refused(access.authorize_transfer(None, None, None, HERE), "has accounts")
        assert missing.code == constants.ERROR_AUTHENTICATION
        await refused(access.authorize_transfer("anna", None, None, HERE), "has accounts")
        wrong = await refused(access.authorize_transfer("anna", "wrong", None, HERE), "wrong")
        unknown = await refused(access.authorize_transfer("nobody", "wrong", None, HERE), "wrong")
        assert str(wrong) == str(unknown)

    play(scenario)


def test_a_token_stands_for_its_maker_below_its_path(play: Play) -> None:
    """With the permission to upload, and its password when it has one."""

    async def scenario(world: World) -> None:
        access = world.access()
        upload = constants.PERMISSION_UPLOAD
        token = await world.token(permissions=upload, path="/in", password="pass")
        granted = await access.authorize_transfer(None, "pass", token, HERE)
        assert granted == Grant("anna", "/in", upload)
        await refused(access.authorize_transfer(None, None, token, HERE), "password")
        await refused(access.authorize_transfer(None, None, "0" * 48, HERE), "not valid")
        reader = await world.token(permissions=constants.PERMISSION_DOWNLOAD)
        await refused(access.authorize_transfer(None, None, reader, HERE), "does not allow sending")
        shared = await world.token(tokens.SHARED, manifest_id=1)
        await refused(access.authorize_transfer(None, None, shared, HERE), "does not allow sending")

    play(scenario)


def test_a_token_ends_at_its_time_and_with_its_maker(play: Play) -> None:
    """To the microsecond, by the wall clock."""

    async def scenario(world: World) -> None:
        access = world.access()
        token = await world.token(expires_us=START_US + 10)
        world.clock.now_us = START_US + 9
        assert (await access.authorize_transfer(None, None, token, HERE)).user == "anna"
        session = access.open_session(HERE)
        await access.log_in_token(session, token, None)
        await access.check(session, "send.getManifests")
        world.clock.now_us = START_US + 10
        await refused(access.authorize_transfer(None, None, token, HERE), "expired")
        await refused(access.check(session, "send.getManifests"), "expired; log in again")
        assert session.user is None and session.token is None
        other = await world.token()
        accounts.remove(world.file, "anna")
        await refused(access.authorize_transfer(None, None, other, HERE), "is gone")

    play(scenario)


def test_who_leaves_in_the_middle_of_a_login_has_failed(play: Play) -> None:
    """Hanging up before the answer gives no free guesses."""

    async def scenario(world: World) -> None:
        access = world.access()
        for _ in range(4):
            attempt = asyncio.create_task(access.log_in(access.open_session("10.0.0.1"), "anna", "guess"))
            await asyncio.sleep(0)
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        loop = asyncio.get_running_loop()
        started = loop.time()
        session = access.open_session(HERE)
        await access.log_in(session, "anna", "secret")
        assert loop.time() - started >= 1.0
        assert session.user == "anna"

    play(scenario)


def test_a_token_that_ends_while_its_login_waits_opens_nothing(play: Play) -> None:
    """What counts is the time at which it is let in."""

    async def scenario(world: World) -> None:
        access = world.access()
        token = await world.token(password="pass")
        await refused(access.authorize_transfer(None, "wrong", token, HERE), "password")
        waiting = asyncio.create_task(access.authorize_transfer(None, "pass", token, HERE))
        await asyncio.sleep(0)
        await world.core.database.run(_delete, token)
        await refused(waiting, "meanwhile|not valid")

    play(scenario)


def _delete(connection: sqlite3.Connection, token: str) -> None:
    tokens.delete(connection, tokens.get(connection, token, tokens.API))


def test_the_control_token_opens_everything(play: Play) -> None:
    """And a wrong one, however odd, nothing."""

    async def scenario(world: World) -> None:
        access = world.access(with_accounts=False, control_token="c" * 40)
        session = access.open_session(HERE)
        for wrong in ("c" * 39, "", "\udcff", "ü"):
            await refused(access.log_in_token(session, wrong, None), "not valid")
        assert session.user is None
        await access.log_in_token(session, "c" * 40, None)
        assert session.superuser and session.everything and session.user == "me"
        assert (await access.authorize_transfer(None, None, None, HERE)).user == "me"

    play(scenario)


def test_a_control_token_commands_while_accounts_send(play: Play) -> None:
    """As an agent starts it for itself: it is the owner, its tokens hold, others show credentials."""

    async def scenario(world: World) -> None:
        access = world.access(control_token="c" * 40)
        session = access.open_session(HERE)
        await refused(access.check(session, "server.auth"), "only after server.authToken")
        await access.log_in_token(session, "c" * 40, None)
        await access.check(session, "send.getManifests")
        await refused(access.authorize_transfer(None, None, None, HERE), "has accounts")
        token = await world.token(owner="me")
        assert (await access.authorize_transfer(None, None, token, HERE)).user == "me"
        stranger = await world.token(owner="nobody")
        await refused(access.authorize_transfer(None, None, stranger, HERE), "is gone")

    play(scenario)


def test_a_rush_of_logins_is_a_matter_of_waiting_not_of_credentials(play: Play) -> None:
    """Who is right is not told that they are wrong, and may try again."""

    async def scenario(world: World) -> None:
        access = world.access()
        rush = [access.log_in(access.open_session(HERE), f"u{number}", "guess") for number in range(60)]
        tasks = [asyncio.create_task(work) for work in rush]
        await asyncio.sleep(0)
        failure = await refused(access.authorize_transfer("anna", "secret", None, HERE), "too many logins")
        assert failure.code == constants.ERROR_INTERNAL
        assert (await access.authorize_transfer("anna", "secret", None, "10.0.0.9")).user == "anna"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    play(scenario)


def test_a_new_login_keeps_nothing_of_the_one_before(play: Play) -> None:
    """A narrow token after a superuser is narrow."""

    async def scenario(world: World) -> None:
        accounts.add(world.file, "anna", "secret", superuser=True)
        access = world.access()
        session = access.open_session(HERE)
        await access.log_in(session, "anna", "secret")
        access.raise_to_superuser(session)
        await access.log_in_token(session, await world.token(path="/in"), None)
        assert not session.superuser and session.path == "/in" and session.scope.token == session.token
        with pytest.raises(CommandError, match="no superuser"):
            access.raise_to_superuser(session)
        await access.log_in(session, "anna", "secret")
        assert session.token is None and session.path == "" and session.scope.token is None

    play(scenario)
