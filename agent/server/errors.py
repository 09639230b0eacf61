"""Errors of the transfer server.

ServerError
├── StartError         the server cannot start; the message says what to do
└── RpcError           answered to the caller with its code and data
    └── CommandError   the command itself was refused or failed
"""

from __future__ import annotations

from agent.jetstream.constants import (
    ERROR_AUTHENTICATION,
    ERROR_COMMAND,
    ERROR_NOT_FOUND,
)


class ServerError(Exception):
    """Base of all errors of this package that are meant for people."""


class StartError(ServerError):
    """The server cannot start."""


class RpcError(ServerError):
    """A JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data or {}

    def as_object(self) -> dict[str, object]:
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.data:
            error["data"] = self.data
        return error


class CommandError(RpcError):
    """The API's error for a command that failed."""

    def __init__(self, message: str, code: int = ERROR_COMMAND, **data: object) -> None:
        super().__init__(code, message, {"type": "CommandError", **data})


def not_found(kind: str, object_id: int) -> CommandError:
    return CommandError(f"{kind} {object_id} was not found", ERROR_NOT_FOUND, kind=kind, id=str(object_id))


def not_authenticated(message: str) -> CommandError:
    return CommandError(message, ERROR_AUTHENTICATION)
