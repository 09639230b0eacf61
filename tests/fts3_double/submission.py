"""From a submitted body to the rows of a job and its files: defaults, checks, the service's own quirks."""

from __future__ import annotations

import itertools
import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import ParseResult, urlparse

from .identity import BASE_ID, User, short_hash
from .problems import ServiceError, bad_request
from .settings import stamp

Row = dict[str, Any]
DEFAULTS: Row = {
    "bring_online": -1,
    "archive_timeout": -1,
    "verify_checksum": False,
    "copy_pin_lifetime": -1,
    "job_metadata": None,
    "overwrite": False,
    "overwrite_on_retry": False,
    "overwrite_when_only_on_disk": False,
    "overwrite_hop": False,
    "dst_file_report": False,
    "reuse": None,
    "multihop": False,
    "retry": 0,
    "retry_delay": 0,
    "priority": 3,
    "max_time_in_queue": 0,
    "s3alternate": False,
}
JOB_METADATA_LIMIT, FILE_METADATA_LIMIT, TAPE_METADATA_LIMIT = 2048, 4096, 1024
URL_LIMIT, ACTIVITY_LIMIT = 1100, 255
STRATEGIES = (
    "orderly queue auto success throughput file-throughput pending-data waiting-time waiting-time-with-error"
    " duration"
).split()
SUFFIXES = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass
class Submission:
    """The rows to insert, and the tokens that the files name."""

    job: Row
    files: list[Row]
    tokens: dict[str, str] = field(default_factory=dict)


def build(
    body: Row, user: User, now: float, host: str, queue_length: Callable[[str, str], int]
) -> Submission:
    """Check a submission as the service does. `queue_length(source_se, dest_se)` ranks replicas."""
    try:
        return _build(body, user, now, host, queue_length)
    except ValueError as error:
        raise bad_request(f"Invalid value within the request: {error}") from None
    except TypeError as error:
        raise bad_request(f"Malformed request: {error}") from None
    except KeyError as error:
        raise bad_request(f"Missing parameter: {error}") from None


def _build(
    body: Row, user: User, now: float, host: str, queue_length: Callable[[str, str], int]
) -> Submission:
    params = _params(body.get("params", {}), user)
    entries = body.get("files")
    if body.get("delete") is not None:
        raise ServiceError(405, "Deletion jobs are no longer supported by FTS")
    if entries is None:
        raise bad_request("No transfers operations specified")
    job = _job(params, user, now, host)
    job["overwrite_flag"] = _overwrite_flag(params, job["job_type"], entries)
    made = Submission(job, [])
    shared = _hash() if job["job_type"] in "HY" or _staged(params) else None
    for index, entry in enumerate(entries):
        made.files += _files(entry, index, params, job, user, shared, made.tokens)
    if not made.files:
        raise bad_request("No valid pairs available")
    job["verify_checksum"] = _checksum_mode(params["verify_checksum"], made.files)
    _set_storages(job, made.files)
    _start_states(job, made.files, params, queue_length)
    return made


def _params(given: Row, user: User) -> Row:
    params = {**DEFAULTS, **given}
    params.update({k: DEFAULTS[k] for k, v in params.items() if v is None and k in DEFAULTS})
    metadata = params["job_metadata"]
    if metadata is not None:
        metadata = checked_metadata(metadata, JOB_METADATA_LIMIT)
    params["job_metadata"] = {**(metadata or {}), "auth_method": user.method}
    return params


def _job(params: Row, user: User, now: float, host: str) -> Row:
    kind = "H" if params["multihop"] else "Y" if flag(params["reuse"]) else "N"
    state = "STAGING" if _staged(params) else "QOS_TRANSITION" if params.get("target_qos") else "SUBMITTED"
    in_queue = seconds_of(params.get("max_time_in_queue"))
    return {
        "job_id": job_id(params, user),
        "job_state": state,
        "job_type": kind,
        "retry": int(params["retry"]),
        "retry_delay": int(params["retry_delay"]),
        "submit_host": host,
        "user_dn": user.user_dn,
        "vo_name": user.vos[0],
        "cred_id": user.delegation_id,
        "submit_time": stamp(now),
        "priority": max(min(int(params["priority"]), 5), 1),
        "dst_file_report": flag(params["dst_file_report"]),
        "copy_pin_lifetime": whole(params["copy_pin_lifetime"]),
        "bring_online": whole(params["bring_online"]),
        "archive_timeout": whole(params["archive_timeout"]),
        "job_metadata": params["job_metadata"],
        "internal_job_params": _internal(params),
        "max_time_in_queue": None if in_queue is None else int(now + in_queue),
        "target_qos": params.get("target_qos"),
        "cancel_job": 0,
    }


def job_id(params: Row, user: User) -> str:
    if params.get("id_generator", "standard") != "deterministic":
        return str(uuid.uuid1())
    if params.get("sid") is None:
        raise bad_request("Need sid for deterministic job id generation")
    return str(uuid.uuid5(uuid.uuid5(BASE_ID, user.vos[0]), str(params["sid"])))


