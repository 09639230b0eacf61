"""What the handlers of requests share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .database import Database
from .faults import Faults
from .front import Request
from .identity import Identities, User
from .problems import bad_request, forbidden
from .settings import Settings, stamp


@dataclass
class App:
    database: Database
    settings: Settings
    faults: Faults
    identities: Identities
    ca_file: str = ""
    host: str = "localhost"

    def now(self) -> str:
        return stamp(self.settings.now())

    def audit(self, user: User, action: str, text: str) -> None:
        with self.database.transaction() as db:
            db.execute(
                "INSERT INTO audit(datetime, dn, config, action) VALUES(?, ?, ?, ?)",
                (self.now(), user.user_dn, text, action),
            )


def input_of(request: Request) -> dict[str, Any]:
    """The body as an object: JSON, or a form; PUT is JSON whatever its type."""
    kind = request.headers.get("Content-Type", "")
    if kind.startswith("application/json") or request.method == "PUT":
        try:
            found = json.loads(request.body())
        except ValueError:
            raise bad_request("Badly formatted JSON request") from None
    elif kind.startswith("application/x-www-form-urlencoded"):
        from urllib.parse import parse_qsl

        found = {**request.query, **dict(parse_qsl(request.body().decode()))}
    else:
        raise bad_request("Expecting application/json or application/x-www-form-urlencoded")
    if not isinstance(found, dict):
        raise bad_request("Expecting a dictionary")
    return found


def need(request: Request, operation: str) -> User:
    """The user, if he may do it at any level; 403 otherwise."""
    user: User = request.user
    if not user.may(operation):
        raise forbidden("Not enough permissions")
    return user


def need_certificate(request: Request) -> User:
    user: User = request.user
    if user.method != "certificate":
        raise forbidden("Certificate required")
    return user


def first_vo(user: User) -> str:
    """Anonymous users have none; the service then fails with 500, and so does this."""
    return user.vos[0]
