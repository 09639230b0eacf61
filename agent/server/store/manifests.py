"""Manifests and their files. A deleted manifest's files stay until no transfer uses them."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from agent.server.errors import not_found
from agent.server.store import objects, tokens
from agent.server.store.scope import EVERYTHING, Owner, Scope

PENDING, COMPLETE, ERROR = "pending", "complete", "error"
KIND_FILE, KIND_EMPTY_DIRECTORY, KIND_LINK = 0, 1, 2
_ROWS = 100  # of one statement: each step of one gives up the interpreter and takes it again
_NAMES = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())  # as `os.fsencode`, which costs more


@dataclass(frozen=True, slots=True)
class Manifest:
    id: int
    status: str
    total_files: int | None
    total_size: int | None
    error: str | None
    owner: str
    created_us: int
    owner_token: str | None = None
    owner_session: str | None = None
    roots: str | None = None  # below which its sources are, see sources.stored; None = anywhere

    @property
    def processing(self) -> bool:
        return self.status == PENDING


class Entry(NamedTuple):
    """One file, empty directory or link. Paths with surrogate escapes; size -1 and mtime None = not known."""

    dest: str
    src: str
    kind: int
    size: int
    executable: bool
    mtime_us: int | None = None


_COLUMNS = ", ".join(Manifest.__dataclass_fields__)


def create(connection: sqlite3.Connection, owner: Owner, now_us: int, roots: str | None = None) -> Manifest:
    made = Manifest(
        objects.new_id(connection, "manifest"),
        PENDING,
        None,
        None,
        None,
        owner.name,
        now_us,
        owner.token,
        owner.session,
        roots,
    )
    connection.execute(
        f"INSERT INTO manifests({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
        (made.id, made.status, None, None, None, owner.name, now_us, owner.token, owner.session, roots),
    )
    return made


def add_files(connection: sqlite3.Connection, manifest_id: int, first: int, entries: Iterable[Entry]) -> None:
    """Append entries as seq `first`, `first + 1`, …"""
    rows = [
        (manifest_id, seq, dest.encode(*_NAMES), src.encode(*_NAMES), *rest)
        for seq, (dest, src, *rest) in enumerate(entries, first)
    ]
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        marks = ",".join(["(?,?,?,?,?,?,?,?)"] * len(part))
        connection.execute(f"INSERT INTO manifest_files VALUES {marks}", list(chain.from_iterable(part)))  # noqa: S608


def finish(
    connection: sqlite3.Connection, manifest_id: int, total_files: int, total_size: int, note: str
) -> None:
    """Complete; `note` says what was left out, if anything."""
    connection.execute(
        "UPDATE manifests SET status=?, total_files=?, total_size=?, error=? WHERE id=?",
        (COMPLETE, total_files, total_size, note, manifest_id),
    )
    count(connection, manifest_id, total_files, total_size)


def count(connection: sqlite3.Connection, manifest_id: int, files: int, size: int) -> None:
    """Have the transfers that began early know how much there is."""
    connection.execute(
        "UPDATE transfers SET total_files=?, total_size=? WHERE manifest_id=?", (files, size, manifest_id)
    )


def so_far(connection: sqlite3.Connection, manifest_id: int) -> tuple[int, int]:
    """Files and bytes of one that is still being made."""
    files, size = connection.execute(
        "SELECT count(*), coalesce(sum(max(size, 0)), 0) FROM manifest_files WHERE manifest_id=?",
        (manifest_id,),
    ).fetchone()
    return files, size


def fail(connection: sqlite3.Connection, manifest_id: int, message: str) -> None:
    connection.execute(
        "UPDATE manifests SET status=?, error=? WHERE id=? AND status=?",
        (ERROR, message, manifest_id, PENDING),
    )


def fail_unfinished(connection: sqlite3.Connection, message: str) -> None:
    """At start: what was being traversed when the server ended."""
    connection.execute("UPDATE manifests SET status=?, error=? WHERE status=?", (ERROR, message, PENDING))


def get(connection: sqlite3.Connection, manifest_id: int, scope: Scope = EVERYTHING) -> Manifest:
    """CommandError when there is no such manifest in the scope, or it was deleted."""
    query = f"SELECT {_COLUMNS} FROM manifests WHERE id=? AND deleted=0"  # noqa: S608
    row = connection.execute(query, (manifest_id,)).fetchone()
    found = None if row is None else Manifest(*row)
    if found is None or not scope.sees(found):
        objects.require_kind(connection, manifest_id, "manifest", scope)
        raise not_found("manifest", manifest_id)
    return found


def get_all(
    connection: sqlite3.Connection,
    before: int | None,
    after: int | None,
    limit: int | None,
    scope: Scope = EVERYTHING,
) -> list[Manifest]:
    """In order of creation, between the exclusive cursors."""
    seen, values = scope.condition()
    where = f"deleted=0 AND id < ? AND id > ? AND {seen}"
    query = f"SELECT {_COLUMNS} FROM manifests WHERE {where} ORDER BY id LIMIT ?"  # noqa: S608
    bounds = (2**63 - 1 if before is None else before, -1 if after is None else after)
    return [Manifest(*row) for row in connection.execute(query, (*bounds, *values, limit or -1))]


def files(
    connection: sqlite3.Connection, manifest_id: int, after: int, limit: int
) -> Iterator[tuple[int, Entry]]:
    """(seq, entry) in order, after seq `after` (-1 = from the start)."""
    rows = connection.execute(
        "SELECT seq, dest, src, kind, size, executable, mtime_us FROM manifest_files"
        " WHERE manifest_id=? AND seq>? ORDER BY seq LIMIT ?",
        (manifest_id, after, limit),
    )
    for seq, dest, src, kind, size, executable, mtime_us in rows:
        yield seq, Entry(os.fsdecode(dest), os.fsdecode(src), kind, size, bool(executable), mtime_us)


def paths(connection: sqlite3.Connection, manifest_id: int, seqs: list[int]) -> dict[int, str]:
    """Destination paths of the given entries."""
    found: dict[int, str] = {}
    for start in range(0, len(seqs), 500):
        part = seqs[start : start + 500]
        marks = ",".join("?" * len(part))
        query = f"SELECT seq, dest FROM manifest_files WHERE manifest_id=? AND seq IN ({marks})"  # noqa: S608
        found.update(
            (seq, os.fsdecode(dest)) for seq, dest in connection.execute(query, (manifest_id, *part))
        )
    return found


def delete(connection: sqlite3.Connection, manifest_id: int, scope: Scope = EVERYTHING) -> Manifest:
    """Mark as gone, with what shares it; `purge` removes the files once nothing uses them."""
    gone = get(connection, manifest_id, scope)
    tokens.delete_of_manifest(connection, manifest_id)
    connection.execute("UPDATE manifests SET deleted=1 WHERE id=?", (manifest_id,))
    objects.forget(connection, manifest_id)
    return gone


def purge(connection: sqlite3.Connection, limit: int) -> bool:
    """Remove up to `limit` file rows of deleted manifests that no transfer uses; True when more are left."""
    row = connection.execute(
        "SELECT id FROM manifests WHERE deleted=1 AND NOT EXISTS"
        " (SELECT 1 FROM transfers WHERE manifest_id=manifests.id) LIMIT 1"
    ).fetchone()
    if row is None:
        return False
    (seqs,) = connection.execute(
        "SELECT max(seq) FROM (SELECT seq FROM manifest_files WHERE manifest_id=? ORDER BY seq LIMIT ?)",
        (row[0], limit),
    ).fetchone()
    if seqs is None:
        connection.execute("DELETE FROM manifests WHERE id=?", row)
    else:
        connection.execute("DELETE FROM manifest_files WHERE manifest_id=? AND seq<=?", (row[0], seqs))
    return True
