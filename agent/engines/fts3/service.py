"""The service itself: how we log in to it, what its errors mean, and how politely it is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agent.engines.fts3.settings import Settings
from agent.fts3 import Client, Context, FTS3ClientException, Kind, Limits, Retries, WhoAmI
from agent.fts3.errors import BadEndpoint
from agent.model import outcome
from agent.model.condition import Reason
from agent.model.observed import Notice
from agent.model.spec import Storage

_WARN_BEFORE = timedelta(days=3)
_WARN_AT_LEAST = timedelta(hours=2)
"""FTS3 takes no more jobs in the last hour of what was delegated to it."""
_LAST_PART = 4
"""Of a proxy, which lives for hours, the last quarter is the end."""

_ASK = Retries(attempts=2, interval=0.2, max_interval=1.0, budget=3.0)
_WORK = Retries(attempts=3, interval=0.5, max_interval=5.0, budget=20.0)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the service answers, how we log in, and which storages serve our files. certificate, key and ca
    are paths; `token` returns the bearer token that is valid now, "" for none."""

    endpoint: str
    name: str  # of the server in the specs: two of them may be one service
    certificate: str | None = None
    key: str | None = None
    token: Callable[[], str] | None = field(default=None, repr=False)
    ca: str | None = None
    delegation_lifetime: float = 43_200.0
    storage: tuple[Storage, ...] = ()
    verify_checksum: bool = True


@contextmanager
def agent_errors() -> Iterator[None]:
    try:
        yield
    except FTS3ClientException as error:
        raise translated(error) from error


def translated(error: FTS3ClientException) -> outcome.LaneSyncError:
    text = str(error) or type(error).__name__
    match error.kind:
        case Kind.RETRYABLE:
            nobody = isinstance(error, BadEndpoint) or error.status in (502, 503, 504)
            return outcome.UnreachableError(text) if nobody else outcome.RetryableError(text)
        case Kind.LOST:
            return outcome.NotFoundError(text)
        case Kind.PERMANENT:
            return outcome.PermanentError(text)
        case Kind.NEEDS_CREDENTIAL | Kind.BANNED | Kind.NOT_PERMITTED:
            return outcome.AuthenticationError(text)


class Pace:
    """So many a second, with a second's worth saved up at most. For use from several threads."""

    def __init__(
        self,
        per_second: float,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1.0 / per_second
        self._monotonic, self._sleep = monotonic, sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self) -> None:
        """Wait for the next turn."""
        with self._lock:
            now = self._monotonic()
            self._free_at = max(self._free_at, now - 1.0) + self._interval
            wait = self._free_at - now
        if wait > 0:
            self._sleep(wait)


class Service:
    """Clients for one service: an impatient one for calls that somebody waits for, a patient one for the
    workers. For use from several threads."""

    def __init__(self, access: Access, settings: Settings) -> None:
        self.access = access
        self._settings = settings
        self._lock = threading.Lock()
        self._clients: dict[bool, Client] = {}
        self._pace = Pace(settings.requests_per_second)

    def asking(self) -> Client:
        return self._client(patient=False)

    def working(self) -> Client:
        """Waits for its turn first."""
        self._pace.take()
        return self._client(patient=True)

    def _client(self, *, patient: bool) -> Client:
        """Raises AuthenticationError or PermanentError for what is wrong with the credential at sight."""
        with self._lock:
            found = self._clients.get(patient)
            if found is None:
                with agent_errors():
                    found = self._clients[patient] = Client(self._context(patient))
            return found

    def _context(self, patient: bool) -> Context:
        access, timeout = self.access, self._settings.request_timeout
        limits = Limits(connect=10, read=30, answer=120) if patient else Limits(timeout / 2, timeout, timeout)
        return Context(
            access.endpoint,
            access.certificate,
            access.key,
            fts_access_token=access.token,
            capath=access.ca,
            limits=limits,
            retries=_WORK if patient else _ASK,
        )

    @property
    def lifetime(self) -> timedelta:
        return timedelta(seconds=self.access.delegation_lifetime)

    def login(self) -> WhoAmI:
        """How the service knows us, with a delegation in place. Raises the agent's errors."""
        client = self.asking()
        with agent_errors():
            client.endpoint_info()
            who = client.whoami()
            if who.anonymous:
                raise outcome.AuthenticationError(
                    f"{self.access.endpoint} does not accept our token; "
                    "is it expired, or for another audience?"
                )
            client.delegation.delegate(self.lifetime, fresh=False)
        return who

    def delegate(self) -> None:
        """Renew what we delegated well ahead of its end."""
        client = self.working()
        with agent_errors():
            client.delegation.delegate(self.lifetime, renew_before=self.lifetime / 2)

    def credential_ends(self) -> tuple[datetime, datetime] | None:
        """(beginning, end) of the certificate; None with a token."""
        if self.access.certificate is None:
            return None
        client = self.asking()
        with agent_errors():
            chain = client.context.certificate.load(datetime.now(UTC)).chain
        first = min(chain, key=lambda one: one.not_valid_after_utc)
        return first.not_valid_before_utc, first.not_valid_after_utc

    def expiry_notice(self, now: datetime) -> Notice | None:
        """Before the certificate expires, while there is time to renew it."""
        found = self.credential_ends()
        if found is None:
            return None
        begins, ends = found
        if ends - now > max(_WARN_AT_LEAST, min(_WARN_BEFORE, (ends - begins) / _LAST_PART)):
            return None
        return Notice(
            Reason.CREDENTIAL_EXPIRES_SOON,
            f"{self.access.certificate} expires at {ends:%Y-%m-%d %H:%M} UTC; "
            "renew it in place, it is read again",
        )

    def close(self) -> None:
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()
