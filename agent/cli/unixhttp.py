"""HTTP to the agent's Unix socket. Apart from the client, because the library takes a while to import."""

from __future__ import annotations

import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util.retry import Retry

from agent.api.place import short_path

TIMEOUT = (5.0, 600.0)


class _Connection(HTTPConnection):
    def __init__(self, state_dir: str) -> None:
        super().__init__("localhost")
        self._state_dir = state_dir

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT[1])
        with short_path(self._state_dir) as path:
            self.sock.connect(path)


class _Pool(HTTPConnectionPool):
    def __init__(self, state_dir: str) -> None:
        super().__init__("localhost")
        self._state_dir = state_dir

    def _new_conn(self) -> _Connection:
        return _Connection(self._state_dir)


class _Adapter(HTTPAdapter):
    def __init__(self, state_dir: str) -> None:
        super().__init__(max_retries=Retry(0))
        self._state_dir = state_dir

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> _Pool:
        return _Pool(self._state_dir)


def session(state_dir: str) -> requests.Session:
    """Of which `http://agent/` is the agent that runs on this state directory."""
    found = requests.Session()
    found.trust_env = False
    found.mount("http://agent/", _Adapter(state_dir))
    return found
