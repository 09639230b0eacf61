"""Bans of storage elements and of users."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from typing import Any

from .app import App, need
from .front import Answer, Request, json_answer
from .problems import ServiceError, bad_request, forbidden
from .states import FILE_ACTIVE, FILE_TERMINAL, JOB_ACTIVE

ON_STORAGE = "(source_se = ? OR dest_se = ?) AND vo_name = ?"


def _marks(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _input(request: Request) -> dict[str, Any]:
    if request.headers.get("Content-Type") != "application/json":
        return dict(request.query)
    try:
        found: dict[str, Any] = json.loads(request.body())
    except ValueError:
        raise bad_request("Malformed input") from None
    return found


def ban_se(app: App, request: Request) -> Answer:
    """Ban a storage element for the first VO of the admin; the ids of the jobs that were hit."""
    user = need(request, "config")
    given = _input(request)
    storage = given.get("storage")
    if not storage:
        raise bad_request("Missing storage parameter")
    allow_submit, status = bool(given.get("allow_submit")), str(given.get("status", "cancel")).upper()
    if status not in ("CANCEL", "WAIT"):
        raise bad_request("status can only be cancel or wait")
    if allow_submit and status == "CANCEL":
        raise bad_request("allow_submit and status = CANCEL can not be combined")
    vo = user.vos[0]
    with app.database.transaction() as db:
        known = db.execute("SELECT vo FROM banned_se WHERE se = ?", (storage,)).fetchone()
        if known is not None and known["vo"] != vo:
            raise RuntimeError("the table's key is the storage alone, and another VO has banned it")
        shown = "WAIT_AS" if allow_submit else status
        message = given.get("message", "")
        db.execute(
            "INSERT OR REPLACE INTO banned_se VALUES(?, ?, ?, ?, ?, ?)",
            (storage, vo, shown, message, app.now(), user.user_dn),
        )
        act = _cancel_on if status == "CANCEL" else _hold_on
        hit = act(app, db, storage, vo)
    app.audit(user, "ban-se", f"Storage {storage} for {vo} banned ({status})")
    return json_answer(hit)


def _cancel_on(app: App, db: sqlite3.Connection, storage: str, vo: str) -> list[str]:
    """Cancel what waits and what runs. `finish_time` is set, so copies under way are not stopped."""
    now = app.now()
    rows = db.execute(
        f"SELECT file_id, job_id, file_index FROM files WHERE {ON_STORAGE}"
        f" AND file_state IN ({_marks((*FILE_ACTIVE, 'NOT_USED'))})",
        (storage, storage, vo),
    ).fetchall()
    for row in rows:
        db.execute(
            "UPDATE files SET file_state = 'CANCELED', reason = 'Storage banned', finish_time = ?"
            " WHERE file_id = ?",
            (now, row["file_id"]),
        )
        db.execute(
            "UPDATE files SET file_state = 'SUBMITTED' WHERE file_id = (SELECT file_id FROM files"
            " WHERE job_id = ? AND file_index = ? AND file_state = 'NOT_USED' LIMIT 1)",
            (row["job_id"], row["file_index"]),
        )
    hit = list(dict.fromkeys(row["job_id"] for row in rows))
    for job_id in hit:
        states = db.execute("SELECT file_state FROM files WHERE job_id = ?", (job_id,)).fetchall()
        counts = Counter(row["file_state"] for row in states)
        if sum(counts[state] for state in FILE_TERMINAL) == len(states):
            db.execute(
                "UPDATE jobs SET job_state = 'CANCELED', job_finished = ?, reason = NULL WHERE job_id = ?",
                (now, job_id),
            )
    return hit


def _hold_on(app: App, db: sqlite3.Connection, storage: str, vo: str) -> list[str]:
    """What waits is held; what runs goes on."""
    hit: dict[str, None] = {}
    for state, held in (("SUBMITTED", "ON_HOLD"), ("STAGING", "ON_HOLD_STAGING")):
        values = (storage, storage, vo, state)
        for row in db.execute(f"SELECT job_id FROM files WHERE {ON_STORAGE} AND file_state = ?", values):
            hit[row["job_id"]] = None
        db.execute(f"UPDATE files SET file_state = ? WHERE {ON_STORAGE} AND file_state = ?", (held, *values))
    return list(hit)


def unban_se(app: App, request: Request) -> Answer:
    """Held files go back to the queue; 204 also when there was no ban."""
    user = need(request, "config")
    storage = request.query.get("storage")
    if not storage:
        raise bad_request("Missing storage parameter")
    vo = user.vos[0]
    with app.database.transaction() as db:
        db.execute("DELETE FROM banned_se WHERE se = ? AND vo = ?", (storage, vo))
        for held, state in (("ON_HOLD", "SUBMITTED"), ("ON_HOLD_STAGING", "STAGING")):
            db.execute(
                f"UPDATE files SET file_state = ? WHERE {ON_STORAGE} AND file_state = ?",
                (state, storage, storage, vo, held),
            )
    app.audit(user, "unban-se", f"Storage {storage} unbanned")
    return Answer(204, b"", None)


def list_banned_se(app: App, request: Request) -> Answer:
    need(request, "config")
    return json_answer([dict(row) for row in app.database.rows("SELECT * FROM banned_se ORDER BY se")])


def ban_dn(app: App, request: Request) -> Answer:
    """Ban a user and cancel what he has; the ids of the jobs that were hit."""
    user = need(request, "config")
    given = _input(request)
    dn = given.get("user_dn")
    if not dn:
        raise bad_request("Missing dn parameter")
    if dn == user.user_dn:
        raise ServiceError(409, "The user tried to ban (her|his)self")
    now = app.now()
    with app.database.transaction() as db:
        values = (dn, given.get("message", ""), now, user.user_dn)
        db.execute("INSERT OR REPLACE INTO banned_dn VALUES(?, ?, ?, ?)", values)
        rows = db.execute(
            "SELECT job_id FROM jobs WHERE user_dn = ? AND job_finished IS NULL"
            f" AND job_state IN ({_marks(JOB_ACTIVE)})",
            (dn,),
        ).fetchall()
        for row in rows:
            db.execute(
                "UPDATE files SET file_state = 'CANCELED', reason = 'User banned', finish_time = ?"
                f" WHERE job_id = ? AND file_state IN ({_marks(FILE_ACTIVE)})",
                (now, row["job_id"]),
            )
            db.execute(
                "UPDATE jobs SET job_state = 'CANCELED', reason = 'User banned', job_finished = ?"
                " WHERE job_id = ?",
                (now, row["job_id"]),
            )
    app.audit(user, "ban-dn", f"User {dn} banned")
    return json_answer([row["job_id"] for row in rows])


def unban_dn(app: App, request: Request) -> Answer:
    user = need(request, "config")
    dn = request.query.get("user_dn")
    if not dn:
        raise bad_request("Missing user_dn parameter")
    with app.database.transaction() as db:
        db.execute("DELETE FROM banned_dn WHERE dn = ?", (dn,))
    app.audit(user, "unban-dn", f"User {dn} unbanned")
    return Answer(204, b"", None)


def list_banned_dn(app: App, request: Request) -> Answer:
    need(request, "config")
    return json_answer([dict(row) for row in app.database.rows("SELECT * FROM banned_dn ORDER BY dn")])


def apply_bans(app: App, files: list[dict[str, Any]]) -> None:
    """Refuse a job that touches a banned storage; where submissions are still taken, its files start held."""
    banned = {row["se"]: (row["vo"], row["status"]) for row in app.database.rows("SELECT * FROM banned_se")}
    if not banned:
        return
    for row in files:
        hits = [se for se in (row["source_se"], row["dest_se"]) if banned.get(se, ("",))[0] == row["vo_name"]]
        for se in hits:
            if banned[se][1] != "WAIT_AS":
                raise forbidden(f"{se} is banned")
        if hits:
            held = {"SUBMITTED": "ON_HOLD", "STAGING": "ON_HOLD_STAGING"}
            row["file_state"] = held.get(row["file_state"], row["file_state"])


class BanMemory:
    """Server threads that go on refusing a user after his ban, until they have served somebody else."""

    def __init__(self) -> None:
        self._threads: list[str | None] = []
        self._next = 0

    def refuses(self, dn: str, banned: bool, threads: int) -> bool:
        if threads <= 0:
            return banned
        self._threads = (self._threads + [None] * threads)[:threads]
        self._next = (self._next + 1) % threads
        if banned:
            self._threads[:] = [dn] * threads
            return True
        if self._threads[self._next] == dn:
            return True
        self._threads[self._next] = None
        return False
