"""`lanesync.deletePaths`, `renamePaths`, `listPaths`: what is asked of a destination beside transfers."""

# ruff: noqa: ARG002 - a check takes the parameters of its method

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent.server import listed
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.methods import checks
from agent.server.params import Boolean, Count, DestinationId, Pairs, Path, Paths, Text
from agent.server.registry import command
from agent.server.sending import Sender
from agent.server.session import Session
from agent.server.store import destinations
from agent.server.store.destinations import Destination

CHANGE_SECONDS = 300.0
LIST_SECONDS = 300.0
DIGEST_SECONDS = 12 * 3600.0  # one file may be terabytes
LIST_LIMIT = 20_000
_DELETE_STATES = ("deleted", "absent", "kept", "failed")
_RENAME_STATES = ("renamed", "absent", "taken", "failed")


class FarMethods:
    """The credentials are for the receiving server, as those of createTransfer."""

    def __init__(self, core: Core, sender: Sender) -> None:
        self._core = core
        self._sender = sender

    async def check_delete(
        self,
        session: Session,
        destinationId: int,
        files: list[str],
        directories: list[str],
        userName: str | None,
        password: str | None,
        token: str | None,
    ) -> None:
        await self._check(session, destinationId, userName, password, token)

    @command("lanesync.deletePaths", twin=True, check="check_delete")
    async def delete_paths(
        self,
        session: Session,
        destinationId: DestinationId,
        files: Paths,
        directories: Paths,
        userName: Text | None = None,
        password: Text | None = None,
        token: Text | None = None,
    ) -> dict[str, Any]:
        destination = await self._check(session, destinationId, userName, password, token)
        if not files and not directories:
            return {"results": []}
        args = {"files": files, "directories": directories}
        given = self._given(session, destination, userName, password, token)
        answer = await self._sender.remote(destination, "delete", args, CHANGE_SECONDS, given)
        with _trusting(destination):
            return {"results": listed.changes(answer, [*files, *directories], _DELETE_STATES)}

    async def check_rename(
        self,
        session: Session,
        destinationId: int,
        renames: list[tuple[str, str]],
        userName: str | None,
        password: str | None,
        token: str | None,
    ) -> None:
        await self._check(session, destinationId, userName, password, token)

    @command("lanesync.renamePaths", twin=True, check="check_rename")
    async def rename_paths(
        self,
        session: Session,
        destinationId: DestinationId,
        renames: Pairs,
        userName: Text | None = None,
        password: Text | None = None,
        token: Text | None = None,
    ) -> dict[str, Any]:
        destination = await self._check(session, destinationId, userName, password, token)
        if not renames:
            return {"results": []}
        args = {"renames": [path for pair in renames for path in pair]}
        given = self._given(session, destination, userName, password, token)
        answer = await self._sender.remote(destination, "rename", args, CHANGE_SECONDS, given)
        with _trusting(destination):
            return {"results": listed.changes(answer, [new for _, new in renames], _RENAME_STATES)}

    async def check_list(
        self,
        session: Session,
        destinationId: int,
        directory: str,
        after: str,
        checksum: bool,
        limit: int,
        userName: str | None,
        password: str | None,
        token: str | None,
    ) -> None:
        await self._check(session, destinationId, userName, password, token)

    @command("lanesync.listPaths", twin=True, check="check_list")
    async def list_paths(
        self,
        session: Session,
        destinationId: DestinationId,
        directory: Path = "/",
        after: Path = "",
        checksum: Boolean = False,
        limit: Count = LIST_LIMIT,
        userName: Text | None = None,
        password: Text | None = None,
        token: Text | None = None,
    ) -> dict[str, Any]:
        if not 0 < limit <= LIST_LIMIT:
            raise CommandError(f"limit is 1 to {LIST_LIMIT}; ask for more with after=next")
        destination = await self._check(session, destinationId, userName, password, token)
        args = {"directory": directory, "after": after, "checksum": checksum, "rows": limit}
        given = self._given(session, destination, userName, password, token)
        seconds = DIGEST_SECONDS if checksum else LIST_SECONDS
        answer = await self._sender.remote(destination, "list", args, seconds, given)
        with _trusting(destination):
            page = listed.page(answer, os.fsencode(directory), os.fsencode(after), limit)
        return {"files": [file._asdict() for file in page.files], "next": page.next}

    async def _check(
        self,
        session: Session,
        destination_id: int,
        user_name: str | None,
        password: str | None,
        token: str | None,
    ) -> Destination:
        """CommandError for credentials that make no sense and for a destination of somebody else."""
        checks.credentials(user_name, password, token)
        return await self._core.database.run(destinations.get, destination_id, session.scope)

    def _given(
        self,
        session: Session,
        destination: Destination,
        user_name: str | None,
        password: str | None,
        token: str | None,
    ) -> dict[str, str]:
        """What the receiving server is shown."""
        if user_name is None and token is None and session.token is None:
            token = self._core.vouchers.token(session.user or "", destination)
        shown = {"user": user_name, "password": password, "token": token}
        return {name: text for name, text in shown.items() if text is not None}


@contextmanager
def _trusting(destination: Destination) -> Iterator[None]:
    """CommandError for an answer that makes no sense."""
    try:
        yield
    except ValueError as error:
        where = f"{destination.address}:{destination.port}"
        raise CommandError(f"what {where} answers cannot be believed: {error}") from None
