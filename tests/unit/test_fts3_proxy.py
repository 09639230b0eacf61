"""The proxy certificates that are signed for the FTS3 service, checked by OpenSSL and by the letter."""

from __future__ import annotations

import base64
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.fts3_service import authority, certificate_request, ec_key, rsa_key, usage, user

from agent.fts3 import BadCredential, ClientError, ServerError, proxy
from agent.fts3.credentials import Loaded

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
AUTHORITY = authority(NOW)
KEYS = {"rsa": rsa_key(), "ec": ec_key()}
SERVER_KEY = rsa_key()
REQUEST = certificate_request(SERVER_KEY)


def signer(kind: str = "rsa", start: timedelta = -24 * HOUR, end: timedelta = 240 * HOUR) -> Loaded:
    pair = user(AUTHORITY, KEYS[kind], NOW + start, NOW + end)
    return Loaded((pair.certificate,), pair.key)


def signed(by: Loaded, lifetime: timedelta = 7 * HOUR) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(proxy.sign(REQUEST, by, NOW, lifetime))


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_openssl_accepts_the_chain(kind: str, tmp_path: Path) -> None:
    chain = signed(signer(kind))
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem())
    (tmp_path / "proxy.pem").write_bytes(chain[0].public_bytes(Encoding.PEM))
    (tmp_path / "user.pem").write_bytes(chain[1].public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "-untrusted", "user.pem"]
    verified = subprocess.run(
        [*command, "-allow_proxy_certs", "proxy.pem"], cwd=tmp_path, capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    refused = subprocess.run([*command, "proxy.pem"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "proxy" in refused.stderr


def test_a_proxy_is_what_rfc_3820_wants() -> None:
    by = signer()
    made, above = signed(by)
    assert above == by.chain[0]
    assert made.issuer == above.subject
    assert made.subject.rdns[:-1] == above.subject.rdns
    assert made.subject.rdns[-1].rfc4514_string() == f"CN={int(NOW.timestamp())}"
    assert made.version is x509.Version.v3
    assert made.serial_number == above.serial_number
    assert made.public_key() == SERVER_KEY.public_key()
    assert isinstance(made.signature_hash_algorithm, hashes.SHA256)
    critical = {one.oid.dotted_string: one.critical for one in made.extensions}
    assert critical == {
        "2.5.29.19": True,
        "2.5.29.15": True,
        "2.5.29.35": False,
        "1.3.6.1.5.5.7.1.14": True,
    }
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    info = made.extensions.get_extension_for_oid(proxy.PROXY_CERT_INFO).value
    assert isinstance(info, x509.UnrecognizedExtension)
    assert info.value.hex() == "300c300a06082b06010505071501"


@given(
    st.integers(1, 400).map(lambda h: h * HOUR),
    st.integers(-400, -1).map(lambda h: h * HOUR / 4),
    st.integers(1, 400).map(lambda h: h * HOUR),
)
@settings(deadline=None, max_examples=25)
def test_a_proxy_never_outlives_or_precedes_its_chain(
    lifetime: timedelta, start: timedelta, end: timedelta
) -> None:
    by = signer("ec", start, end)
    made = signed(by, lifetime)[0]
    assert made.not_valid_after_utc == min(NOW + lifetime, by.ends)
    assert made.not_valid_before_utc == max(NOW - timedelta(minutes=5), by.chain[0].not_valid_before_utc)
    by.key.public_key().verify(  # type: ignore[call-arg]
        made.signature,
        made.tbs_certificate_bytes,
        ec.ECDSA(hashes.SHA256()),  # type: ignore[arg-type]
    )


def test_it_ends_with_the_shortest_of_the_chain() -> None:
    """The certificate at hand is a proxy that outlives the user's own certificate."""
    own = user(AUTHORITY, KEYS["ec"], NOW - HOUR, NOW + 3 * HOUR)
    middle = x509.load_pem_x509_certificates(
        proxy.sign(certificate_request(SERVER_KEY), Loaded((own.certificate,), own.key), NOW, 12 * HOUR)
    )
    by = Loaded(tuple(middle), SERVER_KEY)
    made = signed(by, 12 * HOUR)
    assert len(made) == 3
    assert made[0].not_valid_after_utc == own.certificate.not_valid_after_utc
    assert len(made[0].subject.rdns) == len(own.certificate.subject.rdns) + 2
    SERVER_KEY.public_key().verify(
        made[0].signature, made[0].tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA256()
    )


def with_info(value: bytes) -> Loaded:
    """A signer that is a proxy itself, with that proxyCertInfo."""
    own = user(AUTHORITY, KEYS["ec"], NOW - HOUR, NOW + 9 * HOUR)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*own.certificate.subject.rdns, *own.certificate.subject.rdns[-1:]]))
        .issuer_name(own.certificate.subject)
        .public_key(SERVER_KEY.public_key())
        .serial_number(7)
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + 9 * HOUR)
        .add_extension(x509.UnrecognizedExtension(proxy.PROXY_CERT_INFO, value), critical=True)
    )
    return Loaded((builder.sign(own.key, hashes.SHA256()), own.certificate), SERVER_KEY)


