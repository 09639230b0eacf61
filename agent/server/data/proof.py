"""How a sender proves which key is its own: inside of the TLS session, bound to that session.

The receiver's key is shown by its certificate. The sender signs, with its own key, a value that both ends
derive from the session (RFC 5705, RFC 9266): it is of no use in any other session, so nobody in between can
pass it on. This needs no callback out of the TLS library, which a hardened service would not be allowed.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.jetstream import keys
from agent.server.data.wire import Json, WireError
from agent.server.identity import Identity

_PURPOSE = b"lanesync data session, sender\0"


def make(identity: Identity, binding: bytes) -> Json:
    """What goes into the sender's HELLO."""
    signature = identity.sign(_PURPOSE + binding)
    return {"publicKey": identity.public_key, "proof": base64.b64encode(signature).decode("ascii")}


def check(hello: Json, binding: bytes) -> str:
    """The key of the sender that said HELLO. WireError when it does not prove that it holds it."""
    try:
        shown = keys.normalise(str(hello["publicKey"]))
        public = serialization.load_der_public_key(base64.b64decode(shown))
        if not isinstance(public, Ed25519PublicKey):
            raise WireError("the sender's key is not an Ed25519 key")
        public.verify(base64.b64decode(str(hello["proof"]), validate=True), _PURPOSE + binding)
    except (KeyError, ValueError, binascii.Error, InvalidSignature) as error:
        raise WireError("the sender does not prove that the key it shows is its own") from error
    return shown
