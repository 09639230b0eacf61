"""Shared tokens (`send.*`) and API tokens (`server.*`)."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
from dataclasses import replace
from typing import Any

from agent.jetstream.constants import PERMISSION_DOWNLOAD, PERMISSIONS_ALL
from agent.server import passwords
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.mappings import normalise
from agent.server.params import Count, ManifestId, Path, Seconds, Text, TokenId
from agent.server.registry import command
from agent.server.session import Session
from agent.server.store import manifests, objects, tokens
from agent.server.store.scope import Scope
from agent.server.store.tokens import Token

TOKEN_BYTES = 24  # 48 hexadecimal digits


class TokenMethods:
    def __init__(self, core: Core) -> None:
        self._core = core

    # --- shared tokens ----------------------------------------------------------------------------------

    @command("send.createSharedToken")
    async def create_shared(
        self,
        session: Session,
        manifestId: ManifestId,
        password: Text | None = None,
        downloadLimit: Count | None = None,
        timeLimitSeconds: Seconds | None = None,
        description: Text | None = None,
    ) -> dict[str, Any]:
        if self._core.options.disable_shared_tokens:
            raise CommandError("this server was started with --api-disable-shared-tokens")
        if downloadLimit == 0:
            raise CommandError("downloadLimit must be at least 1; leave it out for no limit")
        made = await self._new(session, tokens.SHARED, password, timeLimitSeconds, description)
        made = replace(
            made, permissions=PERMISSION_DOWNLOAD, download_limit=downloadLimit, manifest_id=manifestId
        )
        return _structure(await self._core.database.run(_create_shared, made, session.scope), {})

    @command("send.getSharedToken")
    async def get_shared(self, session: Session, token: TokenId) -> dict[str, Any]:
        return await self._get(session, token, tokens.SHARED)

    @command("send.getSharedTokens")
    async def get_all_shared(self, session: Session, limit: Count = 0) -> list[dict[str, Any]]:
        return await self._get_all(session, tokens.SHARED, limit)

    @command("send.updateSharedToken")
    async def update_shared(
        self,
        session: Session,
        token: TokenId,
        timeLimitSeconds: Seconds | None = None,
        description: Text | None = None,
    ) -> None:
        now = self._core.clock.wall_us()
        expires = None if timeLimitSeconds is None else _expiry(now, timeLimitSeconds)
        await self._core.database.run(_update, token, expires, description, session.scope)

    @command("send.deleteSharedToken")
    async def delete_shared(self, session: Session, token: TokenId) -> None:
        await self._core.database.run(_delete, token, tokens.SHARED, session.scope)

    # --- API tokens -------------------------------------------------------------------------------------

    @command("server.createAPIToken")
    async def create_api(
        self,
        session: Session,
        password: Text | None = None,
        permissions: Count | None = None,
        path: Path | None = None,
        timeLimitSeconds: Seconds | None = None,
        description: Text | None = None,
    ) -> dict[str, Any]:
        if self._core.options.disable_api_tokens:
            raise CommandError("this server was started with --api-disable-api-tokens")
        allowed = PERMISSIONS_ALL if permissions is None else permissions
        if not allowed or allowed & ~PERMISSIONS_ALL:
            raise CommandError(
                f"permissions {allowed} is not made of the PERMISSION_* constants (1, 2, 4, 8)"
            )
        made = await self._new(session, tokens.API, password, timeLimitSeconds, description)
        made = replace(made, permissions=allowed, path=normalise(path or "").removesuffix("/"))
        return _structure(await self._core.database.run(tokens.create, made), {})

    @command("server.getAPIToken")
    async def get_api(self, session: Session, token: TokenId) -> dict[str, Any]:
        return await self._get(session, token, tokens.API)

    @command("server.getAPITokens")
    async def get_all_api(self, session: Session, limit: Count = 0) -> list[dict[str, Any]]:
        return await self._get_all(session, tokens.API, limit)

    @command("server.deleteAPIToken")
    async def delete_api(self, session: Session, token: TokenId) -> None:
        await self._core.database.run(_delete, token, tokens.API, session.scope)
        self._core.forget_grants()

    # --- both -------------------------------------------------------------------------------------------

    async def _new(
        self, session: Session, kind: str, password: str | None, limit: float | None, description: str | None
    ) -> Token:
        hashed = None
        if password is not None:
            if not 1 <= len(password) <= passwords.MAX_LENGTH:
                raise CommandError(f"a password has 1 to {passwords.MAX_LENGTH} characters")
            hashed = json.dumps((await asyncio.to_thread(passwords.make, password)).as_object())
        now = self._core.clock.wall_us()
        return Token(
            id=0,
            token=secrets.token_hex(TOKEN_BYTES),
            kind=kind,
            password_hash=hashed,
            permissions=0,
            description=description or "",
            created_us=now,
            expires_us=None if limit is None else _expiry(now, limit),
            owner=session.owner.name,
            owner_token=session.owner.token,
            owner_session=session.owner.session,
        )

    async def _get(self, session: Session, token: str, kind: str) -> dict[str, Any]:
        return _structure(*await self._core.database.run(_read, token, kind, session.scope))

    async def _get_all(self, session: Session, kind: str, limit: int) -> list[dict[str, Any]]:
        found = await self._core.database.run(_read_all, kind, limit, session.scope)
        return [_structure(*each) for each in found]


def _expiry(now_us: int, seconds: float) -> int:
    return now_us + int(seconds * 1_000_000)


def _create_shared(connection: sqlite3.Connection, token: Token, scope: Scope) -> Token:
    manifest = manifests.get(connection, token.manifest_id or 0, scope)
    if manifest.status == manifests.ERROR:
        raise CommandError(f"manifest {manifest.id} failed and cannot be shared: {manifest.error}")
    return tokens.create(connection, _within(connection, token))


def _within(connection: sqlite3.Connection, token: Token) -> Token:
    """What is made with a token does not outlive it."""
    maker = None if token.owner_token is None else tokens.by_id(connection, token.owner_token)
    if maker is None or maker.expires_us is None:
        return token
    if token.expires_us is not None and token.expires_us <= maker.expires_us:
        return token
    return replace(token, expires_us=maker.expires_us)


def _update(
    connection: sqlite3.Connection, token: str, expires_us: int | None, description: str | None, scope: Scope
) -> None:
    found = tokens.get(connection, token, tokens.SHARED, scope)
    changed = replace(
        found,
        expires_us=found.expires_us if expires_us is None else expires_us,
        description=found.description if description is None else description,
    )
    tokens.update(connection, _within(connection, changed))


def _delete(connection: sqlite3.Connection, token: str, kind: str, scope: Scope) -> None:
    tokens.delete(connection, tokens.get(connection, token, kind, scope))


def _read(
    connection: sqlite3.Connection, token: str, kind: str, scope: Scope
) -> tuple[Token, dict[str, str]]:
    found = tokens.get(connection, token, kind, scope)
    return found, objects.user_data(connection, [found.id])[found.id]


def _read_all(
    connection: sqlite3.Connection, kind: str, limit: int, scope: Scope
) -> list[tuple[Token, dict[str, str]]]:
    rows = tokens.get_all(connection, kind, limit, scope)
    data = objects.user_data(connection, [row.id for row in rows])
    return [(row, data[row.id]) for row in rows]


def _structure(row: Token, user_data: dict[str, str]) -> dict[str, Any]:
    """The Token structure; which password opens it is told to nobody."""
    common = {
        "token": row.token,
        "tokenId": str(row.id),
        "creationTime": row.created_us,
        "expiryTime": row.expires_us,
        "description": row.description,
        "passwordRequired": row.password_hash is not None,
        "permissions": row.permissions,
        "owner": row.owner,
        "ownerToken": row.owner_token,
        "ownerTokenSession": row.owner_session,
        "userData": user_data,
    }
    if row.kind == tokens.API:
        return common | {"path": row.path}
    return common | {
        "manifestId": str(row.manifest_id),
        "downloadCount": row.download_count,
        "downloadLimit": row.download_limit,
    }
