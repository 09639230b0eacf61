"""Open destinations, one for each URL, with the credential that the server's spec names."""

from __future__ import annotations

import threading

from agent.engines.fts3.destination import Destination
from agent.engines.fts3.service import Access, Service
from agent.engines.fts3.webdav import Connections
from agent.fts3.credentials import Certificate, Credential, Token


class Storages:
    """Thread-safe."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._connections: Connections | None = None
        self._open: dict[str, Destination] = {}

    def at(self, url: str) -> Destination:
        """PermanentError when the URL cannot be a destination."""
        with self._lock:
            found = self._open.get(url)
            if found is None:
                found = self._open[url] = self._shared().open(url)
            return found

    def close(self) -> None:
        with self._lock:
            connections, self._connections, self._open = self._connections, None, {}
        if connections is not None:
            connections.close()

    def _shared(self) -> Connections:
        if self._connections is None:
            access, service = self._service.access, self._service.asking()
            self._connections = Connections(_credential(access), verify=access.ca or True, service=service)
        return self._connections


def _credential(access: Access) -> Credential:
    if access.token is not None and access.token():
        return Token(access.token)
    if access.certificate is not None:
        return Certificate(access.certificate, access.key or access.certificate)
    return None
