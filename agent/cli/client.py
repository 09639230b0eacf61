"""Calls to the agent that runs on a state directory, through its socket there."""

from __future__ import annotations

import os
import socket
import time
from typing import Any
from urllib.parse import quote

from agent.api.place import SOCKET_NAME, short_path
from agent.cli.problems import BlockedError, FailedError, nobody
from agent.state.lock import holder
from agent.state.names import DATABASE_NAME

STARTING_SECONDS = 5.0

Document = dict[str, Any]


class Client:
    """One running agent. Raises FailedError with the agent's own words, or when it does not answer."""

    def __init__(self, state_dir: str) -> None:
        from agent.cli.unixhttp import session

        self._session = session(state_dir)

    def get(self, route: str, /, **params: Any) -> Document:
        """Parameters that are None are left out; paths may hold bytes that are not UTF-8."""
        query = {name: os.fsencode(str(value)) for name, value in params.items() if value is not None}
        return self._call("GET", route, params=query)

    def post(self, path: str, body: Document) -> Document:
        return self._call("POST", path, json=body)

    def _call(self, method: str, path: str, **kwargs: Any) -> Document:
        from requests import RequestException

        from agent.cli.unixhttp import TIMEOUT

        try:
            path = quote(os.fsencode(path), safe="/")
            answer = self._session.request(method, f"http://agent{path}", timeout=TIMEOUT, **kwargs)
            document: Document = answer.json()
        except (RequestException, ValueError) as error:
            raise FailedError(f"the running agent does not answer: {error}") from error
        if answer.status_code == 409:
            raise BlockedError(str(document.get("error", "blocked")))
        if answer.status_code >= 400:
            raise FailedError(str(document.get("error", f"HTTP {answer.status_code}")))
        return document


def refuse_unknown(state_dir: str) -> None:
    """FailedError where no agent has ever run, so that asking about a misspelt directory does not make it."""
    if not os.path.lexists(os.path.join(state_dir, DATABASE_NAME)):
        raise FailedError(nobody(state_dir, "has run"))


def running(state_dir: str) -> Client | None:
    """The agent that runs on this state directory, or None. One that has just started has the lock a moment
    before it answers; what an agent that was killed leaves ends a moment after it."""
    deadline = time.monotonic() + STARTING_SECONDS
    while True:
        found = _answering(state_dir)
        if found is not None or holder(state_dir) is None or time.monotonic() >= deadline:
            return found
        time.sleep(0.05)


def _answering(state_dir: str) -> Client | None:
    if not os.path.exists(os.path.join(state_dir, SOCKET_NAME)):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5.0)
        try:
            with short_path(state_dir) as path:
                probe.connect(path)
        except OSError:
            return None
    return Client(state_dir)
