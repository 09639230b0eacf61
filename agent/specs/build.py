"""A document that passed its schema -> the typed spec, with the checks that a schema cannot express."""

from __future__ import annotations

import os
import posixpath
from typing import Any

from agent.lanes import validate_lanes
from agent.model.patterns import pattern_problem
from agent.model.spec import (
    TRASH,
    Credentials,
    Deletions,
    DestinationSpec,
    Drift,
    DriftPolicy,
    Durability,
    Hooks,
    Kind,
    Lane,
    MappingSpec,
    MinCipher,
    OnRemove,
    Overwrite,
    PathMapping,
    PriorityLanesSpec,
    Receipt,
    RetryPolicy,
    Route,
    Spec,
    Symlinks,
    TransferDefaults,
    Verify,
    VerifyMode,
)
from agent.model.units import parse_duration, parse_proportion, parse_rate
from agent.specs.build_others import build_alert, build_share
from agent.specs.build_publish import build_publish, build_release
from agent.specs.build_server import Path, Report, build_server, public_key, secret_ref
from agent.specs.build_trigger import build_trigger
from agent.specs.build_windows import build_windows

RESERVED = ".lanesync"
"""Directory at a receiver's root that holds what has not arrived whole yet."""


def build(kind: Kind, data: dict[str, Any], directory: str, fail: Report, warn: Report) -> Spec:
    """The typed spec; it is valid when `fail` was not called. Relative sources are below `directory`; with an
    empty one, of specs that have no place of their own, they are refused."""
    name, spec = data["metadata"]["name"], data["spec"]
    match kind:
        case Kind.SERVER:
            return build_server(name, spec, fail)
        case Kind.PRIORITY_LANES:
            return _lanes(name, spec, fail)
        case Kind.DESTINATION:
            return _destination(name, spec, fail)
        case Kind.MAPPING:
            labels = data["metadata"].get("labels", {})
            return _Mapping(directory, fail, warn).build(name, labels, spec)
        case Kind.SHARE:
            return build_share(name, spec)
        case Kind.ALERT:
            return build_alert(name, spec, fail)


# -- PriorityLanes --


def _lanes(name: str, spec: dict[str, Any], fail: Report) -> PriorityLanesSpec:
    lanes = tuple(Lane(lane["name"], round(parse_proportion(lane["share"]), 9)) for lane in spec["lanes"])
    for message in validate_lanes([(lane.name, lane.share) for lane in lanes]):
        fail(("spec", "lanes"), message)
    return PriorityLanesSpec(name, lanes)


# -- Destination --


def _destination(name: str, spec: dict[str, Any], fail: Report) -> DestinationSpec:
    address = spec["url"].rstrip("/") if "url" in spec else spec["address"]
    if "url" in spec and "port" in spec:
        fail(("spec", "port"), "belongs to `address`; a URL holds its own port")
    implicit = DestinationSpec(name, address)
    return DestinationSpec(
        name,
        address,
        port=0 if "url" in spec else int(spec.get("port", implicit.port)),
        server=spec.get("server", implicit.server),
        lanes=spec.get("lanes"),
        send_rate_max=_rate(spec),
        transfer_defaults=_defaults(spec.get("transferDefaults", {})),
        suspend=spec.get("suspend", False),
        on_remove=OnRemove(spec.get("onRemove", implicit.on_remove)),
        route=_route(spec, fail),
        credentials=_credentials(spec.get("credentials")),
        windows=build_windows(spec.get("windows", []), fail),
        control_server=spec.get("controlServer"),
    )


def _route(spec: dict[str, Any], fail: Report) -> Route:
    identity, relay = spec.get("identity", {}), spec.get("relay", {})
    return Route(
        public_key=public_key(identity.get("publicKey"), ("spec", "identity", "publicKey"), fail),
        authenticate=bool(identity) and identity.get("authenticate", True),
        relay_address=relay.get("address", ""),
        relay_port=int(relay.get("port", 8887)) if relay else 0,
    )


def _credentials(given: dict[str, Any] | None) -> Credentials | None:
    password = secret_ref(given["password"]) if given else None
    return None if given is None or password is None else Credentials(given["userName"], password)


def _defaults(given: dict[str, Any]) -> TransferDefaults:
    known = TransferDefaults()
    return TransferDefaults(
        priority=int(given.get("priority", known.priority)),
        lane=given.get("lane"),
        checkpoint_interval=_duration(given, "checkpointInterval", known.checkpoint_interval),
        overwrite=Overwrite(given.get("overwrite", known.overwrite)),
        modification_time_tolerance=_duration(
            given, "modificationTimeTolerance", known.modification_time_tolerance
        ),
        timeout=_duration(given, "timeout", known.timeout),
        min_cipher=MinCipher(given["minCipher"]) if "minCipher" in given else None,
        durability=Durability(given.get("durability", known.durability)),
    )


def _duration(given: dict[str, Any], key: str, default: float) -> float:
    return parse_duration(given[key]) if key in given else default


def _rate(spec: dict[str, Any]) -> float | None:
    return parse_rate(spec["sendRateMax"]) if "sendRateMax" in spec else None


# -- Mapping --


