"""The way in: `Jetstream().api(host, port)`."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from agent.jetstream import constants
from agent.jetstream.errors import AuthenticationError, NotConnectedError, VersionMismatchError
from agent.jetstream.extensions import ExtensionInterface
from agent.jetstream.recvinterface import RecvInterface
from agent.jetstream.sendinterface import SendInterface
from agent.jetstream.serverinterface import ServerInterface
from agent.jetstream.transport import Security
from agent.jetstream.wire import Connection

_LOG_IN = frozenset({"server.auth", "server.authToken"})


class APIInterface:
    """A control connection to one server. May be used from several threads at once.

    timeout: seconds to connect. requestTimeout: seconds for an answer. waitTimeout: the same for calls that
    wait for something to be over (waitFor…, getRequestResult, sleep, the twins of …Async). None = for ever.
    tls: None = to other hosts always, on loopback when one of the next two is given. ca: PEM file of the
    authority that vouches for the server's certificate. publicKey: the server's own, instead. insecure: talk
    to another host without knowing that it is the right one.
    """

    def __init__(
        self,
        host: str = constants.DEFAULT_SERVER_ADDRESS,
        port: int = constants.DEFAULT_API_PORT,
        timeout: float = constants.DEFAULT_TIMEOUT_SECONDS,
        *,
        requestTimeout: float | None = 60.0,
        waitTimeout: float | None = None,
        tls: bool | None = None,
        ca: str | None = None,
        publicKey: str | None = None,
        insecure: bool = False,
    ) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self.requestTimeout = requestTimeout
        self.waitTimeout = waitTimeout
        self.security = Security(tls, ca, publicKey, insecure)
        self.server = ServerInterface(self)
        self.send = SendInterface(self)
        self.recv = RecvInterface(self)
        self.lanesync = ExtensionInterface(self)
        self._connecting = threading.Lock()
        self._connection: Connection | None = None
        self._version_checked = False

    def connect(self) -> None:
        """Connect, and make sure that the server speaks our version. Harmless when connected.

        Raises ConnectionFailedError or ProtocolError.
        """
        with self._connecting:
            if self.connected:
                return
            self._connection = Connection(self.host, self.port, self.timeout, self.security)
            self._version_checked = False
            try:
                self._check_version()
            except BaseException:
                self._connection.close()
                self._connection = None
                raise

    def disconnect(self) -> None:
        """Drop the connection; calls that wait raise. Harmless when not connected."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def connected(self) -> bool:
        connection = self._connection
        return connection is not None and not connection.closed

    def call(self, method: str, params: dict[str, Any], *, blocking: bool = False) -> Any:
        """Any method by its full name ("send.getTransfer"); what the interfaces are made of."""
        connection = self._connection
        if connection is None:
            raise NotConnectedError(f"not connected to {self.host}:{self.port}; call connect() first")
        result = connection.call(method, params, self.waitTimeout if blocking else self.requestTimeout)
        if method in _LOG_IN and not self._version_checked:
            self._check_version()
        return result

    def __enter__(self) -> APIInterface:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def _check_version(self) -> None:
        """A server that tells strangers nothing is asked again after log-in."""
        try:
            found = self.server.getServerInfo().get("apiVersion")
        except AuthenticationError:
            return
        if found != constants.API_VERSION:
            raise VersionMismatchError(
                f"{self.host}:{self.port} speaks API version {found}, this client {constants.API_VERSION}; "
                "use a client and a server of the same version"
            )
        self._version_checked = True


class Jetstream:
    """Entry class of the JetStream Python API."""

    def api(
        self,
        host: str = constants.DEFAULT_SERVER_ADDRESS,
        port: int = constants.DEFAULT_API_PORT,
        timeout: float = constants.DEFAULT_TIMEOUT_SECONDS,
        *,
        requestTimeout: float | None = 60.0,
        waitTimeout: float | None = None,
        tls: bool | None = None,
        ca: str | None = None,
        publicKey: str | None = None,
        insecure: bool = False,
    ) -> APIInterface:
        """An interface to the server at host:port, not yet connected; see APIInterface."""
        return APIInterface(
            host,
            port,
            timeout,
            requestTimeout=requestTimeout,
            waitTimeout=waitTimeout,
            tls=tls,
            ca=ca,
            publicKey=publicKey,
            insecure=insecure,
        )


JetStream = Jetstream
