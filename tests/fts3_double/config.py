"""Configuration: links, storages, shares, activities, limits, grants, drain, cloud storages."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlparse

from .app import App, input_of, need, need_certificate
from .front import Answer, Request, json_answer
from .problems import ServiceError, bad_request

NOTHING = Answer(204, b"", None)
FALSE_LENGTH = 24  # how much longer than its body two broken answers claim to be
LINK_TYPES: dict[str, type] = {
    "source": str,
    "destination": str,
    "symbolicname": str,
    "min_active": int,
    "max_active": int,
    "optimizer_mode": int,
    "tcp_buffer_size": int,
    "nostreams": int,
    "no_delegation": bool,
}
SE_TYPES: dict[str, type] = {
    "inbound_max_active": int,
    "inbound_max_throughput": float,
    "outbound_max_active": int,
    "outbound_max_throughput": float,
    "udt": int,
    "ipv6": int,
    "se_metadata": str,
    "site": str,
    "debug_level": int,
    "skip_eviction": int,
    "tpc_support": str,
    "overwrite_disk_enabled": int,
}
GLOBAL_TYPES: dict[str, type] = {
    "retry": int,
    "max_time_queue": int,
    "global_timeout": int,
    "sec_per_mb": int,
    "vo_name": str,
    "no_streaming": bool,
    "show_user_dn": bool,
}
TPC = ("FULL", "PULL", "PUSH", "NONE")


def page(request: Request, value: Any) -> Answer:
    """A configuration page: HTML unless JSON is asked for by name."""
    if "json" in request.headers.get("Accept", ""):
        return json_answer(value)
    text = f"<!DOCTYPE html>\n<html><body><pre>{json.dumps(value, indent=1)}</pre></body></html>\n"
    return Answer(200, text.encode(), "text/html; charset=utf-8")


def checked(types: dict[str, type], name: str, value: Any) -> Any:
    """A value of the column's type; texts are cast."""
    if name not in types:
        raise bad_request(f"Field {name} unknown")
    kind = types[name]
    if isinstance(value, kind) or (kind is float and isinstance(value, int)):
        return value
    try:
        if not isinstance(value, str):
            raise ValueError
        return value.lower() in ("true", "yes", "on") if kind is bool else kind(value)
    except ValueError:
        shown = "Number" if kind is float else kind.__name__
        raise bad_request(f"Field {name} is expected to be {shown}") from None


def set_link(app: App, request: Request) -> Answer:
    """201, and the JSON goes as text/html."""
    user = need(request, "config")
    given = input_of(request)
    name = given.get("symbolicname")
    if not name:
        raise bad_request("Missing symbolicname")
    try:
        low, high = int(given.get("min_active", 2)), int(given.get("max_active", 2))
    except (TypeError, ValueError) as error:
        raise bad_request(f"Active must be an integer ({error})") from None
    if not given.get("source", "*") or not given.get("destination", "*"):
        raise bad_request("Missing source and/or destination")
    if low > high:
        raise bad_request("max_active is lower than min_active")
    link = app.database.document("link", name) or {
        **dict.fromkeys(LINK_TYPES),
        "source": given.get("source", "*"),
        "destination": given.get("destination", "*"),
        "symbolicname": name,
        "min_active": low,
        "max_active": high,
        "no_delegation": False,
    }
    link.update({key: checked(LINK_TYPES, key, value) for key, value in given.items()})
    app.database.put_document("link", name, link)
    app.audit(user, "link", json.dumps(given))
    return json_answer(link, 201, content_type="text/html; charset=utf-8")


def get_links(app: App, request: Request) -> Answer:
    need(request, "config")
    return page(request, list(app.database.documents("link").values()))


def get_link(app: App, request: Request, name: str) -> Answer:
    need(request, "config")
    link = app.database.document("link", name)
    if link is None:
        raise ServiceError(404, f"Link {name} does not exist")
    return json_answer(link)


def delete_link(app: App, request: Request, name: str) -> Answer:
    user = need(request, "config")
    app.database.drop_document("link", name)
    app.audit(user, "link-delete", f"Link {name} has been deleted")
    return NOTHING


def set_se(app: App, request: Request) -> Answer:
    """Limits of storages; the pair of what was stored last."""
    user = need(request, "config")
    info: dict[str, Any] | None = None
    operations: Any = None
    for storage, wanted in input_of(request).items():
        if not storage.strip() or not isinstance(wanted, dict):
            raise bad_request("Malformed configuration")
        entry = app.database.document("se", storage) or {}
        info, operations = None, wanted.get("operations")
        if wanted.get("se_info"):
            info = {**dict.fromkeys(SE_TYPES), **entry.get("se_info", {})}
            for name, value in wanted["se_info"].items():
                if value is None:
                    continue
                info[name] = checked(SE_TYPES, name, value)
                if name == "tpc_support" and info[name] not in TPC:
                    raise bad_request(
                        f"Field {name} is expected to be one of the following: {', '.join(TPC)}"
                    )
            entry["se_info"] = info
        for vo, limits in (operations or {}).items():
            stored = entry.setdefault("operations", {}).setdefault(vo, {})
            stored.update({name: int(limit) for name, limit in limits.items()})
            for name in [name for name, limit in stored.items() if limit <= 0]:
                del stored[name]
        app.database.put_document("se", storage, entry)
        app.audit(user, "set-se-config", f"Set config {storage}: {json.dumps(wanted)}")
        info = None if info is None else {"storage": storage, "eviction": None, **info}
    return json_answer([info, operations])


