"""What SendInterface, ServerInterface, RecvInterface and the extensions have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

_FIELDS = {
    "transferId": ("transferId",),
    "manifestId": ("manifestId",),
    "destinationId": ("destinationId",),
    "connectionId": ("connectionId",),
    "requestId": ("requestId",),
    "token": ("token",),
    # A transfer also holds its destination's and manifest's id, a token its manifest's: most specific first.
    "objId": ("transferId", "token", "manifestId", "destinationId"),
}


class Caller(Protocol):
    """Carries one call to the server; see APIInterface.call."""

    def call(self, method: str, params: dict[str, Any], *, blocking: bool = False) -> Any: ...


def object_id(value: Any, parameter: str) -> Any:
    """The id in `value`, which is an id or a structure that holds it.

    Raises TypeError where a structure does not hold the id that the parameter asks for.
    """
    if not isinstance(value, Mapping):
        return value
    for name in _FIELDS[parameter]:
        if value.get(name) is not None:
            return value[name]
    raise TypeError(f"the structure given as {parameter} holds no {' or '.join(_FIELDS[parameter])}")


class Interface:
    """One namespace of methods. Parameters that are None are not sent, so the server's default holds.

    The constructor takes what the documents name. They say nothing of the last two; here one connection
    carries all calls, and nothing else is needed.
    """

    namespace = ""

    def __init__(
        self,
        api_interface: Caller,
        sync_interface: object = None,  # noqa: ARG002 - documented
        logging_interface: object = None,  # noqa: ARG002 - documented
    ) -> None:
        self._api = api_interface

    def _call(self, method: str, *, blocking: bool = False, **params: Any) -> Any:
        """`blocking` marks calls that answer when something is over, however long that takes."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._api.call(f"{self.namespace}.{method}", given, blocking=blocking)
