"""Whether the credentials of an incoming transfer are good, and where its files go."""

from __future__ import annotations

import asyncio
import os

import structlog

from agent.jetstream.constants import ERROR_AUTHENTICATION
from agent.server.access import Access
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.ipc import Message
from agent.server.sandboxes import Roots
from agent.server.session import Grant

_log = structlog.get_logger(__name__)


class Authorizer:
    """Answers the receiver worker. Event loop only."""

    def __init__(self, core: Core, access: Access) -> None:
        self._core = core
        self._access = access

    async def answer(self, message: Message) -> Message:
        """To one `authorize` message: the roots of whose the files are to be, or why it is refused. What of
        the credentials was wrong is not told."""
        user, password, token = (message.get(name) or None for name in ("user", "password", "token"))
        told: Message = {"op": "authorized", "number": message["number"]}
        try:
            grant = self._vouched(token)
            if grant is None:
                grant = await self._access.authorize_transfer(user, password, token, str(message["peer"]))
            roots = await self._ready(grant)
        except CommandError as error:
            return told | {"error": _refusal(error, user, token)}
        except Exception:  # noqa: BLE001 - the worker waits for an answer, whatever happens
            _log.exception("credentials of a transfer could not be checked")
            return told | {"error": "the receiving server could not check the credentials; its log says why"}
        name = grant.user if self._access.accounts is not None else ""
        return told | {"user": name, "permissions": grant.permissions, **roots.as_json()}

    def _vouched(self, token: str | None) -> Grant | None:
        """Of a transfer from this server to itself."""
        user = None if token is None else self._core.vouchers.user(token)
        if user is None or not self._access.exists(user):
            return None
        return Grant(user)

    async def _ready(self, grant: Grant) -> Roots:
        roots = self._core.reach.roots(grant.user, grant.path)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._core.io, self._core.reach.ensure, grant.user, roots)
        return roots

    def roots(self) -> list[str]:
        """Directories in which incoming transfers of known users may have left unfinished files."""
        users = {self._access.owner, *self._core.reach.mappings}
        if self._access.accounts is not None:
            users.update(self._access.accounts.names())
        found = {os.fsencode(self._core.options.receive_directory)}
        for user in users:
            try:
                found.update(root.base for root in self._core.reach.roots(user).roots)
            except CommandError:
                continue  # a user who can have none
        return sorted(os.fsdecode(base) for base in found)


def _refusal(error: CommandError, user: str | None, token: str | None) -> str:
    if error.code != ERROR_AUTHENTICATION:
        return f"the receiving server cannot take the transfer: {error}"
    if token is not None:
        return "the receiving server refuses the token"
    if user is not None:
        return f"the receiving server refuses the credentials of user {user}"
    return str(error)
