"""Configuration that only administrators' pages use, the optimizer's figures, hosts and completions."""

from __future__ import annotations

import json
from typing import Any

from .app import App, input_of, need, need_certificate
from .config import FALSE_LENGTH, NOTHING, page
from .front import Answer, Request, json_answer
from .problems import ServiceError, bad_request

CLOUD_KEYS = ("storage_name", "app_key", "app_secret", "service_api_url")
TERM_COLUMNS = {"source": "source_se", "destination": "dest_se", "vo": "vo_name"}
OPTIMIZER_KEYS = ("source_se", "dest_se", "active", "nostreams", "rationale", "throughput", "success", "ema")


def authorize(app: App, request: Request) -> Answer:
    need_certificate(request)
    user = need(request, "config")
    given = input_of(request)
    dn, operation = given.get("dn"), given.get("operation")
    if not dn or not operation:
        raise bad_request("Missing dn and/or operation")
    if operation == "admin":
        raise bad_request("'admin' level can only be changed via database access")
    granted = app.database.document("authz", dn) or []
    app.database.put_document("authz", dn, sorted({*granted, operation}))
    app.audit(user, "authorize", f'{operation} granted to "{dn}"')
    return json_answer({"dn": dn, "operation": operation})


def list_authorized(app: App, request: Request) -> Answer:
    need_certificate(request)
    need(request, "config")
    found = app.database.documents("authz")
    grants = [{"dn": dn, "operation": name} for dn, names in found.items() for name in names]
    query = request.query
    kept = [g for g in grants if all(query.get(name) in (None, "", g[name]) for name in ("dn", "operation"))]
    return page(request, kept)


def revoke(app: App, request: Request) -> Answer:
    need_certificate(request)
    need(request, "config")
    dn, operation = request.query.get("dn"), request.query.get("operation")
    if not dn:
        raise bad_request("Missing DN parameter")
    if operation == "admin":
        raise bad_request("'admin' level can only be changed via database access")
    left = [name for name in app.database.document("authz", dn) or [] if operation not in (None, "", name)]
    app.database.put_document("authz", dn, left)
    return NOTHING


def set_cloud(app: App, request: Request) -> Answer:
    """The change is made, but the answer claims to be longer than it is."""
    need_certificate(request)
    need(request, "config")
    given = input_of(request)
    if "storage_name" not in given:
        raise bad_request("Missing storage name")
    known = app.database.document("cloud", given["storage_name"]) or {"users": []}
    stored = {**known, **{name: given.get(name) for name in CLOUD_KEYS}}
    app.database.put_document("cloud", given["storage_name"], stored)
    return json_answer(given["storage_name"], 201, false_length=FALSE_LENGTH)


def get_clouds(app: App, request: Request) -> Answer:
    """Shows the secrets, as the real one does."""
    need_certificate(request)
    need(request, "config")
    return page(request, list(app.database.documents("cloud").values()))


def _cloud(app: App, name: str) -> dict[str, Any]:
    stored: dict[str, Any] | None = app.database.document("cloud", name)
    if stored is None:
        raise ServiceError(404, "The storage does not exist")
    return stored


def get_cloud(app: App, request: Request, name: str) -> Answer:
    need_certificate(request)
    need(request, "config")
    return json_answer(_cloud(app, name)["users"])


def delete_cloud(app: App, request: Request, name: str) -> Answer:
    need_certificate(request)
    need(request, "config")
    _cloud(app, name)
    app.database.drop_document("cloud", name)
    return NOTHING


