"""Who is on a connection, and what that lets them call."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from pathlib import Path

from agent.server.accounts import Accounts
from agent.server.errors import StartError, not_authenticated

_ALWAYS = frozenset({"server.auth", "server.authAsync", "server.echo", "server.getServerInfo"})
_OWN_REQUESTS = frozenset({"server.getRequestStatus", "server.getRequestResult"})


@dataclass(slots=True)
class Session:
    """One API connection."""

    user: str | None = None  # None = not logged in
    requests: set[int] = field(default_factory=set)  # made on this connection before logging in


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call what. With a control token nothing goes before it; with accounts little goes before
    `server.auth`; with neither, everybody who can connect (all users of this machine) is the owner."""

    owner: str
    accounts: Accounts | None = None
    control_token: str | None = None

    @property
    def required(self) -> bool:
        return self.accounts is not None or self.control_token is not None

    def open_session(self) -> Session:
        return Session(user=None if self.required else self.owner)

    def check(self, session: Session, method: str) -> None:
        """CommandError when the session may not call the method."""
        if session.user is not None:
            return
        if self.control_token is not None:
            if method != "server.authToken":
                raise not_authenticated("this server takes commands only after server.authToken")
        elif method not in _ALWAYS and not (method in _OWN_REQUESTS and session.requests):
            raise not_authenticated(f"{method} needs a login; call server.auth first")

    def matches_token(self, token: str) -> bool:
        if self.control_token is None:
            return False
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.control_token.encode())


def read_token(path: Path) -> str:
    """The control token, from a file that only its owner can read. StartError otherwise."""
    try:
        with path.open("rb") as file:
            token = file.read(4096).decode("ascii").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"control token file {path} cannot be read ({error})") from error
    if mode & 0o077:
        raise StartError(f"control token file {path} is open to others; run: chmod 600 {path}")
    if len(token) < 16:
        raise StartError(f"control token file {path} holds fewer than 16 characters; make a longer token")
    return token