def test_what_a_limited_proxy_signs_is_limited() -> None:
    limited = bytes.fromhex("300f300d060b2b060104019b5001010109")
    made = signed(with_info(limited))[0]
    info = made.extensions.get_extension_for_oid(proxy.PROXY_CERT_INFO).value
    assert isinstance(info, x509.UnrecognizedExtension)
    assert info.value == limited


def test_a_used_up_path_length_forbids_delegation() -> None:
    with pytest.raises(BadCredential, match="path length"):
        signed(with_info(bytes.fromhex("300f020100300a06082b06010505071501")))
    signed(with_info(bytes.fromhex("300f020101300a06082b06010505071501")))


def test_the_key_usage_does_not_exceed_that_of_the_signer() -> None:
    def with_usage(**bits: bool) -> Loaded:
        pair = user(AUTHORITY, KEYS["ec"], NOW - HOUR, NOW + HOUR, usage=usage(**bits))
        return Loaded((pair.certificate,), pair.key)

    def of(by: Loaded) -> x509.KeyUsage:
        return signed(by)[0].extensions.get_extension_for_class(x509.KeyUsage).value

    assert of(signer()).key_encipherment
    assert of(with_usage(digital_signature=True, key_encipherment=True)).key_encipherment
    only_signing = of(with_usage(digital_signature=True))
    assert (only_signing.digital_signature, only_signing.key_encipherment) == (True, False)
    with pytest.raises(BadCredential, match="digitalSignature"):
        of(with_usage(key_encipherment=True))


def test_a_request_that_is_damaged_forged_or_weak_is_not_signed() -> None:
    for odd in (b"", b"nonsense", REQUEST[:200], b"null"):
        with pytest.raises(ServerError):
            proxy.sign(odd, signer(), NOW, HOUR)
    der = bytearray(x509.load_pem_x509_csr(REQUEST).public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(bytes(der))
    with pytest.raises(ServerError, match="signature"):
        proxy.sign(forged + b"-----END CERTIFICATE REQUEST-----\n", signer(), NOW, HOUR)


def weak_request(folder: Path) -> bytes:
    command = [
        "openssl",
        "req",
        "-new",
        "-newkey",
        "rsa:576",
        "-nodes",
        "-subj",
        "/O=Dummy",
        "-keyout",
        "key",
    ]
    made = subprocess.run(command, cwd=folder, capture_output=True)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_a_key_that_is_easy_to_break_gets_no_delegation(tmp_path: Path) -> None:
    """The service makes an RSA key of the bits that the client's EC key has."""
    with pytest.raises(ClientError, match="576 bits"):
        proxy.sign(weak_request(tmp_path), signer("ec"), NOW, HOUR)


def test_a_lifetime_has_to_be_positive() -> None:
    with pytest.raises(ClientError):
        signed(signer(), timedelta(0))


def test_a_key_of_another_kind_is_not_signed() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Dummy")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    pem = request.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM)
    with pytest.raises(ClientError):
        proxy.sign(pem, signer(), NOW, HOUR)
