"""Which adapter drives which server, and how it logs in."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.engines.jetstream import Credentials, JetstreamEngine, builtin_api
from agent.engines.jetstream_vendor import vendor_api
from agent.engines.port import Engine
from agent.model.spec import ClientKind, EngineKind, SecretRef, ServerSpec
from agent.specs.policy import Policy
from agent.specs.secrets import resolve

Login = Callable[[], Credentials | None]


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a server answers and how the agent logs in to it. `directory` is the adapter's own folder in the
    state directory, made when it is needed."""

    address: str
    port: int
    login: Login
    directory: str
    public_key: str | None = None  # of our own child


EngineFactory = Callable[[ServerSpec, Contact], Engine]


def make_engine(spec: ServerSpec, contact: Contact) -> Engine:
    """PermanentError when the adapter cannot work here."""
    if spec.engine is EngineKind.FTS3:
        return _fts3(spec, contact)
    if spec.client is ClientKind.VENDOR:
        return JetstreamEngine(contact.address, contact.port, contact.login, make_api=vendor_api)
    make = builtin_api(**_tls(spec, contact))
    return JetstreamEngine(contact.address, contact.port, contact.login, make_api=make)


def _fts3(spec: ServerSpec, contact: Contact) -> Engine:
    # Its libraries take a while to load, and few need them.
    from agent.engines.fts3.engine import Access, Fts3Engine

    def token() -> str:
        found = contact.login()
        return "" if found is None else found.token

    access = Access(
        spec.endpoint or "",
        spec.name,
        spec.auth.certificate,
        spec.auth.key,
        token if spec.auth.token is not None else None,
        spec.tls.ca,
        spec.delegation_lifetime,
        spec.storage,
        spec.verify_checksum,
    )
    return Fts3Engine(access, contact.directory)


def _tls(spec: ServerSpec, contact: Contact) -> dict[str, Any]:
    """Options of the client that are not its default."""
    wanted = {
        "ca": spec.tls.ca,
        "publicKey": spec.tls.public_key or contact.public_key,
        "insecure": spec.tls.insecure,
    }
    return {name: value for name, value in wanted.items() if value}


def login_of(spec: ServerSpec, policy: Callable[[], Policy | None]) -> Login:
    """Resolves the spec's references at each log-in, so that a changed secret takes effect."""

    def secret(ref: SecretRef | None) -> str:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        return "" if ref is None else resolve(ref, os.environ, directory, policy())

    def login() -> Credentials | None:
        auth = spec.auth
        return Credentials(auth.user_name or "", secret(auth.password), secret(auth.token))

    return login
