"""Cancelling jobs and files, and changing a job's priority."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .app import App, first_vo, input_of
from .front import Answer, Request, json_answer
from .jobs import readable_job
from .problems import ServiceError, bad_request, forbidden
from .states import BY_USER, FILE_ACTIVE, JOB_ACTIVE

ACTIVE_FILES = "file_state IN ({})".format(", ".join(f"'{state}'" for state in FILE_ACTIVE))
ACTIVE_JOBS = "job_state IN ({})".format(", ".join(f"'{state}'" for state in JOB_ACTIVE))
OVER = {"http_status": "304 Not Modified", "http_message": "The job is in a terminal state"}
DONE = {"http_status": "200 Ok", "http_message": None}


def cancel(app: App, request: Request, ids: str) -> Answer:
    """Cancel jobs. A file that has a process keeps `finish_time` null until the engine has stopped it."""
    first_vo(request.user)
    cancelable, answers = _split(app, request, ids)
    now = app.now()
    with app.database.transaction() as db:
        for job_id in cancelable:
            db.execute(
                "UPDATE jobs SET job_state = 'CANCELED', cancel_job = 1, job_finished = ?, reason = ?"
                " WHERE job_id = ?",
                (now, BY_USER, job_id),
            )
            db.execute(
                "UPDATE files SET file_state = 'CANCELED', reason = ?,"
                " finish_time = CASE WHEN pid IS NULL THEN ? END"
                f" WHERE job_id = ? AND {ACTIVE_FILES}",
                (BY_USER, now, job_id),
            )
            answers.append({**(app.database.job(job_id) or {}), **DONE})
    return _multi(answers, several="," in ids)


def modify(app: App, request: Request, ids: str) -> Answer:
    """Set the priority, unclamped; nothing else of a job can be changed."""
    first_vo(request.user)
    modifiable, answers = _split(app, request, ids)
    parameters = input_of(request).get("params")
    if parameters is None:
        priority = 0
    else:
        try:
            priority = int(parameters.get("priority", 0))
        except ValueError:
            raise bad_request("Invalid priority value") from None
    with app.database.transaction() as db:
        for job_id in modifiable:
            if priority:
                db.execute("UPDATE jobs SET priority = ? WHERE job_id = ?", (priority, job_id))
                db.execute("UPDATE files SET priority = ? WHERE job_id = ?", (priority, job_id))
            answers.append({**(app.database.job(job_id) or {}), **DONE})
    return _multi(answers, several="," in ids)


def _split(app: App, request: Request, ids: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The ids of jobs that go on, and the answers for all others."""
    going, answers = [], []
    for job_id in filter(None, ids.split(",")):
        try:
            job = readable_job(app, request.user, job_id)
        except ServiceError as problem:
            answers.append(problem.of_job(job_id))
            continue
        if job["job_state"] in JOB_ACTIVE:
            going.append(job_id)
        else:
            answers.append({**OVER, **job})
    return going, answers


def _multi(answers: list[dict[str, Any]], *, several: bool) -> Answer:
    """A job already over counts as good in a list: only unknown and refused ids make it 207."""
    if not several:
        status = int(answers[0]["http_status"][:3])
        return json_answer(answers[0], 200 if status == 304 else status)
    bad = any(answer["http_status"][0] == "4" for answer in answers)
    return json_answer(answers, 207 if bad else 200)


def cancel_files(app: App, request: Request, job_id: str, file_ids: str) -> Answer:
    """Cancel some files of a plain job. A copy under way is not stopped: its end just counts no more."""
    first_vo(request.user)
    job = readable_job(app, request.user, job_id)
    if job["job_type"] != "N":
        raise bad_request(f"Multihop or reuse jobs must be cancelled at once ({job['job_type']})")
    now = app.now()
    with app.database.transaction() as db:
        changed = [_cancel_file(db, job_id, file_id, now) for file_id in file_ids.split(",")]
        rows = db.execute("SELECT file_state FROM files WHERE job_id = ?", (job_id,)).fetchall()
        states = Counter(row["file_state"] for row in rows)
        if not any(states[state] for state in FILE_ACTIVE):
            db.execute(
                "UPDATE jobs SET job_state = 'CANCELED', cancel_job = 1, job_finished = ? WHERE job_id = ?",
                (now, job_id),
            )
    return json_answer(changed if len(changed) > 1 else changed[0])


def _cancel_file(db: Any, job_id: str, file_id: str, now: str) -> str:
    row = db.execute("SELECT job_id, file_state FROM files WHERE file_id = ?", (file_id,)).fetchone()
    if row is None or row["job_id"] != job_id:
        return "File does not belong to the job"
    if row["file_state"] not in FILE_ACTIVE:
        return str(row["file_state"])
    db.execute("UPDATE files SET file_state = 'CANCELED', finish_time = ? WHERE file_id = ?", (now, file_id))
    return "CANCELED"


def cancel_all(app: App, request: Request, vo: str | None = None) -> Answer:
    """Root only: every job that goes on, of all or of one VO."""
    first_vo(request.user)
    if not request.user.is_root:
        raise forbidden("User does not have root privileges")
    where, values = ("", ()) if vo is None else (" AND vo_name = ?", (vo,))
    with app.database.transaction() as db:
        files = db.execute(
            "UPDATE files SET file_state = 'CANCELED', reason = ?, finish_time = NULL"
            f" WHERE {ACTIVE_FILES}{where}",
            (BY_USER, *values),
        ).rowcount
        jobs = db.execute(
            "UPDATE jobs SET job_state = 'CANCELED', reason = ?, job_finished = ?"
            f" WHERE {ACTIVE_JOBS}{where}",
            (BY_USER, app.now(), *values),
        ).rowcount
    return json_answer({"affected_files": files, "affected_dm": 0, "affected_jobs": jobs})
