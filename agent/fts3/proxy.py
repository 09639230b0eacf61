"""Signing an RFC 3820 proxy certificate for a key that the service holds. Pure: no I/O, time is a parameter.

A proxy says: whoever has this key may act as the signer, until then. Its subject is the signer's with one
more CN, and it carries the critical extension proxyCertInfo.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from agent.fts3.credentials import Loaded
from agent.fts3.errors import BadCredential, ClientError, ServerError

PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
_INHERIT_ALL = bytes.fromhex("06082b06010505071501")  # 1.3.6.1.5.5.7.21.1
_LIMITED = bytes.fromhex("060b2b060104019b5001010109")  # 1.3.6.1.4.1.3536.1.1.1.9
_BACKDATE = timedelta(minutes=5)  # clocks of services run ahead and behind
_MIN_RSA_BITS = 1024


def sign(request_pem: bytes, signer: Loaded, now: datetime, lifetime: timedelta) -> bytes:
    """PEM: the proxy for the key of the certificate request, then the signer's chain.

    It ends after `lifetime`, or with the first certificate of the chain if that is sooner.
    Raises ServerError for a request that is damaged or whose key is too weak, BadCredential when the signer's
    certificate may not sign proxies.
    """
    request = _read_request(request_pem)
    issuer = signer.chain[0]
    start = max([now - _BACKDATE, *(one.not_valid_before_utc for one in signer.chain)])
    end = min(now + lifetime, signer.ends)
    if end <= now:
        raise ClientError("the lifetime of a delegation has to be positive")
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(issuer.subject, now))
        .issuer_name(issuer.subject)
        .public_key(request)
        .serial_number(issuer.serial_number)  # as the service's own bindings do
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(issuer), critical=True)
        .add_extension(_issuer_key(signer), critical=False)
        .add_extension(x509.UnrecognizedExtension(PROXY_CERT_INFO, _cert_info(signer.chain)), critical=True)
    )
    proxy = builder.sign(signer.key, hashes.SHA256())
    return b"".join(one.public_bytes(Encoding.PEM) for one in (proxy, *signer.chain))


def _read_request(pem: bytes) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """The key of the request, which its signature shows to be in the service's hands."""
    try:
        request = x509.load_pem_x509_csr(pem)
        genuine, key = request.is_signature_valid, request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ServerError(f"the service's certificate request cannot be used: {error}") from None
    if not genuine:
        raise ServerError("the signature of the service's certificate request is wrong")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key
    raise ClientError(
        f"the service wants the delegation for a key of {getattr(key, 'key_size', 'unknown')} bits, which is "
        "easy to break; it derives the size from our certificate: use one with an RSA key of 2048 bits"
    )


def _subject(issuer: x509.Name, now: datetime) -> x509.Name:
    number = x509.NameAttribute(NameOID.COMMON_NAME, str(int(now.timestamp())))
    return x509.Name([*issuer.rdns, x509.RelativeDistinguishedName([number])])


def _issuer_key(signer: Loaded) -> x509.AuthorityKeyIdentifier:
    try:
        named = signer.chain[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def _key_usage(issuer: x509.Certificate) -> x509.KeyUsage:
    """Signing and encipherment, the latter only if the issuer may do so."""
    try:
        allowed = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        allowed = None
    if allowed is not None and not allowed.digital_signature:
        raise BadCredential("the certificate's key usage lacks digitalSignature, so it cannot sign a proxy")
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=allowed is None or allowed.key_encipherment,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _cert_info(chain: Sequence[x509.Certificate]) -> bytes:
    """The proxyCertInfo value. What a limited proxy signs is limited; one of path length 0 signs nothing."""
    policy = _INHERIT_ALL
    for above, certificate in enumerate(chain):
        info = _info_of(certificate)
        if info is None:
            continue
        length = _path_length(info)
        if length is not None and length <= above:
            raise BadCredential("the proxy at hand forbids further delegation (its path length is used up)")
        if _LIMITED in info:
            policy = _LIMITED
    inner = b"\x30" + bytes([len(policy)]) + policy
    return b"\x30" + bytes([len(inner)]) + inner


def _info_of(certificate: x509.Certificate) -> bytes | None:
    try:
        extension = certificate.extensions.get_extension_for_oid(PROXY_CERT_INFO)
    except x509.ExtensionNotFound:
        return None
    value = extension.value
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _path_length(info: bytes) -> int | None:
    """The optional INTEGER at the head of ProxyCertInfo ::= SEQUENCE { INTEGER OPTIONAL, ProxyPolicy }."""
    if len(info) < 5 or info[1] > 127 or info[2] != 0x02:
        return None
    return int.from_bytes(info[4 : 4 + info[3]], "big")
