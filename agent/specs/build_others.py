"""A Share or Alert document that passed its schema -> the typed spec."""

from __future__ import annotations

from typing import Any

from agent.model.spec import AlertOn, AlertSpec, Heartbeat, SecretRef, ShareSpec, Webhook
from agent.model.units import parse_duration
from agent.specs.build_server import Report, secret_ref
from agent.specs.select import parse


def build_share(name: str, spec: dict[str, Any]) -> ShareSpec:
    expires = parse_duration(spec["expiresIn"]) if "expiresIn" in spec else None
    limit = int(spec["downloadLimit"]) if "downloadLimit" in spec else None
    return ShareSpec(
        name,
        spec["mapping"],
        expires,
        limit,
        secret_ref(spec.get("password")),
        spec.get("description", ""),
    )


def build_alert(name: str, spec: dict[str, Any], fail: Report) -> AlertSpec:
    select = spec.get("select", "")
    if select:
        try:
            parse(select)
        except ValueError as error:
            fail(("spec", "select"), str(error))
    hook = spec["webhook"]
    implicit = AlertSpec(name, (), Webhook(_required(hook["url"])))
    return AlertSpec(
        name,
        on=tuple(dict.fromkeys(AlertOn(what) for what in spec["on"])),
        webhook=Webhook(_required(hook["url"]), secret_ref(hook.get("secret")), hook.get("ca")),
        holds=_duration(spec, "for", implicit.holds),
        group_wait=_duration(spec, "groupWait", implicit.group_wait),
        repeat=_duration(spec, "repeat", implicit.repeat),
        select=select,
        heartbeat=_heartbeat(spec.get("heartbeat")),
    )


def _heartbeat(given: dict[str, Any] | None) -> Heartbeat | None:
    if given is None:
        return None
    url = _required(given["url"])
    return Heartbeat(url, _duration(given, "interval", Heartbeat(url).interval))


def _required(given: dict[str, Any]) -> SecretRef:
    found = secret_ref(given)
    if found is None:
        raise ValueError("the schema demands a reference here")
    return found


def _duration(given: dict[str, Any], key: str, default: float) -> float:
    return parse_duration(given[key]) if key in given else default