def _internal(params: Row) -> str | None:
    parts = [
        f"{shown}:{int(params[name])}"
        for name, shown in (("nostreams", "nostreams"), ("timeout", "timeout"), ("buffer_size", "buffersize"))
        if params.get(name)
    ]
    for name, shown in (("strict_copy", "strict"), ("disable_cleanup", "disable-cleanup")):
        parts += [shown] if params.get(name) else []
    parts += ["ipv4"] if params.get("ipv4") else ["ipv6"] if params.get("ipv6") else []
    parts += ["s3alternate"] if params.get("s3alternate") else []
    return ",".join(parts) or None


def _overwrite_flag(params: Row, job_type: str, entries: list[Row]) -> str | None:
    """Y always, R on retries, M the hops before the last, D when only on disk, Q both of these."""
    hop, disk = params["overwrite_hop"], params["overwrite_when_only_on_disk"]
    names = ("overwrite", "overwrite_on_retry", "overwrite_when_only_on_disk", "overwrite_hop")
    count = sum(flag(params[name]) for name in names)
    if count > 1 and not (count == 2 and hop and disk):
        raise bad_request("Incompatible overwrite flags used at the same time")
    if disk and whole(params["archive_timeout"]) <= 0:
        raise bad_request("'overwrite-when-only-on-disk' requires 'archive-timeout' to be set")
    if params["overwrite"]:
        return "Y"
    if params["overwrite_on_retry"]:
        return "R"
    if hop and job_type != "H":
        raise bad_request("'overwrite-hop' requires multihop job submission")
    if disk:
        checked = entries[-1:] if job_type == "H" else entries
        urls = [url for entry in checked for url in entry["destinations"]]
        if not all(url.startswith(("https://", "davs://")) for url in urls):
            raise bad_request(
                "'overwrite-when-only-on-disk' requires destination to be HTTPs endpoint"
                " (Tape REST API required)"
            )
    return {(True, True): "Q", (True, False): "M", (False, True): "D"}.get((bool(hop), bool(disk)))


def _files(
    entry: Row, index: int, params: Row, job: Row, user: User, shared: int | None, tokens: dict[str, str]
) -> list[Row]:
    """Every source of an entry paired with every destination."""
    sources, destinations = entry["sources"], entry["destinations"]
    replicas = len(sources) > 1
    if replicas and shared is None:
        shared = _hash()
    common = _common(entry, params, job, user)
    if replicas or params["multihop"]:
        common["file_state"] = "NOT_USED"
    source_tokens, destination_tokens = _tokens_of(entry, user)
    rows = []
    for source, source_token in itertools.zip_longest(sources, source_tokens):
        source_url, source_se = _checked_url(source)
        for destination, destination_token in itertools.zip_longest(destinations, destination_tokens):
            url, dest_se = _checked_url(destination)
            row = dict(common)
            row["file_index"] = index
            row["source_surl"], row["source_se"] = source_url, source_se
            row["dest_surl"], row["dest_se"] = url, dest_se
            row["hashed_id"] = _hash() if shared is None else shared
            row["src_token_id"] = _remember(source_token, tokens)
            row["dst_token_id"] = _remember(destination_token, tokens)
            rows.append(row)
    return rows


def _common(entry: Row, params: Row, job: Row, user: User) -> Row:
    tape = {"limit": TAPE_METADATA_LIMIT, "only_object": True}
    activity = entry.get("activity") or "default"
    if len(activity) > ACTIVITY_LIMIT:
        raise RuntimeError("the column holds no more")
    return {
        "job_id": job["job_id"],
        "file_state": job["job_state"],
        "file_state_initial": "",
        "vo_name": user.vos[0],
        "priority": job["priority"],
        "retry": 0,
        "user_filesize": int(float(entry.get("filesize") or 0)),
        "selection_strategy": entry.get("selection_strategy", "auto"),
        "checksum": entry.get("checksum"),
        "file_metadata": _optional(entry.get("metadata"), limit=FILE_METADATA_LIMIT),
        "staging_metadata": _optional(entry.get("staging_metadata"), name="Staging metadata", **tape),
        "archive_metadata": _optional(entry.get("archive_metadata"), name="Archive metadata", **tape),
        "activity": activity,
        "scitag": _scitag(entry.get("scitag")),
    }


def _tokens_of(entry: Row, user: User) -> tuple[list[str], list[str]]:
    """Given tokens, as many as URLs; for a token user who gives none, his own for every URL."""
    sources, destinations = entry.get("source_tokens", []), entry.get("destination_tokens", [])
    if user.method == "oauth2" and not sources and not destinations:
        return [user.token] * len(entry["sources"]), [user.token] * len(entry["destinations"])
    if bool(sources) != bool(destinations):
        raise bad_request("Both source_tokens and destination_tokens are required if one of them is present.")
    if sources and len(sources) != len(entry["sources"]):
        raise bad_request("Length of source_tokens should be equal to the length of sources.")
    if destinations and len(destinations) != len(entry["destinations"]):
        raise bad_request("Length of destination_tokens should be equal to the length of destinations.")
    return sources, destinations


