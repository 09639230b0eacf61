"""Shared tokens and API tokens."""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
from dataclasses import dataclass, replace

from agent.jetstream.constants import ERROR_AUTHENTICATION, ERROR_NOT_FOUND
from agent.server.errors import CommandError
from agent.server.store import objects
from agent.server.store.scope import EVERYTHING, Scope

SHARED, API = "shared", "api"
_KINDS = {SHARED: "shared token", API: "API token"}


@dataclass(frozen=True, slots=True)
class Token:
    """`*_us` are microseconds since 1970. A shared token has a manifest, an API token a path. `token` is the
    secret; what is made with it holds its `id`."""

    id: int
    token: str
    kind: str
    password_hash: str | None
    permissions: int
    description: str
    created_us: int
    expires_us: int | None  # None = never
    owner: str
    owner_token: str | None = None
    owner_session: str | None = None
    download_count: int = 0
    download_limit: int | None = None  # None = as often as they like
    manifest_id: int | None = None
    path: str = ""

    def expired(self, now_us: int) -> bool:
        return self.expires_us is not None and self.expires_us <= now_us


_FIELDS = tuple(Token.__dataclass_fields__)
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM tokens"  # noqa: S608
_PATH = _FIELDS.index("path")


def _token(row: tuple[object, ...]) -> Token:
    values = list(row)
    values[_PATH] = os.fsdecode(row[_PATH] or b"")  # type: ignore[arg-type]
    return Token(*values)  # type: ignore[arg-type]


def _digest(token: str) -> bytes:
    """What tokens are looked up by: how long that takes tells nothing of the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def create(connection: sqlite3.Connection, token: Token) -> Token:
    """Store it under a new id (the argument's is ignored)."""
    made = replace(token, id=objects.new_id(connection, "token"))
    values = {field: getattr(made, field) for field in _FIELDS}
    values |= {"path": os.fsencode(made.path), "digest": _digest(made.token)}
    marks = ",".join("?" * len(values))
    connection.execute(f"INSERT INTO tokens({', '.join(values)}) VALUES ({marks})", list(values.values()))  # noqa: S608
    return made


def find(connection: sqlite3.Connection, token: str) -> Token | None:
    row = connection.execute(f"{_SELECT} WHERE digest=?", (_digest(token),)).fetchone()
    found = None if row is None else _token(row)
    if found is None or not hmac.compare_digest(_digest(found.token), _digest(token)):
        return None
    return found


def by_id(connection: sqlite3.Connection, token_id: str) -> Token | None:
    row = connection.execute(f"{_SELECT} WHERE id=?", (int(token_id),)).fetchone()
    return None if row is None else _token(row)


def get(connection: sqlite3.Connection, token: str, kind: str | None, scope: Scope = EVERYTHING) -> Token:
    """CommandError when there is no such token of this kind (None = of any) in the scope."""
    found = find(connection, token)
    if found is None or kind not in (None, found.kind) or not scope.owns(found):
        what = _KINDS.get(kind or "", "token")
        raise CommandError(f"the {what} was not found", ERROR_NOT_FOUND, kind=what)
    return found


def get_all(
    connection: sqlite3.Connection, kind: str, limit: int = 0, scope: Scope = EVERYTHING
) -> list[Token]:
    """In order of creation; limit 0 = all."""
    seen, values = scope.condition()
    rows = connection.execute(
        f"{_SELECT} WHERE kind=? AND {seen} ORDER BY id LIMIT ?", (kind, *values, limit or -1)
    )
    return [_token(row) for row in rows]


def update(connection: sqlite3.Connection, token: Token) -> None:
    """Store expiry and description."""
    connection.execute(
        "UPDATE tokens SET expires_us=?, description=? WHERE id=?",
        (token.expires_us, token.description, token.id),
    )


def count_download(connection: sqlite3.Connection, token_id: str, now_us: int) -> None:
    """One transfer more is made with a shared token. CommandError when it is over, or used up."""
    found = by_id(connection, token_id)
    if found is None or found.expired(now_us):
        raise CommandError("the shared token has expired or was deleted", ERROR_AUTHENTICATION)
    if found.download_limit is not None and found.download_count >= found.download_limit:
        raise CommandError(
            f"the shared token has reached its downloadLimit of {found.download_limit}; ask who shared it "
            "for another"
        )
    connection.execute("UPDATE tokens SET download_count=download_count+1 WHERE id=?", (found.id,))


def delete(connection: sqlite3.Connection, token: Token) -> list[int]:
    """Remove it and every token that was made with it; their ids."""
    gone = _remove(connection, "id=?", token.id)
    return gone + _remove(connection, "owner_token=?", str(token.id))


def delete_of_manifest(connection: sqlite3.Connection, manifest_id: int) -> list[int]:
    """What shares a manifest goes with it."""
    return _remove(connection, "manifest_id=?", manifest_id)


def expire(connection: sqlite3.Connection, now_us: int) -> list[int]:
    """Remove those whose time is over; their ids."""
    return _remove(connection, "expires_us<=?", now_us)


def _remove(connection: sqlite3.Connection, condition: str, value: object) -> list[int]:
    rows = connection.execute(f"SELECT id FROM tokens WHERE {condition}", (value,)).fetchall()  # noqa: S608
    for (token_id,) in rows:
        connection.execute("DELETE FROM tokens WHERE id=?", (token_id,))
        objects.forget(connection, token_id)
    return [int(token_id) for (token_id,) in rows]
