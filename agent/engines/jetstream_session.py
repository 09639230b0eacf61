"""One logged-in session with a JetStream server, kept alive, with its errors in the agent's words."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from agent.jetstream import (
    AuthenticationError,
    CommandError,
    ConnectionFailedError,
    JetstreamError,
    NotFoundError,
    ServerFaultError,
)
from agent.jetstream.extensions import extensions_of
from agent.jetstream.structures import ServerInfo
from agent.model import outcome

REQUEST_TIMEOUT = 10.0
WAIT_TIMEOUT = 30.0
"""Seconds after which a server that says nothing, not even "no events yet", is given up."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in: a user with a password, or a token. repr shows neither."""

    user: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"


Login = Callable[[], Credentials | None]
"""Resolved at each log-in, so that a changed secret takes effect; None = the server asks for none."""


class Api(Protocol):
    """The part of the JetStream API's entry object that a session needs; agent.jetstream.APIInterface."""

    server: Any
    send: Any
    lanesync: Any

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    @property
    def connected(self) -> bool: ...


@contextlib.contextmanager
def agent_errors() -> Iterator[None]:
    """Client errors as agent.model.outcome errors, with the same text."""
    try:
        yield
    except ConnectionFailedError as error:
        raise outcome.UnreachableError(str(error)) from error
    except AuthenticationError as error:
        raise outcome.AuthenticationError(str(error)) from error
    except NotFoundError as error:
        raise outcome.NotFoundError(str(error)) from error
    except ServerFaultError as error:
        raise outcome.RetryableError(str(error)) from error
    except CommandError as error:
        if "not found" in str(error).lower():  # a server whose errors carry no code
            raise outcome.NotFoundError(str(error)) from error
        raise outcome.PermanentError(str(error)) from error
    except JetstreamError as error:
        raise outcome.PermanentError(str(error)) from error


class Session:
    """Connects and logs in when needed. Thread-safe; a broken connection is replaced by the next call."""

    def __init__(self, make_api: Callable[[], Api], login: Login) -> None:
        self._make_api = make_api
        self._login = login
        self._lock = threading.Lock()
        self._api: Api | None = None
        self._closed = threading.Event()
        self.info: ServerInfo = {}
        self.extensions: frozenset[str] = frozenset()

    def api(self) -> Api:
        """A connected, logged-in API. Raises UnreachableError, AuthenticationError or PermanentError."""
        with self._lock:
            self._require_open()
            if self._api is not None and self._api.connected:
                return self._api
            self._api = None
            with agent_errors():
                api = self._connect()
            self._api = api
            if self._closed.is_set():
                api.disconnect()
            self._require_open()
            return api

    def ask(self) -> None:
        """Raises what `api` raises unless the server answers now: one that hangs keeps its connections."""
        before = self._api
        api = self.api()
        if api is before:
            with agent_errors():
                self.info = api.server.getServerInfo()

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise outcome.UnreachableError("the connection to this server was closed by the agent")

    def _connect(self) -> Api:
        credentials = self._login()
        api = self._make_api()
        try:
            api.connect()
            if credentials is not None and credentials.token:
                api.server.authToken(credentials.token)
            elif credentials is not None and credentials.user:
                api.server.auth(credentials.user, credentials.password)
            self.info = api.server.getServerInfo()
        except BaseException:
            api.disconnect()
            raise
        self.extensions = extensions_of(self.info)
        return api

    def close(self) -> None:
        """For good; calls that wait raise UnreachableError. Idempotent."""
        # No lock: somebody may hold it while connecting, and will see that we are closed.
        self._closed.set()
        api = self._api
        if api is not None:
            api.disconnect()
