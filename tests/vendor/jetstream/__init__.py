"""A stand-in for the vendor's Python module: the documented surface and nothing else.

It speaks to a real server through `agent.jetstream`, but shows only documented methods and fields, raises
errors of its own, gives constants other values, and never mentions the extensions. What the adapter uses
beyond the documents fails here.
"""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import Any

from agent.jetstream import CommandError as _Refused
from agent.jetstream import ConnectionFailedError
from agent.jetstream import Jetstream as _Jetstream

from . import constants

SEND = frozenset(
    """createDestination createManifest createSharedToken createTransfer deleteDestination deleteManifest
    deleteObjectUserData deleteSharedToken deleteTransfer failTransfer getConnection getConnections
    getDestination getDestinations getManifest getManifestFiles getManifests getSharedToken getSharedTokens
    getTransfer getTransfers resumeTransferAsync schedulePingAsync setPriorityLanesAsync setSendRateMaxAsync
    setTransferPriorityAsync setTransferSendRateMaxAsync suspendTransferAsync updateConnectionParamsAsync
    updateObjectUserData updateSharedToken updateTransferDefaults waitForManifest waitForTransfer""".split()
)
SERVER = frozenset(
    """auth authAsync authToken echo getEventLog getRequestResult getRequestStatus getServerInfo lsAsync
    lsRootsAsync mkdirAsync mvAsync rmAsync duAsync sleep superuser terminate""".split()
)
_UNDOCUMENTED = frozenset(
    """authenticateDestination priorityLanes relayAddress relayPort transferDefaults bytesAcked
    completeFlags filesComplete totalFiles timeoutSeconds transferFlags lanesync serverUid""".split()
)
_MANIFEST = frozenset({"totalFiles"})  # documented there
_FLAGS = {
    constants.TRANSFER_FLAG_READ: 1,
    constants.TRANSFER_FLAG_WRITE: 2,
    constants.TRANSFER_FLAG_WRITE_MTIME: 4,
    constants.TRANSFER_FLAG_WRITE_ONLY_NEWER: 8,
}


class CommandError(Exception):
    """The vendor's own class; it carries no code."""


class ConnectionError(Exception):  # noqa: A001 - named as the documents name it
    """Not Python's own."""


class JetStream:
    def api(self, address: str, port: int) -> APIInterface:
        return APIInterface(address, port)


class APIInterface:
    def __init__(self, address: str, port: int) -> None:
        self._api = _Jetstream().api(address, port)
        self.server = _Interface(self._api.server, SERVER)
        self.send = _Interface(self._api.send, SEND)

    def connect(self) -> None:
        try:
            self._api.connect()
        except ConnectionFailedError as error:
            raise ConnectionError(str(error)) from None

    def __enter__(self) -> APIInterface:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.disconnect()


class _Interface:
    def __init__(self, interface: Any, documented: frozenset[str]) -> None:
        self.__interface = interface
        self.__documented = documented

    def __getattr__(self, name: str) -> Any:
        if name not in self.__documented:
            raise AttributeError(f"{name} is not a documented method")
        method = getattr(self.__interface, name)

        def call(*given: Any, **named: Any) -> Any:
            bound = inspect.signature(method).bind(*given, **named).arguments
            if "transferFlags" in bound:
                bound["transferFlags"] = sum(v for k, v in _FLAGS.items() if bound["transferFlags"] & k)
            try:
                return _documented(method(**bound))
            except ConnectionFailedError as error:
                raise ConnectionError(str(error)) from None
            except _Refused as error:
                raise CommandError(str(error)) from None

        return call


def _documented(value: Any) -> Any:
    if isinstance(value, list):
        return [_documented(item) for item in value]
    if not isinstance(value, dict):
        return value
    hidden = _UNDOCUMENTED - _MANIFEST if "totalSize" in value else _UNDOCUMENTED
    return {key: item for key, item in value.items() if key not in hidden}
