"""`server.*SandboxMapping*`: which directories each user's paths lead into."""

from __future__ import annotations

from agent.jetstream.constants import ERROR_NOT_FOUND
from agent.server import sandboxes as parsing
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.methods import checks
from agent.server.params import Object, Text
from agent.server.registry import command
from agent.server.sandboxes import Mapping
from agent.server.session import Session
from agent.server.store import sandboxes


class SandboxMethods:
    """For superusers. A change acts on the next call and the next transfer of its user."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @command("server.setSandboxMapping")
    async def set_mapping(self, session: Session, user: Text, mapping: Object) -> None:
        checks.superuser(session, "setSandboxMapping")
        if user:
            parsing.expand("/%u", user)
        parsed = parsing.parse_mapping(mapping)
        mappings = self._core.reach.mappings
        if user not in mappings and len(mappings) >= sandboxes.MAX_USERS:
            raise CommandError(f"there are {sandboxes.MAX_USERS} sandbox mappings; delete some")
        await self._core.database.run(sandboxes.put, user, parsed)
        mappings[user] = parsed
        self._core.forget_grants()

    @command("server.getSandboxMappings")
    async def get_mappings(self, session: Session, user: Text | None = None) -> dict[str, Mapping]:
        checks.superuser(session, "getSandboxMappings")
        mappings = self._core.reach.mappings
        return {name: mapping for name, mapping in sorted(mappings.items()) if user in (None, name)}

    @command("server.deleteSandboxMapping")
    async def delete_mapping(self, session: Session, user: Text) -> None:
        checks.superuser(session, "deleteSandboxMapping")
        if not await self._core.database.run(sandboxes.delete, user):
            raise CommandError(f"user {user!r} has no sandbox mapping", ERROR_NOT_FOUND)
        self._core.reach.mappings.pop(user, None)
        self._core.forget_grants()
