"""Jobs and files: submitting, listing, reading."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from .app import App, first_vo, input_of, need
from .banning import apply_bans
from .database import FILE_FIELDS, JOB_FIELDS, as_file, as_job, insert_many, value_out
from .delegation import check_at_submission
from .front import Answer, Request, json_answer
from .identity import User
from .problems import ServiceError, bad_request, forbidden
from .settings import stamp
from .submission import Submission, build, whole

LIST_LIMIT = 500
FILES_LIMIT = 1000
NO_RETRIES_LEFT_OUT = ("attempt", "datetime", "reason", "transfer_host", "log_file", "file_id")


def submit(app: App, request: Request) -> Answer:
    """Store a job; 200 with its id. Nothing is stored on any error."""
    user = need(request, "transfer")
    body = input_of(request)
    check_at_submission(app, user)
    if user.method == "oauth2" and "params" not in body:
        raise KeyError("params")
    made = build(body, user, app.settings.now(), app.host, lambda s, d: _queue_length(app, s, d))
    if user.method == "oauth2":
        _check_tokens(app, body, made)
    apply_bans(app, made.files)
    _store(app, made, token_prep=user.method == "oauth2")
    return json_answer({"job_id": made.job["job_id"]})


def _queue_length(app: App, source_se: str, dest_se: str) -> int:
    row = app.database.row(
        "SELECT count(*) AS n FROM files WHERE source_se = ? AND dest_se = ? AND file_state = 'SUBMITTED'",
        (source_se, dest_se),
    )
    return 0 if row is None else int(row["n"])


def _check_tokens(app: App, body: dict[str, Any], made: Submission) -> None:
    """No tape with tokens; each token must hold, with the claims the service keeps."""
    for token in made.tokens.values():
        claims = app.identities.checked_claims(token)
        if claims is None:
            raise bad_request("Failed to validate access-token")
        for claim, article in (("nbf", "a"), ("exp", "an"), ("scope", "a"), ("aud", "an")):
            if claim not in claims:
                raise bad_request(f"Token does not contain {article} {claim} claim")
    if whole(body["params"].get("archive_timeout")) > 0:
        raise bad_request("Requests to archive to tape using token authentication are not supported")
    if whole(body["params"].get("bring_online")) > 0:
        raise bad_request("Requests to retrieve from tape using token authentication are not supported")


def _store(app: App, made: Submission, *, token_prep: bool) -> None:
    if token_prep:
        for row in made.files:
            if row["file_state"] != "NOT_USED":
                row["file_state_initial"], row["file_state"] = row["file_state"], "TOKEN_PREP"
    with app.database.transaction() as db:
        try:
            insert_many(db, "jobs", [made.job])
        except sqlite3.IntegrityError:
            raise ServiceError(409, "The sid provided by the user is duplicated") from None
        insert_many(db, "files", made.files)
        links = {(row["source_se"], row["dest_se"], row["vo_name"]) for row in made.files}
        db.executemany("INSERT OR IGNORE INTO links VALUES(?, ?, ?)", links)
        db.executemany("INSERT OR REPLACE INTO tokens VALUES(?, ?)", made.tokens.items())


def index(app: App, request: Request) -> Answer:
    """Unfinished jobs; with `state_in` and a limit or a window also ended ones."""
    user: User = request.user
    if not user.may("transfer"):
        raise forbidden("Not enough permissions")
    query = request.query
    where, values = _list_conditions(app, user, query)
    limit = _number(query.get("limit"))
    sql = f"SELECT * FROM jobs WHERE {' AND '.join(where)}"
    if limit:
        sql += f" ORDER BY submit_time DESC LIMIT {limit}"
    jobs = [as_job(row) for row in app.database.rows(sql, values)]
    if query.get("fields"):
        wanted = [name for name in query["fields"].split(",") if name in JOB_FIELDS]
        jobs = [{name: job[name] for name in wanted} for job in jobs]
    return json_answer(jobs)


def _list_conditions(app: App, user: User, query: dict[str, str]) -> tuple[list[str], list[Any]]:
    if query.get("dlg_id") and query["dlg_id"] != user.delegation_id:
        raise forbidden("The provided delegation id does not match your delegation id")
    if query.get("user_dn") and query["user_dn"] != user.user_dn:
        raise bad_request("The provided DN and delegation id do not correspond to the same user")
    limit = _number(query.get("limit"))
    if limit is not None and not 0 <= limit <= LIST_LIMIT:
        raise bad_request("The limit must be positive and less or equal than 500")
    equal = {
        "user_dn": query.get("user_dn"),
        "vo_name": query.get("vo_name"),
        "cred_id": query.get("dlg_id"),
        "source_se": query.get("source_se"),
        "dest_se": query.get("dest_se"),
    }
    if user.level_for("transfer") == "":
        equal["cred_id"] = user.delegation_id
    elif user.level_for("transfer") == "vo":
        equal["vo_name"] = user.vos[0]
    where = [f"{name} = ?" for name, value in equal.items() if value]
    values: list[Any] = [value for value in equal.values() if value]
    window = _window(query.get("time_window"))
    if query.get("state_in"):
        states = query["state_in"].split(",")
        where.append(f"job_state IN ({', '.join('?' * len(states))})")
        values += states
    if not query.get("state_in") or (limit is None and window is None):
        where.append("job_finished IS NULL")
    elif limit is None and window is not None:
        where.append("job_finished >= ?")
        values.append(stamp(app.settings.now() - window))
    return where, values


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _window(text: str | None) -> float | None:
    """`H` or `H:M` in seconds; None when it is no such thing."""
    hours, _, minutes = (text or "").partition(":")
    try:
        return int(hours) * 3600.0 + int(minutes or 0) * 60.0
    except ValueError:
        return None


def readable_job(app: App, user: User, job_id: str) -> dict[str, Any]:
    """The job, if it is there and this user may see it."""
    job = app.database.job(job_id)
    if job is None:
        raise ServiceError(404, f'No job with the id "{job_id}" has been found')
    if not user.may("transfer", owner=job["user_dn"], vo=job["vo_name"]):
        raise forbidden(f'Not enough permissions to check the job "{job_id}"')
    return job


def get(app: App, request: Request, ids: str) -> Answer:
    """One job, or a list for several ids: 207 when any of them failed."""
    first_vo(request.user)
    fields = request.query["files"].split(",") if request.query.get("files") else []
    wanted = ids.split(",")
    found, failed = [], 0
    for job_id in filter(None, wanted):
        try:
            job = readable_job(app, request.user, job_id)
        except ServiceError as problem:
            found.append(problem.of_job(job_id))
            failed += 1
            continue
        if fields:
            job["files"] = files_of(app, job_id, fields)
        job["http_status"] = "200 Ok"
        found.append(job)
    if len(wanted) == 1:
        status = int(found[0]["http_status"][:3]) if failed else 200
        return json_answer(found[0], status, chunked=bool(fields))
    return json_answer(found, 207 if failed else 200)


def files_of(app: App, job_id: str, fields: list[str]) -> list[dict[str, Any]]:
    known = [name for name in fields if name in FILE_FIELDS]
    columns = ", ".join(known) or "1"
    rows = app.database.rows(f"SELECT {columns} FROM files WHERE job_id = ? ORDER BY file_id", (job_id,))
    return [{name: value_out(name, row[name]) for name in known} for row in rows]


def get_files(app: App, request: Request, job_id: str) -> Answer:
    first_vo(request.user)
    readable_job(app, request.user, job_id)
    rows = app.database.rows("SELECT * FROM files WHERE job_id = ? ORDER BY file_id", (job_id,))
    return json_answer([as_file(row) for row in rows])


def get_retries(app: App, request: Request, job_id: str, file_id: str) -> Answer:
    first_vo(request.user)
    readable_job(app, request.user, job_id)
    rows = app.database.rows("SELECT * FROM retries WHERE file_id = ? ORDER BY attempt", (file_id,))
    file = app.database.row("SELECT * FROM files WHERE file_id = ?", (file_id,))
    shown = None if file is None else as_file(file)
    return json_answer([{**{name: r[name] for name in NO_RETRIES_LEFT_OUT}, "file": shown} for r in rows])


def get_dm(app: App, request: Request, job_id: str) -> Answer:
    first_vo(request.user)
    readable_job(app, request.user, job_id)
    return json_answer([])


def get_field(app: App, request: Request, job_id: str, field: str) -> Answer:
    first_vo(request.user)
    job = readable_job(app, request.user, job_id)
    if field not in job:
        raise ServiceError(404, "No such field")
    return json_answer(job[field])


def list_files(app: App, request: Request) -> Answer:
    """Unfinished files, at most 1000 whatever the limit; a time window is an error of the service."""
    user = need(request, "transfer")
    query = request.query
    if query.get("time_window"):
        raise RuntimeError("files have no job_finished")
    equal = {
        "vo_name": user.vos[0] if user.level_for("transfer") in ("", "vo") else query.get("vo_name"),
        "source_se": query.get("source_se"),
        "dest_se": query.get("dest_se"),
        "dest_surl": query.get("dest_surl"),
    }
    where = ["finish_time IS NULL"] + [f"{name} = ?" for name, value in equal.items() if value]
    values: list[Any] = [value for value in equal.values() if value]
    if query.get("state_in"):
        states = query["state_in"].split(",")
        where.append(f"file_state IN ({', '.join('?' * len(states))})")
        values += states
    sql = f"SELECT * FROM files WHERE {' AND '.join(where)} LIMIT {FILES_LIMIT}"
    return json_answer([as_file(row) for row in app.database.rows(sql, values)])


def archived(app: App, request: Request, job_id: str, field: str | None = None) -> Answer:
    """A job that has left `/jobs`, with its files."""
    row = app.database.row("SELECT document FROM archive WHERE job_id = ?", (job_id,))
    if row is None:
        raise ServiceError(404, f'No job with the id "{job_id}" has been found in the archive')
    job = json.loads(row["document"])
    if not request.user.may("transfer", owner=job["user_dn"], vo=job["vo_name"]):
        raise forbidden(f'Not enough permissions to check the job "{job_id}"')
    if field is None:
        return json_answer(job)
    if field not in job:
        raise ServiceError(404, "No such field")
    return json_answer(job[field])


def archive_jobs(app: App, job_ids: list[str]) -> int:
    """Move jobs out of `/jobs`; returns how many there were."""
    count = 0
    with app.database.transaction() as db:
        for job_id in job_ids:
            job = app.database.job(job_id)
            if job is None:
                continue
            rows = db.execute("SELECT * FROM files WHERE job_id = ? ORDER BY file_id", (job_id,)).fetchall()
            job["files"] = [as_file(row) for row in rows]
            db.execute("INSERT OR REPLACE INTO archive VALUES(?, ?)", (job_id, json.dumps(job)))
            db.execute("DELETE FROM files WHERE job_id = ?", (job_id,))
            db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
            count += 1
    return count
