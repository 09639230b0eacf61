"""Describing a job. Pure: a job is a dictionary until it is submitted.

Names and defaults follow the FTS3 bindings. `None` means the service's own default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from agent.fts3.errors import ClientError
from agent.fts3.structures import Json, without_none

_CHECKSUM_MODES = ("source", "target", "both", "none")
_MAX_URL = 1100  # the service answers 500 to a longer one, and to a longer activity
_MAX_ACTIVITY = 255
# Job parameters that the service knows for files only: handed down to each file that has none of its own.
_FOR_FILES = {
    "checksum": "checksum",
    "filesize": "filesize",
    "activity": "activity",
    "scitag": "scitag",
    "file_metadata": "metadata",
    "staging_metadata": "staging_metadata",
    "archive_metadata": "archive_metadata",
}


class JobIdGenerator:
    """standard: a random id. deterministic: made from the VO and `sid`, so that the client can compute it."""

    standard = "standard"
    deterministic = "deterministic"


def new_transfer(
    source: str,
    destination: str,
    checksum: str | None = "ADLER32",
    filesize: int | None = None,
    activity: str | None = None,
    scitag: int | None = None,
    metadata: Any = None,
    staging_metadata: Json | None = None,
    archive_metadata: Json | None = None,
    selection_strategy: str | None = "auto",
    *,
    source_token: str | None = None,
    destination_token: str | None = None,
) -> Json:
    """One file to copy. checksum: `ALGORITHM:value`, `ALGORITHM` or None. filesize: bytes."""
    if scitag is not None and not 65 <= scitag <= 65535:
        raise ClientError(f"scitag {scitag} is not between 65 and 65535")
    transfer: Json = {"sources": [source], "destinations": [destination]}
    options = {
        "checksum": checksum,
        "filesize": filesize,
        "activity": activity,
        "scitag": scitag,
        "metadata": metadata,
        "staging_metadata": staging_metadata,
        "archive_metadata": archive_metadata,
        "selection_strategy": selection_strategy,
    }
    transfer.update({name: value for name, value in options.items() if value or value == 0})
    if source_token or destination_token:
        if not (source_token and destination_token):
            raise ClientError("a transfer needs the tokens of both source and destination, or of neither")
        transfer["source_tokens"] = [source_token]
        transfer["destination_tokens"] = [destination_token]
    return transfer


def add_alternative_source(transfer: Json, alt_source: str) -> Json:
    """Another place that has the same file, tried when the first fails. Returns the transfer."""
    transfer["sources"].append(alt_source)
    return transfer


def new_job(
    transfers: list[Json] | None = None,
    deletion: list[Any] | None = None,
    verify_checksum: bool | str = False,
    reuse: bool | None = None,
    overwrite: bool = False,
    overwrite_on_retry: bool = False,
    overwrite_when_only_on_disk: bool = False,
    overwrite_hop: bool = False,
    multihop: bool = False,
    source_spacetoken: str | None = None,
    destination_spacetoken: str | None = None,
    bring_online: int | None = None,
    dst_file_report: bool = False,
    archive_timeout: int | None = None,
    copy_pin_lifetime: int | None = None,
    retry: int = -1,
    retry_delay: int = 0,
    priority: int | None = None,
    metadata: Any = None,
    strict_copy: bool = False,
    disable_cleanup: bool = False,
    max_time_in_queue: int | str | None = None,
    timeout: int | None = None,
    id_generator: str = JobIdGenerator.standard,
    sid: str | None = None,
    s3alternate: bool = False,
    nostreams: int = 1,
    buffer_size: int | None = None,
    unmanaged_tokens: bool = False,
    *,
    spacetoken: str | None = None,
    ipv4: bool | None = None,
    ipv6: bool | None = None,
    credential: str | None = None,
    target_qos: str | None = None,
) -> Json:
    """A job of transfers.

    verify_checksum: True = both, or one of source, target, both, none. False really means none here: sent
    as it is, the service would read it as `target` for files that name a checksum.
    retry: tries beyond the first; -1 none, 0 the service's setting. retry_delay: seconds.
    max_time_in_queue: whole hours, or text such as `30m`. timeout, bring_online, archive_timeout,
    copy_pin_lifetime: seconds. buffer_size: bytes. priority: 1 to 5, 5 first.
    """
    if transfers is None and deletion is None:
        raise ClientError("a job needs transfers")
    params = {
        "verify_checksum": _checksum_mode(verify_checksum),
        "reuse": reuse,
        "overwrite": overwrite,
        "overwrite_on_retry": overwrite_on_retry,
        "overwrite_when_only_on_disk": overwrite_when_only_on_disk,
        "overwrite_hop": overwrite_hop,
        "multihop": multihop,
        "source_spacetoken": source_spacetoken,
        "destination_spacetoken": destination_spacetoken or spacetoken,
        "bring_online": bring_online,
        "dst_file_report": dst_file_report,
        "archive_timeout": archive_timeout,
        "copy_pin_lifetime": copy_pin_lifetime,
        "retry": retry,
        "retry_delay": retry_delay,
        "priority": priority,
        "job_metadata": metadata,
        "strict_copy": strict_copy,
        "disable_cleanup": disable_cleanup,
        "max_time_in_queue": max_time_in_queue,
        "timeout": timeout,
        "id_generator": id_generator,
        "sid": sid,
        "s3alternate": s3alternate,
        "nostreams": nostreams,
        "buffer_size": buffer_size,
        "unmanaged_tokens": unmanaged_tokens,
        "ipv4": ipv4,
        "ipv6": ipv6,
        "credential": credential,
        "target_qos": target_qos,
    }
    _check_overwrite(params)
    job: Json = {"files": transfers or [], "params": params}
    if deletion:
        job["delete"] = deletion
    return job


def _checksum_mode(wanted: bool | str) -> bool | str:
    if isinstance(wanted, str) and wanted not in _CHECKSUM_MODES:
        raise ClientError(f"verify_checksum is one of {', '.join(_CHECKSUM_MODES)}, True or False")
    return wanted or "none"


def _check_overwrite(params: Json) -> None:
    flags = {name for name, value in params.items() if name.startswith("overwrite") and value}
    if len(flags) > 1 and flags != {"overwrite_hop", "overwrite_when_only_on_disk"}:
        raise ClientError("of the overwrite flags only hop and when_only_on_disk go together")
    if "overwrite_when_only_on_disk" in flags and not (params["archive_timeout"] or 0) > 0:
        raise ClientError("overwrite_when_only_on_disk needs an archive_timeout")


def new_staging_job(
    files: Iterable[str | Json],
    bring_online: int | None = None,
    copy_pin_lifetime: int | None = None,
    source_spacetoken: str | None = None,
    destination_spacetoken: str | None = None,
    metadata: Any = None,
    priority: int | None = None,
    id_generator: str = JobIdGenerator.standard,
    sid: str | None = None,
) -> Json:
    """A job that brings files from tape. files: URLs, or objects with surl, metadata, staging_metadata."""
    if not (bring_online or 0) > 0 and not (copy_pin_lifetime or 0) > 0:
        raise ClientError("a staging job needs a bring_online or copy_pin_lifetime of some seconds")
    transfers = []
    for one in files:
        entry: Json = {"surl": one} if isinstance(one, str) else one
        surl, about, staging = entry["surl"], entry.get("metadata"), entry.get("staging_metadata")
        transfers.append(new_transfer(surl, surl, metadata=about, staging_metadata=staging))
    params = {
        "source_spacetoken": source_spacetoken,
        "destination_spacetoken": destination_spacetoken,
        "bring_online": bring_online,
        "copy_pin_lifetime": copy_pin_lifetime,
        "job_metadata": metadata,
        "priority": priority,
        "id_generator": id_generator,
        "sid": sid,
    }
    return {"files": transfers, "params": params}


def new_delete_job(
    files: list[Any],
    spacetoken: str | None = None,
    metadata: Any = None,
    priority: int | None = None,
    id_generator: str = JobIdGenerator.standard,
    sid: str | None = None,
) -> Json:
    """A job that deletes. Services of today answer it with MethodNotAllowed; `Storage.unlink` still works."""
    params = {
        "source_spacetoken": spacetoken,
        "job_metadata": metadata,
        "priority": priority,
        "id_generator": id_generator,
        "sid": sid,
    }
    return {"delete": files, "params": params}


def submission(job: Mapping[str, Any]) -> Json:
    """The body that is sent for a job; the job itself stays as it is.

    ClientError for what the service would fail at instead of refusing it.
    """
    params = without_none(job.get("params") or {})
    handed_down = {name: params.pop(key) for key, name in _FOR_FILES.items() if key in params}
    files = [{**handed_down, **one} for one in job.get("files") or []]
    for one in files:
        _check(one)
    body: Json = {"params": params}
    if files:
        body["files"] = files
    if job.get("delete"):
        body["delete"] = job["delete"]
    return body


def _check(file: Json) -> None:
    for url in [*file.get("sources", []), *file.get("destinations", [])]:
        parts = urlsplit(url)
        if parts.scheme == "file":
            raise ClientError(f"{url[:200]!r} is local; the service moves only what a storage serves")
        if not parts.scheme or not parts.hostname or not parts.path:
            raise ClientError(f"{url[:200]!r} is no full URL; the service needs scheme, host and path")
        if len(url) > _MAX_URL:
            raise ClientError(f"{url[:80]!r}… has {len(url)} characters, {_MAX_URL} are allowed")
    if len(file.get("activity") or "") > _MAX_ACTIVITY:
        raise ClientError(f"an activity has at most {_MAX_ACTIVITY} characters")


def storage_element(url: str) -> str:
    """`scheme://host`, which is what queues, limits and bans go by: no port, no path."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.hostname:
        raise ClientError(f"{url[:200]!r} names no storage; give scheme://host")
    return f"{parts.scheme}://{parts.hostname}"
