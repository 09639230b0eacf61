"""Delegation of credentials: request, signed proxy, its remaining life."""

from __future__ import annotations

import json
import re

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from .app import App
from .front import Answer, Request, json_answer
from .identity import User
from .problems import ServiceError, bad_request, forbidden
from .settings import stamp

PEM = serialization.Encoding.PEM
SMALLEST_KEY = 1024  # the real one makes 576 bits for an EC certificate, which no library here accepts
CLIENT = re.compile(r"fts-.+/(\d+)\.(\d+)")
ONE_HOUR = 3600.0


def view(app: App, request: Request, dlg_id: str) -> Answer:
    """Termination time; when there is none, `[]` or `null` by the client's age."""
    user = own(request, dlg_id)
    row = app.database.row("SELECT * FROM credentials WHERE dlg_id = ? AND dn = ?", (dlg_id, user.user_dn))
    if row is None:
        client = CLIENT.search(request.headers.get("User-Agent", ""))
        modern = client is not None and (int(client[1]), int(client[2])) >= (3, 12)
        return json_answer([]) if modern else json_answer(None)
    attributes = (row["voms_attrs"] or "").split("\n")
    return json_answer({"termination_time": stamp(row["termination"]), "voms_attrs": attributes})


def new_request(app: App, request: Request, dlg_id: str) -> Answer:
    """A certificate request; the same one again until the size of the client's key changes."""
    user = own(request, dlg_id)
    row = app.database.row("SELECT * FROM requested WHERE dlg_id = ? AND dn = ?", (dlg_id, user.user_dn))
    size = _key_size(user)
    if row is not None and _size_of_request(row["request"]) == size:
        pem = row["request"]
    else:
        key = rsa.generate_private_key(65537, size)
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Dummy")])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        pem = made.public_bytes(PEM).decode()
        secret = key.private_bytes(
            PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode()
        with app.database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO requested VALUES(?, ?, ?, ?)", (dlg_id, user.user_dn, pem, secret)
            )
    headers = {"X-Delegation-ID": dlg_id}
    return Answer(200, pem.encode(), "text/plain; charset=utf-8", headers)


def put_credential(app: App, request: Request, dlg_id: str) -> Answer:
    """The signed proxy with its chain; 201 and nothing else."""
    user = own(request, dlg_id)
    row = app.database.row("SELECT * FROM requested WHERE dlg_id = ? AND dn = ?", (dlg_id, user.user_dn))
    if row is None:
        raise bad_request("No credential cache found")
    try:
        chain = checked_proxy(request.body(), row["key"])
    except ValueError as error:
        raise bad_request(f"Could not process the proxy: {error}") from None
    termination = min(c.not_valid_after_utc for c in chain).timestamp()
    parts = [chain[0].public_bytes(PEM), row["key"].encode(), *(c.public_bytes(PEM) for c in chain[1:])]
    with app.database.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO credentials VALUES(?, ?, ?, ?, ?)",
            (dlg_id, user.user_dn, b"".join(parts).decode(), termination, " ".join(user.voms_cred)),
        )
    return Answer(201, b"", "text/html; charset=utf-8")


def checked_proxy(pem: bytes, key_pem: str) -> list[x509.Certificate]:
    """The proxy and its chain; ValueError tells what is wrong with it."""
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError:
        chain = []
    if len(chain) < 2:
        raise ValueError("Malformed proxy")
    proxy, issuer = chain[0], chain[1]
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    if proxy.public_key() != key.public_key():
        raise ValueError("The proxy does not match the stored associated private key")
    if not _signed_by(proxy, issuer):
        raise ValueError("Failed to verify the proxy, maybe signed with the wrong private key?")
    subject, above = list(proxy.subject), list(proxy.issuer)
    if subject[:-1] != above:
        names = f"{_text(proxy.subject)} != {_text(proxy.issuer)}"
        raise ValueError(f"The subject and the issuer of the proxy do not match: {names}")
    if subject[-1].oid != NameOID.COMMON_NAME:
        raise ValueError("Missing trailing Common Name in the proxy")
    return chain


def delete(app: App, request: Request, dlg_id: str) -> Answer:
    user = own(request, dlg_id)
    with app.database.transaction() as db:
        gone = db.execute("DELETE FROM credentials WHERE dlg_id = ? AND dn = ?", (dlg_id, user.user_dn))
    if not gone.rowcount:
        raise ServiceError(404, "Delegated credentials not found")
    return Answer(204, b"", None)


def voms(app: App, request: Request, dlg_id: str) -> Answer:
    """There is no VOMS server here: 424 with a delegation, 500 without, as seen."""
    user = own(request, dlg_id)
    try:
        wanted = json.loads(request.body())
    except ValueError as error:
        raise bad_request(str(error)) from None
    if not isinstance(wanted, list):
        raise bad_request("Expecting a list of strings")
    if app.database.row("SELECT 1 FROM credentials WHERE dlg_id = ? AND dn = ?", (dlg_id, user.user_dn)):
        raise ServiceError(424, "VOMS server refused: unknown virtual organisation")
    raise RuntimeError("nothing is delegated")


def check_at_submission(app: App, user: User) -> None:
    """A certificate user needs a delegation with an hour left; else 419."""
    if user.method != "certificate":
        return
    dlg_id = user.delegation_id
    row = app.database.row(
        "SELECT termination FROM credentials WHERE dlg_id = ? AND dn = ?", (user.delegation_id, user.user_dn)
    )
    if row is None:
        raise ServiceError(419, f'No delegation found for "{user.user_dn}"')
    left = row["termination"] - app.settings.now()
    if left <= 0:
        ago = f"The delegated credentials expired {int(-left)} seconds ago ({dlg_id})"
        raise ServiceError(419, ago)
    if left < ONE_HOUR:
        raise ServiceError(419, f"The delegated credentials has less than one hour left ({dlg_id})")


def own(request: Request, dlg_id: str) -> User:
    user: User = request.user
    if dlg_id != user.delegation_id:
        raise forbidden("The requested ID and the credentials ID do not match")
    return user


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            assert certificate.signature_hash_algorithm is not None
            algorithm = certificate.signature_hash_algorithm
            key.verify(
                certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(), algorithm
            )
        else:
            certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _key_size(user: User) -> int:
    key = user.certificate.public_key() if user.certificate is not None else None
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else SMALLEST_KEY


def _size_of_request(pem: str) -> int:
    key = x509.load_pem_x509_csr(pem.encode()).public_key()
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else 0


def _text(name: x509.Name) -> str:
    return ", ".join(f"{a.rfc4514_attribute_name}={a.value!s}" for a in name)
