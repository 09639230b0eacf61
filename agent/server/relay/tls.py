"""TLS of control links. The relay shows its key; the receiver, which registers by signature, shows none.

A receiver that has pinned a key of the relay names it in its ClientHello, so that after a rotation those who
know the old key and those who know the new one are answered with theirs.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable

from agent.jetstream import keys
from agent.server.identity import Identities, Identity
from agent.server.relay import protocol
from agent.server.relay.protocol import ProtocolError


class Certificates:
    """The relay's side. Contexts are made once for each key."""

    def __init__(self, identities: Identities, clock: Callable[[], float] = time.time) -> None:
        self._identities = identities
        self._clock = clock
        self._made: dict[str, ssl.SSLContext] = {}

    def context(self) -> ssl.SSLContext:
        """For a new connection: with the current key, or the one that the peer then names."""
        context = self._context(self._identities.valid(self._clock())[0])
        context.sni_callback = self._named
        return context

    def shown(self, connection: ssl.SSLObject) -> str:
        """The key that a connection was answered with."""
        return next(key for key, context in self._made.items() if context is connection.context)

    def _named(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        for identity in self._identities.valid(self._clock()):
            if identity.name == name:
                connection.context = self._context(identity)

    def _context(self, identity: Identity) -> ssl.SSLContext:
        context = self._made.get(identity.public_key)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.set_alpn_protocols([protocol.ALPN])
            context.num_tickets = 0
            _load(context, identity)
            self._made[identity.public_key] = context
        return context


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """The ssl module takes keys from files alone: this one is never on storage."""
    fd = os.memfd_create("identity", os.MFD_CLOEXEC)
    with open(fd, "wb", buffering=0) as file:
        file.write(identity.key_pem + identity.certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")


def receiver_context() -> ssl.SSLContext:
    """The receiver's side. What the relay shows is checked after the handshake, by its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol.ALPN])
    return context


def relay_key(connection: ssl.SSLObject, pinned: str) -> str:
    """The relay's key. ProtocolError when it is no relay, or not the pinned one ("" = any)."""
    certificate = connection.getpeercert(binary_form=True)
    if connection.selected_alpn_protocol() != protocol.ALPN or certificate is None:
        raise ProtocolError("no LaneSync relay answers there")
    key = keys.of_certificate(certificate)
    if pinned and not keys.same(key, pinned):
        raise ProtocolError(
            f"the relay shows the key {key}, not the one of --recv-relay-key ({pinned}); if the relay was "
            "given a new key, give this server the new one; if not, something else answers in its place"
        )
    return key
