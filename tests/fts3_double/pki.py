"""Certificates and tokens for tests: an authority, hosts, users, RFC 3820 proxies, signed JWTs."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")  # ProxyCertInfo, policy "inherit all"
SHORT_NAMES = {
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.COMMON_NAME: "CN",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.EMAIL_ADDRESS: "emailAddress",
}
LONG_NAMES = {short: oid for oid, short in SHORT_NAMES.items()}
HOST_DN = "/DC=test/DC=farm/OU=Hosts/CN=localhost"
AUTHORITY_DN = "/DC=test/DC=farm/CN=Test Authority"


def user_dn(name: str) -> str:
    return f"/DC=test/DC=farm/OU=Users/CN={name}"


def slash_dn(name: x509.Name) -> str:
    """A subject in the slash form, as grid software writes it."""
    return "".join(f"/{SHORT_NAMES.get(a.oid, a.oid.dotted_string)}={a.value!s}" for a in name)


def name_of(dn: str) -> x509.Name:
    """The subject of a slash DN; values here hold no slash."""
    parts = [part.partition("=") for part in dn.strip("/").split("/")]
    return x509.Name([x509.NameAttribute(LONG_NAMES[short], value) for short, _, value in parts])


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, in files; `chain` follows the certificate in its file."""

    cert: Path
    key: Path

    def certificates(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self.cert.read_bytes())

    def private_key(self) -> Any:
        return serialization.load_pem_private_key(self.key.read_bytes(), None)


def _pem_key(key: Any) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(time.time() + seconds), datetime.UTC)


class Authority:
    """A test authority kept in a folder; what exists there already is used again."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca = self.folder / "ca.pem"
        if not self.ca.exists():
            key = rsa_key()
            name = name_of(AUTHORITY_DN)
            builder = self._builder(name, name, key.public_key(), 3650 * 86400)
            builder = builder.add_extension(x509.BasicConstraints(True, None), True)
            builder = builder.add_extension(_usage(sign_certificates=True), True)
            certificate = builder.sign(key, hashes.SHA256())
            self._write("ca.key", _pem_key(key))
            self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._pair = Pair(self.ca, self.folder / "ca.key")

    def host(self) -> Pair:
        """A server certificate for localhost and 127.0.0.1."""
        return self._issue("host", HOST_DN, 30 * 86400, host=True)

    def user(self, name: str, *, seconds: float = 30 * 86400, elliptic: bool = False) -> Pair:
        """The certificate of a user; made once, later calls give the same."""
        return self._issue(name, user_dn(name), seconds, elliptic=elliptic)

    def _issue(
        self, file: str, dn: str, seconds: float, *, host: bool = False, elliptic: bool = False
    ) -> Pair:
        pair = Pair(self.folder / f"{file}.pem", self.folder / f"{file}.key")
        if pair.cert.exists():
            return pair
        key: Any = ec.generate_private_key(ec.SECP256R1()) if elliptic else rsa_key()
        issuer = self._pair.certificates()[0]
        builder = self._builder(name_of(dn), issuer.subject, key.public_key(), seconds)
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        builder = builder.add_extension(_usage(), True)
        if host:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        authority = self._pair.private_key()
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False
        )
        certificate = builder.sign(authority, hashes.SHA256())
        self._write(pair.key.name, _pem_key(key))
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return pair

    @staticmethod
    def _builder(subject: x509.Name, issuer: x509.Name, key: Any, seconds: float) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(_moment(min(-3600, seconds - 3600)))
        return builder.not_valid_after(_moment(seconds)).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key), False
        )

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)


def _usage(*, sign_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def sign_proxy(owner: Pair, public_key: Any, seconds: float) -> x509.Certificate:
    """An RFC 3820 proxy of `owner` for a key; it ends no later than its owner's chain."""
    chain = owner.certificates()
    parent = chain[0]
    last = x509.NameAttribute(NameOID.COMMON_NAME, str(int(time.time())))
    end = min([_moment(seconds), *(c.not_valid_after_utc for c in chain)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*parent.subject, last]))
        .issuer_name(parent.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(-300))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(_usage(), True)
        .add_extension(x509.UnrecognizedExtension(PROXY_CERT_INFO, INHERIT_ALL), True)
    )
    return builder.sign(owner.private_key(), hashes.SHA256())


def make_proxy(owner: Pair, path: Path, *, seconds: float = 12 * 3600) -> Pair:
    """A proxy file, certificate, key and chain in one, as grid clients take it."""
    key = rsa_key()
    certificate = sign_proxy(owner, key.public_key(), seconds)
    pem = serialization.Encoding.PEM
    chain = b"".join(c.public_bytes(pem) for c in owner.certificates())
    traditional = key.private_bytes(
        pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(certificate.public_bytes(pem) + traditional + chain)
    return Pair(path, path)


class Issuer:
    """A token issuer: a key of its own, and JWTs signed with it."""

    def __init__(self, folder: Path, url: str = "https://issuer.test/") -> None:
        self.url = url
        folder.mkdir(parents=True, exist_ok=True)
        self.key_file = folder / "issuer.key"
        self.public_file = folder / "issuer.pem"
        if not self.key_file.exists():
            key = rsa_key()
            self.key_file.touch(mode=0o600)
            self.key_file.write_bytes(_pem_key(key))
            self.public_file.write_bytes(
                key.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )

    def token(
        self,
        subject: str = "alice",
        *,
        groups: Iterable[str] = ("/farm",),
        audience: str = "https://localhost",
        seconds: float = 3600,
        scope: str = "openid offline_access storage.read:/ storage.modify:/",
        **claims: Any,
    ) -> str:
        now = int(time.time())
        payload = {
            "iss": self.url,
            "sub": subject,
            "aud": audience,
            "scope": scope,
            "iat": now,
            "nbf": now - 60,
            "exp": int(now + seconds),
            "wlcg.groups": list(groups),
            **claims,
        }
        key = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        text = f"{_segment({'alg': 'RS256', 'typ': 'JWT', 'kid': 'test'})}.{_segment(payload)}"
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_unpadded(signature)}"


def _segment(value: Any) -> str:
    return _unpadded(json.dumps(value).encode())


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
