"""Job ids: checked before they become part of an address, and computed before they exist."""

from __future__ import annotations

import re
import uuid
from urllib.parse import quote

from agent.fts3.errors import ClientError

_JOB_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")
# `DELETE /jobs/all` ends the jobs of everybody.
_NOT_AN_ID = frozenset({"all", "vo"})


def job_path_part(job_id: object) -> str:
    """The id, as it goes into a path. ClientError for anything that is no job id."""
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id) or job_id.lower() in _NOT_AN_ID:
        raise ClientError(f"{str(job_id)[:80]!r} is not a job id; give one as returned by submit()")
    return job_id


def path_part(name: str) -> str:
    """A name of anything else, escaped so that it stays one part of the path."""
    if name in ("", ".", ".."):
        raise ClientError(f"{name!r} cannot be a name")
    return quote(name, safe="")


def deterministic_job_id(base_id: str, vo: str, sid: str) -> str:
    """The id that the server gives to a job with `id_generator: deterministic`. base_id: from whoami."""
    try:
        base = uuid.UUID(base_id)
    except ValueError:
        raise ClientError(
            f"the service's base id {base_id[:80]!r} is no UUID; use the standard id generator"
        ) from None
    return str(uuid.uuid5(uuid.uuid5(base, vo), sid))
