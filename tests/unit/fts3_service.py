"""For the tests of the FTS3 client: a real HTTP(S) server that answers by script, certificates, and figures
as the real service gives them."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from agent.fts3 import Retries, Runtime

NOW = datetime(2026, 11, 22, 12, 40, 42, tzinfo=UTC)

JOB_ID = "edfad6fe-e671-11f1-8a12-02fc00000001"
OTHER_ID = "ee11a44c-e671-11f1-a17d-02fc00000001"
UNKNOWN_ID = "11111111-2222-3333-4444-555555555555"
BASE_ID = "01874efb-4735-4595-bc9c-591aef8240c9"
DELEGATION_ID = "d248fcee13ed4ced"
DELEGATION = f"/delegation/{DELEGATION_ID}"
USER_DN = "/DC=test/DC=farm/OU=Users/CN=alice"

ENDPOINT = {
    "delegation": {"major": 1, "minor": 0, "patch": 0},
    "api": {"major": 3, "minor": 13, "patch": 4},
    "core": None,
    "schema": {"minor": 1, "patch": 0, "major": 9},
    "_links": {"fts:joblist": {"href": "/jobs{?vo_name,user_dn,dlg_id,state_in}", "templated": True}},
}
WHOAMI: dict[str, Any] = {
    "user_dn": USER_DN,
    "dn": [USER_DN],
    "base_id": BASE_ID,
    "voms_cred": [],
    "vos": ["farm"],
    "vos_id": ["6bd76f23-ff4e-5f7c-80ab-10d0f6559112"],
    "roles": [],
    "level": {"transfer": "vo", "datamanagement": "all"},
    "delegation_id": DELEGATION_ID,
    "method": "certificate",
    "is_root": False,
}
NOBODY = {
    "user_dn": "anon",
    "dn": [],
    "vos": [],
    "level": {},
    "delegation_id": "",
    "method": "unauthenticated",
}
JOB: dict[str, Any] = {
    "destination_spacetoken": None,
    "cancel_job": False,
    "max_time_in_queue": None,
    "verify_checksum": "b",
    "submit_host": "localhost",
    "internal_job_params": "nostreams:1",
    "user_dn": USER_DN,
    "dst_file_report": False,
    "job_metadata": {"label": "t", "auth_method": "certificate"},
    "job_id": JOB_ID,
    "cred_id": DELEGATION_ID,
    "overwrite_flag": "Y",
    "retry": 3,
    "source_se": "https://localhost",
    "vo_name": "farm",
    "job_finished": None,
    "retry_delay": 0,
    "dest_se": "https://localhost",
    "reason": None,
    "job_state": "SUBMITTED",
    "submit_time": "2026-11-22T12:40:42",
    "bring_online": -1,
    "job_type": "N",
    "priority": 4,
    "archive_timeout": -1,
    "http_status": "200 Ok",
}
FILE: dict[str, Any] = {
    "hashed_id": 17810,
    "priority": 4,
    "checksum": "ADLER32",
    "tx_duration": None,
    "file_index": 0,
    "file_state": "SUBMITTED",
    "finish_time": None,
    "throughput": None,
    "job_id": JOB_ID,
    "start_time": None,
    "retry": 0,
    "source_surl": "https://localhost:8448/a/f1",
    "user_filesize": 123,
    "activity": "default",
    "vo_name": "farm",
    "dest_surl": "https://localhost:8448/b/f1",
    "file_metadata": {"k": "v"},
    "source_se": "https://localhost",
    "dest_se": "https://localhost",
    "reason": None,
    "file_id": 8872390430,
    "filesize": None,
}
BANNED_PAGE = (
    '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n<title>403 Forbidden</title>\n'
    "<h1>Forbidden</h1>\n<p>The user has been banned</p>\n"
)


def no_job(job_id: str = UNKNOWN_ID) -> dict[str, str]:
    message = f'No job with the id "{job_id}" has been found'
    return {"job_id": job_id, "http_status": "404 Not Found", "http_message": message}


def not_yours(job_id: str = OTHER_ID) -> dict[str, str]:
    message = f'Not enough permissions to check the job "{job_id}"'
    return {"job_id": job_id, "http_status": "403 Forbidden", "http_message": message}


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]
    certificate: dict[str, Any] | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """One scripted answer. cut: close before anything is answered. length: instead of the true one."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    length: int | None = None
    chunks: list[bytes] | None = None
    hang: threading.Event | None = None  # before the body

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


CUT = Reply(cut=True)
Script = Reply | Callable[[Request], Reply] | list[Any]


