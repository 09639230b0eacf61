"""Who is on a connection, and what that lets them see."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.jetstream.constants import PERMISSIONS_ALL
from agent.server.store.scope import EVERYTHING, NOTHING, Owner, Scope


@dataclass(slots=True)
class Session:
    """One API connection. `Access` alone changes who it is."""

    peer: str = ""  # address of the other end
    user: str | None = None  # None = not logged in; with a token, who made it
    superuser: bool = False  # raised by server.superuser
    everything: bool = False  # the server has no accounts, or its control token was shown: all is theirs
    token: str | None = None  # id of the one it is logged in with
    token_session: str | None = None  # this login, for what is made in it
    permissions: int = PERMISSIONS_ALL
    path: str = ""  # of an API token: what is below it is all they reach
    manifest: int | None = None  # of a shared token: the one it shares
    entry: object = None  # the account as it was at login; another password ends the session
    requests: set[int] = field(default_factory=set)  # made on this connection before logging in

    @property
    def owner(self) -> Owner:
        """Who owns what is made now."""
        return Owner(self.user or "", self.token, self.token_session)

    @property
    def scope(self) -> Scope:
        """Whose objects the session sees. A token that is held to a path, or to a manifest, sees what was
        made with it: what else its maker has may lie elsewhere."""
        if self.user is None:
            return NOTHING
        if self.superuser or self.everything:
            return EVERYTHING
        narrow = self.token if self.path or self.manifest is not None else None
        return Scope(self.user, narrow, self.manifest)

    @property
    def shared(self) -> str | None:
        """The shared token's id, when that is what the session is logged in with."""
        return None if self.manifest is None else self.token

    def log_out(self) -> None:
        """Back to what a connection is before it logs in."""
        self.user = self.token = self.token_session = self.manifest = self.entry = None
        self.superuser = self.everything = False
        self.permissions, self.path = PERMISSIONS_ALL, ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a transfer's credentials stand for: whose files it may write, and where."""

    user: str
    path: str = ""  # of an API token: the folder, below the user's own, that it is held to
    permissions: int = PERMISSIONS_ALL
