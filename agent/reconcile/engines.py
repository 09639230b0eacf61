"""Which adapter drives which server, and how it logs in."""

from __future__ import annotations

import os
from collections.abc import Callable

from agent.engines.jetstream import Credentials, JetstreamEngine
from agent.engines.port import Engine
from agent.model.spec import SecretRef, ServerSpec
from agent.specs.secrets import resolve

Login = Callable[[], Credentials | None]
EngineFactory = Callable[[str, int, Login], Engine]


def jetstream_engine(address: str, port: int, login: Login) -> Engine:
    return JetstreamEngine(address, port, login)


def login_of(spec: ServerSpec) -> Login:
    """Resolves the spec's references at each log-in, so that a changed secret takes effect."""

    def secret(ref: SecretRef | None) -> str:
        return "" if ref is None else resolve(ref, os.environ, os.environ.get("CREDENTIALS_DIRECTORY"))

    def login() -> Credentials | None:
        if spec.auth is None:
            return None
        auth = spec.auth
        return Credentials(auth.user_name or "", secret(auth.password), secret(auth.token))

    return login
