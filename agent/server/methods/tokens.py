"""`send.*` about shared tokens: refused by name in this version."""

# ruff: noqa: ARG002 - every method takes the session and its documented parameters

from __future__ import annotations

from agent.server.errors import not_supported
from agent.server.params import Anything, Count, ManifestId, Text
from agent.server.registry import command
from agent.server.session import Session

_WHAT = "sharing with tokens"


class TokenMethods:
    @command("send.createSharedToken")
    async def create(
        self,
        session: Session,
        manifestId: ManifestId,
        password: Text | None = None,
        downloadLimit: Count | None = None,
        timeLimitSeconds: Count | None = None,
        description: Text | None = None,
    ) -> None:
        raise not_supported(f"createSharedToken ({_WHAT})")

    @command("send.getSharedToken")
    async def get(self, session: Session, token: Anything) -> None:
        raise not_supported(f"getSharedToken ({_WHAT})")

    @command("send.getSharedTokens")
    async def get_all(self, session: Session, limit: Count = 0) -> None:
        raise not_supported(f"getSharedTokens ({_WHAT})")

    @command("send.updateSharedToken")
    async def update(
        self,
        session: Session,
        token: Anything,
        timeLimitSeconds: Count | None = None,
        description: Text | None = None,
    ) -> None:
        raise not_supported(f"updateSharedToken ({_WHAT})")

    @command("send.deleteSharedToken")
    async def delete(self, session: Session, token: Anything) -> None:
        raise not_supported(f"deleteSharedToken ({_WHAT})")