def get_se(app: App, request: Request) -> Answer:
    need(request, "config")
    found = app.database.documents("se")
    wanted = request.query.get("se")
    return page(request, {se: entry for se, entry in found.items() if wanted in (None, se)})


def delete_se(app: App, request: Request) -> Answer:
    need(request, "config")
    if not request.query.get("se"):
        raise bad_request("Missing storage (se)")
    app.database.drop_document("se", request.query["se"])
    return NOTHING


def set_activities(app: App, request: Request) -> Answer:
    need_certificate(request)
    user = need(request, "config")
    given = input_of(request)
    if not given.get("vo"):
        raise bad_request("Missing VO")
    share = given.get("share")
    if not share:
        raise bad_request("Missing share")
    entries = share if isinstance(share, list) else [{name: weight} for name, weight in share.items()]
    if any(type(weight) not in (int, float) for entry in entries for weight in entry.values()):
        raise bad_request("Share weight must be a number")
    stored = {"vo": given["vo"], "active": given.get("active", True), "activity_share": entries}
    app.database.put_document("activities", given["vo"], stored)
    app.audit(user, "activity-share", json.dumps(given))
    return json_answer(stored)


def _activities(stored: dict[str, Any]) -> dict[str, Any]:
    share = {name: weight for entry in stored["activity_share"] for name, weight in entry.items()}
    return {"share": share, "active": stored["active"]}


def get_activities(app: App, request: Request) -> Answer:
    need_certificate(request)
    need(request, "config")
    found = app.database.documents("activities")
    return page(request, {vo: _activities(stored) for vo, stored in found.items()})


def get_activities_of(app: App, request: Request, vo: str) -> Answer:
    """500 for an unknown VO, as seen."""
    need_certificate(request)
    need(request, "config")
    return json_answer(_activities(app.database.document("activities", vo)))


def delete_activities(app: App, request: Request, vo: str) -> Answer:
    need_certificate(request)
    user = need(request, "config")
    if not app.database.drop_document("activities", vo):
        raise ServiceError(404, f"No activity shares for {vo}")
    app.audit(user, "activity-share", f'Activity share removed for "{vo}"')
    return NOTHING


def shares_of(app: App, vo: str) -> dict[str, float] | None:
    """The weights of a VO's activities, None when it has none in force."""
    stored = app.database.document("activities", vo)
    return _activities(stored)["share"] if stored and stored["active"] else None


def set_share(app: App, request: Request) -> Answer:
    """Answers the number, also when no link has that pair and nothing is stored."""
    user = need(request, "config")
    given = input_of(request)
    try:
        share = int(given.get("share"))  # type: ignore[arg-type]
        if share < 0:
            raise ValueError
    except (TypeError, ValueError):
        raise bad_request("Bad share value") from None
    source, destination, vo = given.get("source"), given.get("destination"), given.get("vo")
    if not (source and destination and vo and share):
        raise bad_request("Missing source, destination, vo and/or share")
    pair = []
    for url in (urlparse(source), urlparse(destination)):
        if not url.scheme or not url.hostname:
            raise bad_request("Invalid source")
        pair.append(f"{url.scheme}://{url.hostname}")
    links = app.database.documents("link").values()
    if any([link["source"], link["destination"]] == pair for link in links):
        entry = {"source": pair[0], "destination": pair[1], "vo": vo, "share": share}
        app.database.put_document("share", json.dumps([*pair, vo]), entry)
        app.audit(user, "share-config", json.dumps(given))
    return json_answer(share)


def get_shares(app: App, request: Request) -> Answer:
    need(request, "config")
    return json_answer(list(app.database.documents("share").values()))


def delete_share(app: App, request: Request) -> Answer:
    need(request, "config")
    query = request.query
    name = json.dumps([query.get("source"), query.get("destination"), query.get("vo")])
    app.database.drop_document("share", name)
    return NOTHING


def set_drain(app: App, request: Request) -> Answer:
    user = need(request, "config")
    given = input_of(request)
    drain, host = given.get("drain", True), given.get("hostname")
    if not isinstance(drain, bool) or not isinstance(host, str):
        raise bad_request("Invalid drain request")
    if host != app.host:
        raise bad_request("Host not found")
    app.settings.engine_paused = drain
    app.audit(user, "drain", f"Turning drain {drain} the drain mode for {host}")
    return json_answer(None)


def set_global(app: App, request: Request) -> Answer:
    """The change is made, but the answer claims to be longer than it is."""
    user = need(request, "config")
    given = input_of(request)
    vo = given.get("vo_name", "*")
    stored = app.database.document("global", vo) or {**dict.fromkeys(GLOBAL_TYPES, 0), "vo_name": vo}
    stored.update({name: checked(GLOBAL_TYPES, name, value) for name, value in given.items()})
    app.database.put_document("global", vo, stored)
    app.audit(user, "set-globals", json.dumps(stored))
    return json_answer(_globals(app), false_length=FALSE_LENGTH)


def _globals(app: App) -> dict[str, Any]:
    return {"*": {**dict.fromkeys(GLOBAL_TYPES), "vo_name": None}, **app.database.documents("global")}


def get_global(app: App, request: Request) -> Answer:
    need(request, "config")
    return page(request, _globals(app))


def delete_global(app: App, request: Request) -> Answer:
    need(request, "config")
    vo = request.query.get("vo_name")
    if not vo or vo == "*":
        raise bad_request("Missing VO name")
    app.database.drop_document("global", vo)
    return NOTHING


def default_retries(app: App, vo: str) -> int:
    """How often the server tries again for jobs with `retry` 0."""
    stored = app.database.document("global", vo) or app.database.document("global", "*") or {}
    return int(stored.get("retry") or 0)
