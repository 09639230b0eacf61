"""The FTS3 Easy bindings: a script moves over by changing its import.

import agent.fts3.easy as fts3

context = fts3.Context("https://fts3.example.org:8446")
job = fts3.new_job([fts3.new_transfer(source, destination)], verify_checksum=True)
job_id = fts3.submit(context, job)

What comes back is the JSON that the service sent. docs/fts3-api.md tells where this differs on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from agent.fts3 import context as _core
from agent.fts3 import errors as exceptions
from agent.fts3.bans import Bans
from agent.fts3.delegation import LIFETIME, RENEW_BEFORE, Delegation
from agent.fts3.errors import (
    BadCredential,
    BadEndpoint,
    ClientError,
    Conflict,
    FailedDependency,
    FTS3ClientException,
    Kind,
    MethodNotAllowed,
    NeedDelegation,
    NoAnswer,
    NotFound,
    PartialAnswer,
    ServerError,
    TryAgain,
    Unauthorized,
)
from agent.fts3.ids import job_path_part
from agent.fts3.jobs import STATUS_FIELDS, Jobs
from agent.fts3.structures import Json
from agent.fts3.submission import (
    JobIdGenerator,
    add_alternative_source,
    new_delete_job,
    new_job,
    new_staging_job,
    new_transfer,
)

__all__ = [
    "BadCredential",
    "BadEndpoint",
    "ClientError",
    "Conflict",
    "Context",
    "FTS3ClientException",
    "FailedDependency",
    "JobIdGenerator",
    "Kind",
    "MethodNotAllowed",
    "NeedDelegation",
    "NoAnswer",
    "NotFound",
    "PartialAnswer",
    "ServerError",
    "TryAgain",
    "Unauthorized",
    "add_alternative_source",
    "ban_dn",
    "ban_se",
    "cancel",
    "cancel_all",
    "delegate",
    "exceptions",
    "get_job_status",
    "get_jobs_statuses",
    "list_jobs",
    "new_delete_job",
    "new_job",
    "new_staging_job",
    "new_transfer",
    "submit",
    "unban_dn",
    "unban_se",
    "whoami",
]


class Context(_core.Context):
    """Asks the endpoint at once: BadEndpoint when it is no FTS3 REST service."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.get_endpoint_info()


def whoami(context: _core.Context) -> Json:
    """How the service sees us."""
    return Delegation(context).whoami().raw


def list_jobs(
    context: _core.Context,
    user_dn: str | None = None,
    vo: str | None = None,
    source_se: str | None = None,
    dest_se: str | None = None,
    delegation_id: str | None = None,
    state_in: Iterable[str] | None = None,
) -> list[Json]:
    """Unfinished jobs, or those in the states asked for."""
    found = Jobs(context).list_jobs(user_dn, vo, source_se, dest_se, delegation_id, state_in)
    return [job.raw for job in found]


def get_job_status(context: _core.Context, job_id: str, list_files: bool = False) -> Json:
    """One job; with `list_files` also its `files` and `dm`. NotFound names the id as `resource`."""
    jobs = Jobs(context)
    try:
        found = jobs.job(job_id).raw
        if list_files:
            files = [one.raw for one in jobs.files(job_id)]
            found = {**found, "files": files, "dm": jobs.deletions(job_id)}
    except NotFound as error:
        error.resource = job_id
        raise
    return found


def get_jobs_statuses(context: _core.Context, job_ids: Sequence[str], list_files: bool = False) -> list[Json]:
    """The jobs in the order asked for; with `list_files` each with a short form of its files.

    PartialAnswer when some are unknown or refused (it has the others as `.entries`), NotFound when all are
    unknown.
    """
    if isinstance(job_ids, str):
        raise ClientError("job_ids is a list of ids")
    found = Jobs(context).statuses(job_ids, STATUS_FIELDS if list_files else ())
    entries = [found.jobs[one].raw for one in dict.fromkeys(job_ids) if one in found.jobs]
    if not found.missing and not found.refused:
        return entries
    unknown = [f"no job {one}" for one in found.missing]
    if not entries and not found.refused:
        raise NotFound("; ".join(unknown), resource=",".join(job_ids), kind=Kind.LOST, status=404)
    reasons = unknown + [f"{one}: {why}" for one, why in found.refused.items()]
    raise PartialAnswer("; ".join(reasons), entries, found.missing, found.refused)


def delegate(
    context: _core.Context,
    lifetime: timedelta = LIFETIME,
    force: bool = False,
    delegate_when_lifetime_lt: timedelta = RENEW_BEFORE,
) -> str:
    """See to it that the service holds a delegation; returns its id, "" with a token."""
    return Delegation(context).delegate(lifetime, force, delegate_when_lifetime_lt)


def submit(
    context: _core.Context,
    job: Json,
    delegation_lifetime: timedelta = LIFETIME,
    force_delegation: bool = False,
    delegate_when_lifetime_lt: timedelta = RENEW_BEFORE,
) -> str:
    """Delegate if needed, and submit; returns the job id."""
    done = Jobs(context).submit(job, delegation_lifetime, force_delegation, delegate_when_lifetime_lt)
    return done.job_id


def cancel(context: _core.Context, job_id: str, file_ids: Iterable[int] | None = None) -> Any:
    """End a job; returns it. With `file_ids` only these files; returns the state of each (of the one)."""
    jobs = Jobs(context)
    if file_ids is not None:
        said = [one.said for one in jobs.cancel_files(job_id, file_ids)]
        return said[0] if len(said) == 1 else said
    found = jobs.cancel([job_path_part(job_id)])
    if found.missing:
        raise NotFound(f"no job {job_id}", resource=job_id, kind=Kind.LOST, status=404)
    if found.refused:
        raise Unauthorized(found.refused[job_id], status=403)
    return found.jobs[job_id].raw


def cancel_all(context: _core.Context, vo_name: str | None = None) -> Json:
    """End every job of a VO, or of everybody; for root only. Returns how many."""
    return Jobs(context).cancel_all(vo_name)


def ban_se(
    context: _core.Context,
    storage: str,
    status: str = "cancel",
    timeout: int = 0,
    allow_submit: bool = False,
) -> list[str]:
    """Ban a storage; returns the ids of the jobs hit."""
    return Bans(context).ban_se(storage, status, timeout, allow_submit)


def unban_se(context: _core.Context, storage: str) -> None:
    Bans(context).unban_se(storage)


def ban_dn(context: _core.Context, dn: str) -> list[str]:
    """Ban a user; returns the ids of the jobs hit."""
    return Bans(context).ban_dn(dn)


def unban_dn(context: _core.Context, dn: str) -> None:
    Bans(context).unban_dn(dn)