def add_cloud_user(app: App, request: Request, name: str) -> Answer:
    """201 with JSON that goes as text/html."""
    need_certificate(request)
    need(request, "config")
    stored, given = _cloud(app, name), input_of(request)
    dn, vo = given.get("user_dn", ""), given.get("vo_name", "")
    if not dn and not vo:
        raise bad_request("One of user_dn or vo_name must be specified")
    if dn and vo:
        raise bad_request("Only one of user_dn or vo_name must be specified")
    shown = {"storage_name": name, "user_dn": dn, "vo_name": vo}
    secrets = {
        "access_token": given.get("access_key", given.get("access_token")),
        "access_token_secret": given.get("secret_key", given.get("access_token_secret")),
    }
    stored["users"] = [u for u in stored["users"] if (u["user_dn"], u["vo_name"]) != (dn, vo)]
    stored["users"].append({**shown, **secrets})
    app.database.put_document("cloud", name, stored)
    return json_answer(shown, 201, content_type="text/html; charset=utf-8")


def remove_cloud_user(app: App, request: Request, name: str, who: str) -> Answer:
    need_certificate(request)
    need(request, "config")
    stored = _cloud(app, name)
    stored["users"] = [u for u in stored["users"] if who not in (u["user_dn"], u["vo_name"])]
    app.database.put_document("cloud", name, stored)
    return NOTHING


def audit(app: App, request: Request) -> Answer:
    need(request, "config")
    rows = app.database.rows("SELECT datetime, dn, config, action FROM audit ORDER BY seq DESC LIMIT 100")
    return page(request, [dict(row) for row in rows])


def hosts(app: App, request: Request) -> Answer:
    need(request, "config")
    beat = {"hostname": app.host, "beat": app.now(), "drain": app.settings.engine_paused}
    return page(request, [{**beat, "service_name": name} for name in ("fts_qos", "fts_server")])


def status_hosts(app: App, request: Request) -> Answer:
    need_certificate(request)
    need(request, "config")
    rows = app.database.rows("SELECT file_state, count(*) AS n FROM files GROUP BY file_state")
    return json_answer({app.host: {row["file_state"]: row["n"] for row in rows}})


def complete(app: App, request: Request, what: str) -> Answer:
    need(request, "config")
    term = request.query.get("term", "")
    if what == "dn":
        rows = app.database.rows("SELECT DISTINCT user_dn AS v FROM jobs")
    elif what == "storage":
        rows = app.database.rows("SELECT source_se AS v FROM files UNION SELECT dest_se FROM files")
    else:
        rows = app.database.rows(f"SELECT DISTINCT {TERM_COLUMNS[what]} AS v FROM files")
    return json_answer(sorted(row["v"] for row in rows if row["v"] and row["v"].startswith(term)))


def force_start(app: App, request: Request) -> Answer:
    """Files that wait leave the queue; the list of those that could not."""
    need_certificate(request)
    need(request, "admin")
    wanted = json.loads(request.body())
    left = []
    with app.database.transaction() as db:
        for file_id in wanted:
            changed = db.execute(
                "UPDATE files SET file_state = 'FORCE_START', retry_at = 0"
                " WHERE file_id = ? AND file_state = 'SUBMITTED'",
                (file_id,),
            )
            left += [] if changed.rowcount else [file_id]
    return json_answer(left)


def optimizer_enabled(app: App, request: Request) -> Answer:
    return json_answer(True)


def optimizer_values(app: App, request: Request) -> Answer:
    found = app.database.documents("optimizer").values()
    wanted = {name: request.query.get(name) for name in ("source_se", "dest_se")}
    return json_answer([v for v in found if all(w in (None, "", v[n]) for n, w in wanted.items())])


def optimizer_evolution(app: App, request: Request) -> Answer:
    return json_answer([])


def set_optimizer(app: App, request: Request) -> Answer:
    """No login is asked for, as with the real one."""
    given = input_of(request)
    source, destination = given.get("source_se"), given.get("dest_se")
    if not source or not destination:
        raise bad_request("Missing source and/or destination")
    try:
        active = int(given.get("active", 2))
    except (TypeError, ValueError) as error:
        raise bad_request(f"Active must be an integer ({error})") from None
    if active < 0:
        raise bad_request(f"Active must be positive ({active})")
    stored = {**{name: given.get(name) for name in OPTIMIZER_KEYS}, "active": active, "datetime": app.now()}
    app.database.put_document("optimizer", json.dumps([source, destination]), stored)
    return json_answer(stored)
