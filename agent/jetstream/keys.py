"""Public keys of servers, as people copy them: the base64 of the key's SubjectPublicKeyInfo on one line.

The documents leave the format open; this one is ours. It is what `openssl pkey -pubout` prints between its
two marker lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_DER, _SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
MAX_LENGTH = 4096


def encode(key: PublicKeyTypes) -> str:
    return base64.b64encode(key.public_bytes(_DER, _SPKI)).decode("ascii")


def of_certificate(der: bytes) -> str:
    """The public key of a certificate. ValueError when it is none."""
    try:
        return encode(x509.load_der_x509_certificate(der).public_key())
    except UnsupportedAlgorithm as error:
        raise ValueError("the certificate's key is of an unknown kind") from error


def normalise(text: str) -> str:
    """The one spelling of a key that people may have copied with line breaks or PEM markers. ValueError with
    what to write when it is no public key."""
    lines = [line.strip() for line in text[:MAX_LENGTH].splitlines() if not line.strip().startswith("-----")]
    try:
        return encode(serialization.load_der_public_key(base64.b64decode("".join(lines), validate=True)))
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        raise ValueError(
            "a public key: one line of base64, as `lanesync keygen --show` and getServerInfo print it"
        ) from None


def same(one: str, other: str) -> bool:
    """Whether two normalised keys are equal."""
    return hmac.compare_digest(one.encode("ascii", "replace"), other.encode("ascii", "replace"))


def server_name(public_key: str) -> str:
    """The host name by which a TLS client asks for the server that has this key. A server with two keys (one
    of them being replaced) answers with the one that is expected."""
    digest = hashlib.sha256(public_key.encode("ascii", "replace")).hexdigest()
    return f"{digest[:40]}.key.lanesync.invalid"


def short(public_key: str) -> str:
    """The beginning of a key for messages: enough to tell two apart (all Ed25519 keys begin alike)."""
    return f"{public_key[:32]}…"
