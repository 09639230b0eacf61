"""Possession of a key: signing a registration at the receiver, checking it at the relay."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.jetstream import keys
from agent.server.relay import protocol
from agent.server.relay.protocol import Message, ProtocolError


class Signer(Protocol):
    """A server's key."""

    @property
    def public_key(self) -> str:
        """In the text form of `agent.jetstream.keys`."""

    def sign(self, data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Registration:
    keys: tuple[str, ...]
    addresses: tuple[str, ...]


def register(signers: list[Signer], addresses: tuple[str, ...], nonce: str, relay_key: str) -> bytes:
    """The line with which a receiver registers all its keys. `relay_key` is the key that the relay showed."""
    identities = []
    for signer in signers[: protocol.MAX_KEYS]:
        signed = signer.sign(protocol.signed_bytes(nonce, relay_key, signer.public_key, addresses))
        identities.append({"key": signer.public_key, "signature": base64.b64encode(signed).decode("ascii")})
    return protocol.encode(
        "register", relay=protocol.VERSION, identities=identities, addresses=list(addresses)
    )


def check(message: Message, nonce: str, relay_key: str) -> Registration:
    """Who registers. ProtocolError when the line is malformed or a signature is not that of its key."""
    if message["op"] != "register":
        raise ProtocolError("the link does not begin with register")
    protocol.require_version(message)
    addresses = protocol.texts(message, "addresses", protocol.MAX_ADDRESSES)
    found = message.get("identities")
    if not isinstance(found, list) or not 0 < len(found) <= protocol.MAX_KEYS:
        raise ProtocolError(f"identities is missing or no list of at most {protocol.MAX_KEYS}")
    shown = tuple(_key(identity, nonce, relay_key, addresses) for identity in found)
    return Registration(shown, tuple(_canonical(address) for address in addresses))


def _key(identity: object, nonce: str, relay_key: str, addresses: tuple[str, ...]) -> str:
    if not isinstance(identity, dict):
        raise ProtocolError("an identity is not an object")
    key = protocol.text(identity, "key")
    try:
        signature = base64.b64decode(protocol.text(identity, "signature"), validate=True)
        if keys.normalise(key) != key:
            raise ProtocolError("a key is not in its one spelling")
        public = serialization.load_der_public_key(base64.b64decode(key))
    except (ValueError, UnsupportedAlgorithm, binascii.Error) as error:
        raise ProtocolError("a key or its signature cannot be read") from error
    if not isinstance(public, Ed25519PublicKey):
        raise ProtocolError("a key is not of the kind Ed25519")
    try:
        public.verify(signature, protocol.signed_bytes(nonce, relay_key, key, addresses))
    except InvalidSignature as error:
        raise ProtocolError("a signature is not that of its key") from error
    return key


def _canonical(written: str) -> str:
    try:
        return protocol.address(*protocol.parse_address(written))
    except ValueError as error:
        raise ProtocolError(str(error)) from error
