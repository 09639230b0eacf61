"""The JetStream Python API.

from agent.jetstream import Jetstream

with Jetstream().api("localhost", 8886) as api:
    manifest = api.send.createManifest(mappings={"/docs/readme.txt": "/home/readme.txt"})
"""

from __future__ import annotations

from agent.jetstream.api import APIInterface, JetStream, Jetstream
from agent.jetstream.errors import (
    AuthenticationError,
    CommandError,
    ConnectionFailedError,
    JetstreamError,
    NotConnectedError,
    NotFoundError,
    NotSupportedError,
    ProtocolError,
    RequestTimeoutError,
    ServerFaultError,
    UntrustedServerError,
    VersionMismatchError,
)

__all__ = [
    "APIInterface",
    "AuthenticationError",
    "CommandError",
    "ConnectionFailedError",
    "JetStream",
    "Jetstream",
    "JetstreamError",
    "NotConnectedError",
    "NotFoundError",
    "NotSupportedError",
    "ProtocolError",
    "RequestTimeoutError",
    "ServerFaultError",
    "UntrustedServerError",
    "VersionMismatchError",
]