def destination_path(text: str) -> tuple[str, str]:
    """`text` normalised to "/a/b", and what is wrong with it (empty when nothing)."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "/", "must not contain `..`"
    if len(text) * 4 > 255 and any(len(os.fsencode(part)) > 255 for part in parts):
        return "/", "a name in it is longer than 255 bytes, the most a file system takes"
    if RESERVED in parts:
        return "/", f"must not contain `{RESERVED}`: that directory holds what has not arrived whole yet"
    if TRASH in parts:
        return "/", f"must not contain `{TRASH}`: `deletions.trash` moves files there, and nothing else does"
    return "/" + "/".join(parts), ""


def _hooks(given: dict[str, Any]) -> Hooks:
    names = (given.get(event, {}).get("command") for event in ("onDelivered", "onStalled"))
    return Hooks(*names)


def _drift(given: dict[str, Any]) -> Drift:
    known = Drift()
    interval = _duration(given, "interval", known.interval)
    return Drift(DriftPolicy(given.get("policy", known.policy)), interval, "interval" in given)


def _verify(given: dict[str, Any]) -> Verify:
    interval = parse_duration(given["interval"]) if "interval" in given else None
    return Verify(interval, VerifyMode(given.get("mode", VerifyMode.METADATA)))


_IMPLICIT = MappingSpec("", (), ())
"""Of thousands of mappings most say little: what they leave out is the same few objects for all."""


class _Mapping:
    def __init__(self, directory: str, fail: Report, warn: Report) -> None:
        self._directory, self._fail, self._warn = directory, fail, warn

    def build(self, name: str, labels: dict[str, str], spec: dict[str, Any]) -> MappingSpec:
        preserve = spec.get("preserve", {})
        publish, marker = build_publish(spec, self._fail)
        return MappingSpec(
            name,
            destinations=tuple(spec.get("destinations") or [spec["destination"]]),
            paths=self._paths(spec["paths"]),
            destination_path=self._destination_path(
                ("spec", "destinationPath"), spec.get("destinationPath", "/")
            ),
            labels=tuple(sorted(labels.items())),
            symlinks=Symlinks(spec["symlinks"]) if "symlinks" in spec else _IMPLICIT.symlinks,
            lane=spec.get("lane"),
            priority=int(spec["priority"]) if "priority" in spec else None,
            send_rate_max=_rate(spec),
            overwrite=Overwrite(spec["overwrite"]) if "overwrite" in spec else None,
            preserve_mtime=preserve.get("mtime", True),
            preserve_executable=preserve.get("executable", True),
            trigger=build_trigger(spec["trigger"], self._fail) if "trigger" in spec else _IMPLICIT.trigger,
            prune=spec.get("prune", False),
            deletions=self._deletions(spec["deletions"]) if "deletions" in spec else _IMPLICIT.deletions,
            retry=self._retry(spec["retry"]) if "retry" in spec else _IMPLICIT.retry,
            suspend=spec.get("suspend", False),
            on_remove=OnRemove(spec["onRemove"]) if "onRemove" in spec else _IMPLICIT.on_remove,
            depends_on=tuple(spec.get("dependsOn", ())),
            hooks=_hooks(spec["hooks"]) if "hooks" in spec else _IMPLICIT.hooks,
            drift=_drift(spec["drift"]) if "drift" in spec else _IMPLICIT.drift,
            verify=_verify(spec["verify"]) if "verify" in spec else _IMPLICIT.verify,
            publish=publish,
            marker=marker,
            receipt=Receipt(spec["receipt"]) if "receipt" in spec else _IMPLICIT.receipt,
            release=build_release(spec, self._fail),
        )

    def _destination_path(self, where: Path, text: str) -> str:
        path, problem = destination_path(text)
        if problem:
            self._fail(where, problem)
        return path

    def _paths(self, paths: dict[str, Any]) -> tuple[PathMapping, ...]:
        built = []
        for key, value in paths.items():
            where: Path = ("spec", "paths", key)
            entry: dict[str, Any] = {"source": value} if isinstance(value, str) else value
            at_source = where if isinstance(value, str) else (*where, "source")
            built.append(
                PathMapping(
                    self._destination_path(where, key),
                    self._source(at_source, entry["source"]),
                    self._patterns((*where, "include"), entry.get("include", [])),
                    self._patterns((*where, "exclude"), entry.get("exclude", [])),
                )
            )
        return tuple(sorted(built, key=lambda entry: entry.destination))

    def _source(self, where: Path, text: str) -> str:
        if text == "~" or text.startswith("~"):
            self._fail(where, "`~` is not expanded; write the absolute path")
        elif not text.strip():
            self._fail(where, "must not be blank")
        elif not self._directory and not text.startswith("/"):
            self._fail(where, "must be an absolute path: specs from git have no directory of their own")
        elif "$" in text:
            self._warn(where, "variables are not expanded: `$` is taken as part of the path")
        # abspath also removes `..`: what a person means by it beside a symbolic link is what the text says
        return os.path.abspath(posixpath.join(self._directory, text))

    def _patterns(self, where: Path, patterns: list[str]) -> tuple[str, ...]:
        for index, pattern in enumerate(patterns):
            if problem := pattern_problem(pattern):
                self._fail((*where, index), problem)
        return tuple(patterns)

    def _deletions(self, given: dict[str, Any]) -> Deletions:
        known = Deletions()
        percent = parse_proportion(given["maxPercent"]) if "maxPercent" in given else known.max_percent
        return Deletions(
            int(given.get("maxCount", known.max_count)),
            percent,
            grace=_duration(given, "grace", known.grace),
            trash=given.get("trash", known.trash),
        )

    def _retry(self, given: dict[str, Any]) -> RetryPolicy:
        known = RetryPolicy()
        retry = RetryPolicy(
            _duration(given, "interval", known.interval), _duration(given, "maxInterval", known.max_interval)
        )
        if retry.interval > retry.max_interval:
            self._fail(("spec", "retry", "interval"), "must not be longer than `maxInterval`")
        return retry
