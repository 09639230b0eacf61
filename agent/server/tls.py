"""TLS 1.3 for clients of the API, with the server's own key."""

from __future__ import annotations

import os
import ssl
import threading
import time

from agent.server.errors import StartError
from agent.server.identity import Identities, Identity


class ServerContexts:
    """For any thread. A rotation of the key acts on the next connection."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._lock = threading.Lock()
        self._made: dict[int, ssl.SSLContext] = {}  # by the certificate's number

    def current(self) -> ssl.SSLContext:
        """StartError when the key cannot be read."""
        return self._get(self._identities.current())

    def _get(self, identity: Identity) -> ssl.SSLContext:
        number = identity.certificate.serial_number
        with self._lock:
            if number not in self._made:
                self._made[number] = self._make(identity)
            return self._made[number]

    def _make(self, identity: Identity) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.sni_callback = self._choose
        _load(context, identity)
        return context

    def _choose(self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        """A client that expects one of our other keys gets that."""
        try:
            others = self._identities.valid(time.time())[1:]
        except StartError:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        for identity in others:
            if identity.name == name:
                tls.context = self._get(identity)
        return None


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """The module takes keys from files only: one that has no name on any disk."""
    fd = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(fd, identity.key_pem + identity.certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
