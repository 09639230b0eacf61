"""Logging in, and whether a login still holds.

Nothing is decided once and for all: at every call the account or token of the session is looked up again. An
account that is gone or has another password, a token that is deleted, expired or whose maker is gone: the
next call says so.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from agent.jetstream.constants import ERROR_INTERNAL, PERMISSION_UPLOAD
from agent.server import passwords, rights
from agent.server.accounts import Account, Accounts, AccountsError
from agent.server.core import Core
from agent.server.errors import CommandError, StartError, not_authenticated
from agent.server.patience import Patience
from agent.server.session import Grant, Session
from agent.server.store import tokens
from agent.server.store.tokens import Token

_log = structlog.get_logger(__name__)

HASHES_AT_ONCE = 2  # each takes a core for a moment
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the server was started with. With neither accounts nor a control token everybody who can connect
    (all users of this machine) is the owner."""

    owner: str
    accounts: Accounts | None = None
    control_token: str | None = None


class Access:
    """Event loop only."""

    def __init__(self, core: Core, credentials: Credentials) -> None:
        self._core = core
        self._patience = Patience()
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)
        self._accounts_problem = ""
        self.owner = credentials.owner
        self.accounts = credentials.accounts
        self._control_token = credentials.control_token

    @property
    def required(self) -> bool:
        """Whether anybody has to log in."""
        return self.accounts is not None or self._control_token is not None

    def open_session(self, peer: str = "") -> Session:
        if self.required:
            return Session(peer)
        return Session(peer, user=self.owner, everything=True)

    async def check(self, session: Session, method: str) -> None:
        """CommandError when the session may not call the method, or its login does not hold any more."""
        ended = await self._ended(session)
        if ended:
            session.log_out()
            if method.removesuffix("Async") not in rights.LOG_IN:
                raise not_authenticated(f"{ended}; log in again")
        rights.check(session, method, only_token=self._control_token is not None)

    async def _ended(self, session: Session) -> str:
        """Why the login does not hold any more; empty while it does."""
        if session.token is not None:
            found = await self._core.database.run(tokens.by_id, session.token)
            return "the token was deleted" if found is None else self._unusable(found)
        if session.entry is None or self.accounts is None or session.user is None:
            return ""
        self._reload()
        account = self.accounts.get(session.user)
        if account is None:
            return f"the account {session.user} was removed"
        if account.password != session.entry:
            return f"the password of {session.user} was changed"
        session.superuser = session.superuser and self._may_be_superuser(session.user, account)
        return ""

    def _reload(self) -> None:
        """An accounts file that cannot be read lets nobody in, and nobody is sent away for it."""
        problem = ""
        try:
            if self.accounts is not None:
                self.accounts.reload()
        except AccountsError as error:
            problem = str(error)
        if problem and problem != self._accounts_problem:
            _log.error("accounts cannot be read; nobody can log in until they can", problem=problem)
        self._accounts_problem = problem

    # --- logging in -------------------------------------------------------------------------------------

    async def log_in(self, session: Session, user: str, password: str) -> None:
        """CommandError when user and password do not belong together."""
        account = await self._account(user, password, session.peer)
        session.log_out()
        session.user, session.entry = user, account.password
        _log.info("login", user=user, peer=session.peer)

    async def log_in_token(self, session: Session, token: str, password: str | None) -> None:
        """By the control token, an API token or a shared token. CommandError when it is none of them."""
        control = self._control_token
        if control is not None and hmac.compare_digest(token.encode("utf-8", "replace"), control.encode()):
            session.log_out()
            session.user, session.everything, session.superuser = self.owner, True, True
            return
        found = await self._token(token, password, session.peer)
        session.log_out()
        session.permissions, session.path, session.manifest = found.permissions, found.path, found.manifest_id
        session.user, session.token, session.token_session = found.owner, str(found.id), uuid.uuid4().hex
        _log.info("login", user=found.owner, token=session.token, kind=found.kind, peer=session.peer)

    def raise_to_superuser(self, session: Session) -> None:
        """CommandError when the session's user is none."""
        if not session.everything:
            account = None if self.accounts is None else self.accounts.get(session.user or "")
            if session.token is not None or not self._may_be_superuser(session.user, account):
                raise CommandError(
                    f"{session.user} is no superuser of this server; start it with --superuser, or mark the "
                    "account: lanesync user add NAME --superuser --accounts FILE"
                )
        session.superuser = True
        _log.info("superuser", user=session.user, peer=session.peer)

    def _may_be_superuser(self, user: str | None, account: Account | None) -> bool:
        return account is not None and (account.superuser or user in self._core.options.superusers)

    async def authorize_transfer(
        self, user: str | None, password: str | None, token: str | None, peer: str
    ) -> Grant:
        """Whose files an incoming transfer may write. Without accounts everybody may send, as the owner.
        CommandError when the credentials are missing, wrong, or do not allow it."""
        if token is not None:
            found = await self._token(token, password, peer)
            if found.kind != tokens.API or not found.permissions & PERMISSION_UPLOAD:
                raise not_authenticated("the token does not allow sending files to this server")
            return Grant(found.owner, found.path, found.permissions)
        if self.accounts is None:
            return Grant(self.owner)
        if user is None or password is None:
            raise not_authenticated(
                "the receiving server has accounts; give userName and password, or token, to createTransfer"
            )
        await self._account(user, password, peer)
        return Grant(user)

    async def _account(self, user: str, password: str, peer: str) -> Account:
        accounts = self.accounts
        if accounts is None:
            raise not_authenticated(
                "this server has no accounts; start it with --accounts FILE, "
                "made with: lanesync user add NAME --accounts FILE"
            )
        self._reload()
        if self._accounts_problem:
            raise CommandError("the server cannot read its accounts now; its log says why", ERROR_INTERNAL)
        account = await self._patiently(user, peer, lambda: accounts.verify(user, password))
        if account is None:
            raise not_authenticated("user name or password is wrong")
        return account

    async def _token(self, token: str, password: str | None, peer: str) -> Token:
        found = await self._core.database.run(tokens.find, token)
        invalid = "the token is not valid here" if found is None else self._unusable(found)
        secret = None if invalid or found is None else found.password_hash
        key = "token" if found is None else f"token {found.id}"

        def matches() -> bool:
            if secret is not None:
                return passwords.from_object(json.loads(secret)).matches(password or "")
            return not invalid

        if not await self._patiently(key, peer, matches) or found is None:
            raise not_authenticated(invalid or "the token's password is wrong or missing")
        now = await self._core.database.run(tokens.find, token)  # it waited
        if now is None or self._unusable(now):
            raise not_authenticated("the token was deleted or expired meanwhile")
        return now

    def _unusable(self, token: Token) -> str:
        """Why a token opens nothing; empty when it does."""
        options = self._core.options
        disabled = options.disable_api_tokens if token.kind == tokens.API else options.disable_shared_tokens
        if disabled:
            return f"this server takes no {token.kind} tokens"
        if token.expired(self._core.clock.wall_us()):
            return "the token has expired"
        if not self.exists(token.owner):
            return "the account that made the token is gone"
        return ""

    def exists(self, user: str) -> bool:
        """Whether there is such a user, now."""
        if self.accounts is None or (self._control_token is not None and user == self.owner):
            return True
        self._reload()
        return self.accounts.get(user) is not None

    async def _patiently(self, name: str, peer: str, check: Callable[[], T]) -> T:
        """`check` in a thread, after the wait that earlier failures brought; a false result is a failure."""
        now = asyncio.get_running_loop().time
        wait = self._patience.admit(name, peer, now())
        if wait is None:
            raise CommandError(
                f"too many logins from {peer or 'there'} failed; wait a minute and try again", ERROR_INTERNAL
            )
        found: T | None = None
        try:
            await asyncio.sleep(wait)
            async with self._hashing:
                found = await asyncio.to_thread(check)
        finally:
            if found:
                self._patience.succeeded(name, peer, now())
            else:
                failures = self._patience.failed(name, peer, now())
                _log.warning("login failed", user=name[:64], peer=peer, failures=failures)
        return found


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