class Service:
    """Answers "METHOD /path" by its script: a reply, a function of the request, or a list used one by one
    (its last for ever). Anything else is 404 in the service's own words."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: dict[str, Script] = {"GET /": Reply(ENDPOINT), "GET /whoami": Reply(WHOAMI)}
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                service._answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = _any

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

            def finish_request(self, request: Any, client_address: Any) -> None:
                if tls is not None:  # in the thread of the connection: a stuck handshake holds up nobody
                    request = tls.wrap_socket(request, server_side=True)
                super().finish_request(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def asked(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        connection = handler.connection
        request = Request(
            handler.command,
            parts.path,
            {key: values[0] for key, values in parse_qs(parts.query).items()},
            {key.lower(): value for key, value in handler.headers.items()},
            handler.rfile.read(length),
            handler.client_address,
            connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None,
        )
        with self._lock:
            self.requests.append(request)
            reply = self._reply(request)
        self._send(handler, reply)

    def _reply(self, request: Request) -> Reply:
        found = self.script.get(f"{request.method} {request.path}")
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if found is None:
            return Reply({"status": "404 Not Found", "message": "Not found"}, 404)
        return found if isinstance(found, Reply) else found(request)

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.close_connection = reply.cut or reply.length is not None
        if reply.cut:
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        if reply.chunks is not None:
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for chunk in reply.chunks:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            handler.wfile.write(b"0\r\n\r\n")
            return
        if reply.status != 204:
            handler.send_header("Content-Length", str(reply.length or len(reply.content)))
        handler.end_headers()
        if reply.hang is not None:
            reply.hang.wait(30)
        handler.wfile.write(reply.content)


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    service = Service(tls)
    try:
        yield service
    finally:
        service.close()


class Naps:
    """Stands for time and chance: remembers how long it was asked to sleep, and does not."""

    def __init__(self, now: datetime = NOW, draw: float = 0.5) -> None:
        self.now = now
        self.slept: list[float] = []
        self.runtime = Runtime(
            now=lambda: self.now,
            monotonic=lambda: sum(self.slept),
            sleep=self.slept.append,
            draw=lambda: draw,
        )


QUICK = Retries(attempts=3, interval=0.001, max_interval=0.001)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: bytes | None = None) -> bytes:
        how = BestAvailableEncryption(password) if password else NoEncryption()
        return bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, how))

    def write(self, folder: Path, name: str, *above: Pair) -> tuple[str, str]:
        """Paths of the certificate (followed by `above`) and of the key."""
        cert, key = folder / f"{name}-cert.pem", folder / f"{name}-key.pem"
        cert.write_bytes(self.pem() + b"".join(one.pem() for one in above))
        key.write_bytes(self.key_pem())
        return str(cert), str(key)


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def subject(*parts: str) -> x509.Name:
    """From parts such as `DC=test`."""
    unit = NameOID.ORGANIZATIONAL_UNIT_NAME
    kinds = {"DC": NameOID.DOMAIN_COMPONENT, "OU": unit, "CN": NameOID.COMMON_NAME}
    pairs = (part.split("=", 1) for part in parts)
    return x509.Name([x509.NameAttribute(kinds[kind], value) for kind, value in pairs])


def authority(now: datetime) -> Pair:
    key, name = ec_key(), subject("DC=test", "DC=farm", "CN=Test CA")
    builder = _certificate(
        name, name, key.public_key(), key, now - timedelta(days=1), now + timedelta(days=365)
    )
    usage = _usage(digital_signature=False, key_encipherment=False, key_cert_sign=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def user(
    signer: Pair,
    key: Any,
    start: datetime,
    end: datetime,
    name: str = "alice",
    usage: x509.KeyUsage | None = None,
) -> Pair:
    parts = ("DC=test", "DC=farm", "OU=Users", f"CN={name}")
    builder = _certificate(
        subject(*parts), signer.certificate.subject, key.public_key(), signer.key, start, end
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    return Pair(builder.sign(signer.key, hashes.SHA256()), key)


def host(signer: Pair, key: Any, now: datetime) -> Pair:
    name = subject("DC=test", "DC=farm", "CN=localhost")
    start, end = now - timedelta(days=1), now + timedelta(days=9)
    builder = _certificate(name, signer.certificate.subject, key.public_key(), signer.key, start, end)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(builder.sign(signer.key, hashes.SHA256()), key)


def certificate_request(key: Any) -> bytes:
    """As the service makes it: the subject says nothing."""
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Dummy")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


def _certificate(
    name: x509.Name, issuer: x509.Name, key: Any, issuer_key: Any, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(above, critical=False)
    )


def _usage(**bits: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


usage = _usage


class Delegatee(Service):
    """A service that takes delegations."""

    def __init__(self) -> None:
        super().__init__()
        self.key = rsa_key()
        self.proxies: list[list[x509.Certificate]] = []
        self.ends: datetime | None = None
        self.script[f"GET {DELEGATION}"] = self._view
        self.script[f"GET {DELEGATION}/request"] = Reply(certificate_request(self.key))
        self.script[f"PUT {DELEGATION}/credential"] = self.take

    def _view(self, _: Request) -> Reply:
        if self.ends is None:
            return Reply([])
        return Reply({"termination_time": f"{self.ends:%Y-%m-%dT%H:%M:%S}", "voms_attrs": [""]})

    def take(self, request: Request) -> Reply:
        self.proxies.append(x509.load_pem_x509_certificates(request.body))
        self.ends = self.proxies[-1][0].not_valid_after_utc
        return Reply(b"", 201, {"Content-Type": "text/html"})
