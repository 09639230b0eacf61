"""The admin port: plain HTTP on the loopback, by which tests set faults and look inside."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from .app import App
from .database import FILE_FIELDS, JOB_FIELDS, JSON_FIELDS
from .front import Answer, Front, Request, json_answer
from .jobs import archive_jobs


class Admin:
    """`GET /state /requests`, `DELETE /faults /requests`, `POST` to all other paths."""

    def __init__(self, app: App, front: Front) -> None:
        self._app, self._front = app, front
        self._at_start = app.settings.as_dict()

    def __call__(self, request: Request) -> Answer:
        handler = getattr(self, f"{request.method.lower()}_{request.path.strip('/')}", None)
        if handler is None:
            return json_answer({"error": f"no {request.method} {request.path} here"}, 404)
        body = request.body()
        try:
            return json_answer(handler(json.loads(body) if body else {}), chunked=False)
        except (ValueError, TypeError, KeyError) as error:
            return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)

    def get_state(self, _: Any) -> dict[str, Any]:
        rows = self._app.database.rows
        jobs = rows("SELECT job_state AS s, count(*) AS n FROM jobs GROUP BY job_state")
        files = rows("SELECT file_state AS s, count(*) AS n FROM files GROUP BY file_state")
        return {
            "settings": self._app.settings.as_dict(),
            "faults": self._app.faults.listing(),
            "paused": self._app.faults.paused,
            "connections": self._front.accepted,
            "jobs": {row["s"]: row["n"] for row in jobs},
            "files": {row["s"]: row["n"] for row in files},
            "requests": Counter(f"{r['method']} {r['path'].split('/')[1]}" for r in list(self._front.log)),
        }

    def get_requests(self, _: Any) -> list[dict[str, Any]]:
        return list(self._front.log)

    def delete_requests(self, _: Any) -> None:
        self._front.log.clear()

    def post_faults(self, given: dict[str, Any]) -> None:
        self._app.faults.add(given)

    def delete_faults(self, _: Any) -> None:
        self._app.faults.clear()

    def post_settings(self, given: dict[str, Any]) -> dict[str, Any]:
        self._app.settings.change(given)
        return self._app.settings.as_dict()

    def post_reset(self, _: Any) -> None:
        """As after the start, delegations and file ids apart: no jobs, faults, bans, configuration, log."""
        self._app.faults.pause(False)
        self._app.faults.clear()
        self._app.settings.change(self._at_start)
        with self._app.database.transaction() as db:
            for table in ("files", "jobs", "retries", "archive", "banned_se", "banned_dn", "config", "audit"):
                db.execute(f"DELETE FROM {table}")
        self._front.log.clear()

    def post_pause(self, given: dict[str, Any]) -> None:
        self._app.faults.pause(bool(given["paused"]))

    def post_forget(self, given: dict[str, Any]) -> int:
        """Move jobs to the archive, ended or not; without ids all of them."""
        rows = self._app.database.rows("SELECT job_id FROM jobs")
        return archive_jobs(self._app, given.get("job_ids") or [row["job_id"] for row in rows])

    def post_rows(self, given: dict[str, Any]) -> int:
        """Write columns of a job and of its files as given; returns how many rows changed."""
        changed = 0
        with self._app.database.transaction() as db:
            for table, known in (("jobs", JOB_FIELDS), ("files", FILE_FIELDS)):
                columns = {k: v for k, v in given.get(table, {}).items() if k in known}
                if set(columns) != set(given.get(table, {})):
                    raise ValueError(f"unknown columns of {table}")
                if columns:
                    sql = f"UPDATE {table} SET {', '.join(f'{k} = ?' for k in columns)} WHERE job_id = ?"
                    values = [json.dumps(v) if k in JSON_FIELDS and v else v for k, v in columns.items()]
                    values.append(given["job_id"])
                    if table == "files" and "file_index" in given:
                        sql += " AND file_index = ?"
                        values.append(given["file_index"])
                    changed += db.execute(sql, values).rowcount
        return changed
