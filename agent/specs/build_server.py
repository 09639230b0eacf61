"""A Server document that passed its schema -> the typed spec, one function per engine."""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Callable
from typing import Any

from agent.jetstream import keys
from agent.model.spec import (
    Auth,
    ClientKind,
    EngineKind,
    SecretRef,
    SecretSource,
    ServerSpec,
    Storage,
    Tls,
)
from agent.model.units import parse_duration
from agent.specs.schemas import schemas

Path = tuple[str | int, ...]
Report = Callable[[Path, str], None]


def build_server(name: str, spec: dict[str, Any], fail: Report) -> ServerSpec:
    """The typed spec; it is valid when `fail` was not called."""
    engine = EngineKind(spec.get("engine", EngineKind.EMBEDDED))
    _refuse_others(engine, spec, (), schemas()["Server"]["properties"]["spec"], fail)
    match engine:
        case EngineKind.EMBEDDED:
            return _embedded(name, spec, fail)
        case EngineKind.JETSTREAM:
            return _jetstream(name, spec, fail)
        case EngineKind.FTS3:
            return _fts3(name, spec, fail)


def _refuse_others(engine: str, given: dict[str, Any], path: Path, schema: Any, fail: Report) -> None:
    """Keys that have no meaning for this engine."""
    for key, value in given.items():
        known = schema["properties"][key]
        engines = known.get("x-lanesync-engines")
        if engines and engine not in engines:
            names = " or ".join(engines)
            fail(("spec", *path, key), f"`{key}` is only for engine {names}; this server's is {engine}")
        elif isinstance(value, dict) and "properties" in known:
            _refuse_others(engine, value, (*path, key), known, fail)


def secret_ref(reference: dict[str, Any] | None) -> SecretRef | None:
    if reference is None:
        return None
    ((source, given),) = reference.items()
    if isinstance(given, list):
        return SecretRef(SecretSource(source), given[0], tuple(given))
    return SecretRef(SecretSource(source), given)


def public_key(text: str | None, path: Path, fail: Report) -> str | None:
    """The one spelling of a key."""
    if text is None:
        return None
    try:
        return keys.normalise(text)
    except ValueError as error:
        fail(path, f"must be {error}")
        return None


def _auth(auth: dict[str, Any]) -> Auth:
    certificate = auth.get("certificate", {})
    cert = certificate.get("cert")
    return Auth(
        auth.get("userName"),
        secret_ref(auth.get("password")),
        secret_ref(auth.get("token")),
        cert,
        certificate.get("key", cert),
    )


def _embedded(name: str, spec: dict[str, Any], fail: Report) -> ServerSpec:
    clients = tuple(
        public_key(text, ("spec", "authorizedClients", at), fail) or ""
        for at, text in enumerate(spec.get("authorizedClients", ()))
    )
    address, port, loopback = _listen(spec.get("listen", "127.0.0.1:0"), fail)
    if not loopback and not clients and "accounts" not in spec:
        fail(
            ("spec", "listen"),
            "a server that other hosts reach needs `accounts` or `authorizedClients`; "
            f"add one of them, or listen on 127.0.0.1:{port}",
        )
    root = spec.get("receiveRoot")
    if root is not None and ".." in root.split("/"):
        fail(("spec", "receiveRoot"), "must not contain `..`")
    elif root is not None and root.startswith("~"):
        fail(("spec", "receiveRoot"), "`~` is not expanded; write the absolute path")
    return ServerSpec(
        name,
        EngineKind.EMBEDDED,
        address,
        port,
        receive_root=root,
        reserve=spec.get("reserve"),
        accounts=spec.get("accounts"),
        authorized_clients=clients,
    )


def _listen(text: str, fail: Report) -> tuple[str, int, bool]:
    """(address, port, whether only this machine reaches it)"""
    host, colon, port_text = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        fail(("spec", "listen"), "must be HOST:PORT, for example 127.0.0.1:8886")
        return "127.0.0.1", 0, True
    if host.lower() == "localhost":
        host = "127.0.0.1"
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return host, int(port_text), loopback


def _jetstream(name: str, spec: dict[str, Any], fail: Report) -> ServerSpec:
    tls, client = spec.get("tls", {}), ClientKind(spec.get("client", ClientKind.BUILTIN))
    if tls and client is ClientKind.VENDOR:
        fail(("spec", "tls"), "the vendor's client has settings of its own for it; leave it out")
    return ServerSpec(
        name,
        EngineKind.JETSTREAM,
        address=spec["address"],
        port=int(spec.get("port", 8886)),
        auth=_auth(spec.get("auth", {})),
        client=client,
        tls=Tls(
            tls.get("ca"),
            public_key(tls.get("publicKey"), ("spec", "tls", "publicKey"), fail),
            tls.get("insecure", False),
        ),
    )


def _fts3(name: str, spec: dict[str, Any], fail: Report) -> ServerSpec:
    auth = _auth(spec["auth"])
    if auth.user_name is not None:
        fail(("spec", "auth", "userName"), "an FTS3 server takes a `certificate` or a `token`")
    storage = [
        Storage(posixpath.normpath(entry["path"]), entry["url"].rstrip("/")) for entry in spec["storage"]
    ]
    for at, entry in enumerate(storage):
        if entry.path in [other.path for other in storage[:at]]:
            fail(("spec", "storage", at, "path"), f"{entry.path} is there twice")
    lifetime = spec.get("delegation", {}).get("lifetime", "12h")
    return ServerSpec(
        name,
        EngineKind.FTS3,
        address=spec["endpoint"].rstrip("/"),
        auth=auth,
        tls=Tls(ca=spec.get("ca")),
        endpoint=spec["endpoint"].rstrip("/"),
        delegation_lifetime=parse_duration(lifetime),
        storage=tuple(sorted(storage, key=lambda entry: (-len(entry.path), entry.path))),
        verify_checksum=spec.get("verifyChecksum", "both") == "both",
    )
