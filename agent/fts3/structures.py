"""What the service answers, typed. Reading is tolerant: a missing or odd field is None or empty.

Each structure keeps the JSON it was read from as `raw`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.fts3.errors import ServerError
from agent.fts3.states import FileState, JobState, Reason

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Version:
    major: int
    minor: int
    patch: int

    @classmethod
    def read(cls, value: object) -> Version | None:
        if not isinstance(value, dict):
            return None
        return cls(*(_int(value.get(part)) or 0 for part in ("major", "minor", "patch")))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True)
class EndpointInfo:
    """core: None where the engine runs on other hosts than the REST service."""

    url: str
    api: Version | None
    core: Version | None
    schema: Version | None
    delegation: Version | None
    raw: Json = field(repr=False)

    @classmethod
    def read(cls, raw: Json) -> EndpointInfo:
        api, core, schema, delegation = (
            Version.read(raw.get(part)) for part in ("api", "core", "schema", "delegation")
        )
        return cls(_text(raw.get("url")), api, core, schema, delegation, raw)


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """How the service sees us. level: right -> "all", "vo" or ""."""

    user_dn: str
    delegation_id: str
    method: str  # certificate | oauth2
    vos: tuple[str, ...]
    roles: tuple[str, ...]
    level: dict[str, str]
    base_id: str
    is_root: bool
    raw: Json = field(repr=False)

    @property
    def anonymous(self) -> bool:
        """A token that the service does not accept is no error there: its bearer is nobody."""
        return self.user_dn in ("", "anon")

    @classmethod
    def read(cls, raw: object) -> WhoAmI:
        """ServerError when it is no object at all."""
        if not isinstance(raw, dict):
            raise ServerError("the service did not answer with an object about us")
        level = raw.get("level")
        return cls(
            user_dn=_text(raw.get("user_dn")),
            delegation_id=_text(raw.get("delegation_id")),
            method=_text(raw.get("method")),
            vos=_texts(raw.get("vos")),
            roles=_texts(raw.get("roles")),
            level={str(k): _text(v) for k, v in level.items()} if isinstance(level, dict) else {},
            base_id=_text(raw.get("base_id")),
            is_root=raw.get("is_root") is True,
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class TransferFile:
    """One source and one destination. Fields that were not asked for are None or empty.

    throughput: MiB/s. filesize: bytes, None until the service has looked. user_filesize: as submitted.
    """

    job_id: str
    file_id: int | None
    file_index: int | None
    state: FileState
    source_surl: str
    dest_surl: str
    reason: str
    start_time: datetime | None
    finish_time: datetime | None
    filesize: int | None
    user_filesize: int | None
    checksum: str
    throughput: float | None
    retry: int
    priority: int | None
    activity: str
    metadata: Any
    raw: Json = field(repr=False)

    @property
    def why(self) -> Reason:
        return Reason.read(self.reason)

    @classmethod
    def read(cls, raw: Json) -> TransferFile:
        return cls(
            job_id=_text(raw.get("job_id")),
            file_id=_int(raw.get("file_id")),
            file_index=_int(raw.get("file_index")),
            state=FileState.read(raw.get("file_state")),
            source_surl=_text(raw.get("source_surl")),
            dest_surl=_text(raw.get("dest_surl")),
            reason=_text(raw.get("reason")),
            start_time=parse_time(raw.get("start_time")),
            finish_time=parse_time(raw.get("finish_time")),
            filesize=_int(raw.get("filesize")),
            user_filesize=_int(raw.get("user_filesize")),
            checksum=_text(raw.get("checksum")),
            throughput=_float(raw.get("throughput")),
            retry=_int(raw.get("retry")) or 0,
            priority=_int(raw.get("priority")),
            activity=_text(raw.get("activity")),
            metadata=raw.get("file_metadata"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """files: None when they were not asked for. source_se, dest_se: empty when the files' differ."""

    job_id: str
    state: JobState
    job_type: str  # N, Y reuse, H multihop, R several replicas
    user_dn: str
    vo_name: str
    submit_time: datetime | None
    finished: datetime | None
    reason: str
    priority: int | None
    source_se: str
    dest_se: str
    metadata: Any
    files: tuple[TransferFile, ...] | None
    unchanged: bool  # a cancel or change that came when the job was over already
    raw: Json = field(repr=False)

    @classmethod
    def read(cls, raw: object) -> Job:
        """ServerError when it is no job at all."""
        if not isinstance(raw, dict) or not _text(raw.get("job_id")):
            raise ServerError("the service answered with something that is no job")
        files = raw.get("files")
        return cls(
            job_id=raw["job_id"],
            state=JobState.read(raw.get("job_state")),
            job_type=_text(raw.get("job_type")),
            user_dn=_text(raw.get("user_dn")),
            vo_name=_text(raw.get("vo_name")),
            submit_time=parse_time(raw.get("submit_time")),
            finished=parse_time(raw.get("job_finished")),
            reason=_text(raw.get("reason")),
            priority=_int(raw.get("priority")),
            source_se=_text(raw.get("source_se")),
            dest_se=_text(raw.get("dest_se")),
            metadata=raw.get("job_metadata"),
            files=read_files(files) if isinstance(files, list) else None,
            unchanged=_text(raw.get("http_status")).startswith("304"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Statuses:
    """What became of a request about several jobs.

    missing: ids that the service does not know (any more): lost, which is not failed.
    refused: id -> why, of the others that it would not answer about.
    """

    jobs: dict[str, Job]
    missing: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retry:
    """One try of a file that failed and was followed by another."""

    attempt: int
    time: datetime | None
    reason: str
    transfer_host: str

    @classmethod
    def read(cls, raw: Json) -> Retry:
        return cls(
            _int(raw.get("attempt")) or 0,
            parse_time(raw.get("datetime")),
            _text(raw.get("reason")),
            _text(raw.get("transfer_host")),
        )


def read_files(entries: object) -> tuple[TransferFile, ...]:
    return tuple(TransferFile.read(one) for one in objects(entries))


def objects(value: object) -> list[Json]:
    """A JSON array of objects. ServerError for anything else."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ServerError("the service answered with something that is no list of objects")
    return value


def parse_time(value: object) -> datetime | None:
    """`2026-11-22T11:58:21`, which is UTC without saying so."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def without_none(values: Mapping[str, Any]) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _int(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) < 2**63 else None


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