def _remember(token: str | None, tokens: dict[str, str]) -> str | None:
    if token is None:
        return None
    name = short_hash(token)
    tokens[name] = token
    return name


def _checked_url(text: str) -> tuple[str, str]:
    """The URL as stored and its storage element, `scheme://host` without port."""
    url = urlparse(text.strip())
    whole_url = url.geturl()
    _check_parts(url, whole_url)
    if len(whole_url) > URL_LIMIT:
        raise RuntimeError("the column holds no more")
    return whole_url, f"{url.scheme}://{url.hostname}"


def _check_parts(url: ParseResult, text: str) -> None:
    if not url.scheme:
        raise ValueError(f"Missing scheme ({text})")
    if url.scheme == "file":
        raise ValueError(f"Can not transfer local files ({text})")
    if not url.path or (url.path == "/" and not url.query):
        raise ValueError(f"Missing path ({text})")
    if not url.hostname:
        raise ValueError(f"Missing host ({text})")


def _checksum_mode(mode: Any, files: list[Row]) -> str:
    """One letter. Without a mode, any checksum makes it `target`: a bare algorithm name does so too."""
    given = False
    for row in files:
        if row["checksum"] is None:
            row["checksum"] = "ADLER32"
        else:
            given = len(row["checksum"]) > 0
    if isinstance(mode, bool):
        mode = "both" if mode else "target" if given else "none"
    if mode == "":
        raise RuntimeError("string index out of range")
    return str(mode[0])


def _set_storages(job: Row, files: list[Row]) -> None:
    if job["job_type"] == "H":
        job["source_se"], job["dest_se"] = files[0]["source_se"], files[-1]["dest_se"]
        return
    sources, destinations = {f["source_se"] for f in files}, {f["dest_se"] for f in files}
    job["source_se"] = files[0]["source_se"] if len(sources) == 1 else None
    job["dest_se"] = files[0]["dest_se"] if len(destinations) == 1 else None


def _start_states(job: Row, files: list[Row], params: Row, queue_length: Callable[[str, str], int]) -> None:
    """Which files start: all, the first hop, or the best replica."""
    unique = len({f["file_index"] for f in files})
    entry_state = "STAGING" if _staged(params) else "SUBMITTED"
    if unique != len(files):
        if job["job_type"] in "HY":
            raise bad_request(
                "Can not request multiple replica job together with multihop or session reuse"
                " at the same time"
            )
        if unique > 1:
            raise bad_request("Multiple replica jobs must only have one unique file")
        job["job_type"] = "R"
        best_replica(files, queue_length)["file_state"] = entry_state
    elif job["job_type"] == "H":
        files[0]["file_state"] = entry_state
    if job["job_type"] == "Y" and not (job["source_se"] and job["dest_se"]):
        raise bad_request("Reuse jobs must only contain transfers for the same source ad destination storage")


def best_replica(files: list[Row], queue_length: Callable[[str, str], int]) -> Row:
    """By queue the source with the fewest waiting; the ranks by history have none here, so the first."""
    strategy = files[0]["selection_strategy"] or "auto"
    if strategy not in STRATEGIES:
        raise bad_request(f"{strategy} algorithm is not supported by Scheduler")
    if strategy in ("queue", "auto"):
        return min(files, key=lambda f: queue_length(f["source_se"], f["dest_se"]))
    return files[0]


def checked_metadata(data: Any, limit: int, *, only_object: bool = False, name: str = "Metadata") -> Row:
    if len(json.dumps(data)) > limit:
        raise ValueError(f"Job Submission Refused, metadata exceeds size limit of {limit}")
    if isinstance(data, dict):
        return data
    if not isinstance(data, str):
        raise ValueError("Metadata neither JSON nor String")
    if only_object:
        raise ValueError(f"{name} not in JSON format")
    return {"label": data}


def _optional(data: Any, **more: Any) -> Row | None:
    return None if data is None else checked_metadata(data, **more)


def _scitag(tag: Any) -> int | None:
    if tag is None:
        return None
    if not isinstance(tag, int):
        raise ValueError(f"Invalid SciTag value: {tag}. Must be an integer in the [65, 65535] range!")
    if not 65 <= tag <= 65535:
        raise ValueError(f"Invalid SciTag value: {tag} (not in [65, 65535] range)")
    return tag


def flag(value: Any) -> bool:
    """`Y…` is true, any other text is not; the rest as Python has it."""
    return value[:1].upper() == "Y" if isinstance(value, str) else bool(value)


def whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return -1


def seconds_of(value: Any) -> int | None:
    """Whole numbers are hours; texts carry a suffix; all else means none."""
    if isinstance(value, int) and value:
        return value * 3600
    if not isinstance(value, str) or value[-1:].lower() not in SUFFIXES:
        return None
    try:
        return int(value[:-1]) * SUFFIXES[value[-1].lower()]
    except ValueError:
        return None


def _staged(params: Row) -> bool:
    return whole(params["copy_pin_lifetime"]) > 0 or whole(params["bring_online"]) > 0


def _hash() -> int:
    return random.randrange(1 << 16)
