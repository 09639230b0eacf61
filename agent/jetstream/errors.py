"""What the JetStream client raises.

JetstreamError
├── ConnectionFailedError   nobody answers, or the connection broke (also a builtin ConnectionError)
│   ├── NotConnectedError       `connect()` was not called, or `disconnect()` was
│   ├── RequestTimeoutError     the server did not answer in time (also a builtin TimeoutError)
│   └── UntrustedServerError    it is not shown to be the server that is meant; `.publicKey` is its key
├── ProtocolError           what answers does not speak this protocol
│   └── VersionMismatchError    it speaks another version of it
└── CommandError            the server refused; `.code`, `.data`, and its message
    ├── AuthenticationError     log in first, or the credentials were not accepted
    ├── NotFoundError           the named object does not exist
    ├── NotSupportedError       documented, but not carried out by this server
    └── ServerFaultError        the server failed at it by its own fault

A manifest or transfer that failed is no exception: it has the status `error` and an `errorMessage`.
"""

from __future__ import annotations

import builtins
from typing import Any

from agent.jetstream import constants


class JetstreamError(Exception):
    """Base of everything this client raises on purpose."""


class ConnectionFailedError(JetstreamError, builtins.ConnectionError):
    pass


class NotConnectedError(ConnectionFailedError):
    pass


class RequestTimeoutError(ConnectionFailedError, builtins.TimeoutError):
    pass


class UntrustedServerError(ConnectionFailedError):
    """publicKey: what the server has shown, for comparing and pinning; "" when it is not known."""

    def __init__(self, message: str, publicKey: str = "") -> None:
        super().__init__(message)
        self.publicKey = publicKey


class ProtocolError(JetstreamError):
    pass


class VersionMismatchError(ProtocolError):
    pass


class CommandError(JetstreamError):
    """The server's answer to a command that it refuses.

    code: JSON-RPC error code (see constants.ERROR_*). data: what the server adds, or None.
    """

    def __init__(self, message: str, code: int = constants.ERROR_COMMAND, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class AuthenticationError(CommandError):
    pass


class NotFoundError(CommandError):
    pass


class NotSupportedError(CommandError):
    pass


class ServerFaultError(CommandError):
    pass


_BY_CODE: dict[int, type[CommandError]] = {
    constants.ERROR_AUTHENTICATION: AuthenticationError,
    constants.ERROR_NOT_FOUND: NotFoundError,
    constants.ERROR_NOT_SUPPORTED: NotSupportedError,
    constants.ERROR_INTERNAL: ServerFaultError,
}


def command_error(error: object) -> CommandError:
    """The exception for the `error` member of a JSON-RPC response, however malformed."""
    if not isinstance(error, dict):
        return CommandError("the server refused without saying why")
    code = error.get("code")
    if not isinstance(code, int):
        code = constants.ERROR_COMMAND
    message = str(error.get("message") or "the server refused without saying why")
    return _BY_CODE.get(code, CommandError)(message, code, error.get("data"))
