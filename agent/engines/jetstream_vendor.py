"""The vendor's own `jetstream` module as the adapter's client, its documented surface alone.

Its errors, its constants and its ways of disconnecting become those of `agent.jetstream`. Nothing is known
of its thread safety, so calls go one at a time.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from types import ModuleType
from typing import Any

from agent.jetstream import CommandError, ConnectionFailedError, constants
from agent.model.outcome import PermanentError

MODULE = "jetstream"
_NETWORK = (OSError, EOFError)  # ConnectionError and time-outs are OSError
_FLAGS = {
    constants.TRANSFER_FLAG_READ: "TRANSFER_FLAG_READ",
    constants.TRANSFER_FLAG_WRITE: "TRANSFER_FLAG_WRITE",
    constants.TRANSFER_FLAG_WRITE_MTIME: "TRANSFER_FLAG_WRITE_MTIME",
    constants.TRANSFER_FLAG_WRITE_ONLY_NEWER: "TRANSFER_FLAG_WRITE_ONLY_NEWER",
}


def vendor_api(address: str, port: int) -> VendorApi:
    """A client that is not connected yet. PermanentError when the module is not installed."""
    try:
        module = importlib.import_module(MODULE)
    except ImportError as error:
        raise PermanentError(
            f"`client: vendor` needs the vendor's Python module `{MODULE}`, which cannot be imported "
            f"({error}); install it where the agent runs, or leave `client` out"
        ) from error
    entry = getattr(module, "JetStream", None) or getattr(module, "Jetstream", None)
    if entry is None:
        raise PermanentError(f"the installed module `{MODULE}` has no class JetStream or Jetstream")
    return VendorApi(entry().api(address, port), _constants(module), f"{address}:{port}")


def _constants(module: ModuleType) -> Any:
    with contextlib.suppress(ImportError):
        return importlib.import_module(f"{module.__name__}.constants")
    return getattr(module, "constants", None)


class VendorApi:
    """Implements agent.engines.jetstream_session.Api."""

    def __init__(self, api: Any, known: Any, where: str) -> None:
        self._api = api
        self._known = known
        self._where = where
        self._lock = threading.Lock()
        self.connected = False
        self.server = _Interface(self, "server")
        self.send = _Interface(self, "send")
        self.lanesync = None  # never announced by the vendor's server

    def connect(self) -> None:
        with self._errors():
            self._api.connect()
        self.connected = True

    def disconnect(self) -> None:
        """Documented is only that leaving the context disconnects."""
        self.connected = False
        with contextlib.suppress(Exception):
            self._api.__exit__(None, None, None)

    def call(self, interface: str, method: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if "transferFlags" in named:
            named["transferFlags"] = self._flags(named["transferFlags"])
        named = {name: value for name, value in named.items() if value is not None}
        with self._lock, self._errors():
            return getattr(getattr(self._api, interface), method)(*given, **named)

    def _flags(self, ours: int | None) -> int | None:
        """In the vendor's values, which are not published; None (the server's default) when its module has
        no name for one of them."""
        if ours is None:
            return None
        values = [getattr(self._known, name, None) for flag, name in _FLAGS.items() if ours & flag]
        return None if None in values else sum(value for value in values if value is not None)

    @contextlib.contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except _NETWORK as error:
            self.connected = False
            raise ConnectionFailedError(f"{self._where}: {error or type(error).__name__}") from error
        except Exception as error:
            if any(kind.__name__ == "ConnectionError" for kind in type(error).__mro__):
                self.connected = False
                raise ConnectionFailedError(f"{self._where}: {error}") from error
            # Any other error is an answer; the documents name CommandError alone.
            raise CommandError(str(error) or type(error).__name__) from error


class _Interface:
    def __init__(self, api: VendorApi, name: str) -> None:
        self._owner = api
        self._name = name

    def __getattr__(self, method: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            return self._owner.call(self._name, method, given, named)

        return call
