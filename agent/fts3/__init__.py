"""A client for the REST service of CERN's FTS3.

from agent.fts3 import Client, Context, new_job, new_transfer

with Client(Context("https://fts3.example.org:8446")) as fts3:
    done = fts3.jobs.submit(new_job([new_transfer(source, destination, checksum=None)]))
    print(fts3.jobs.job(done.job_id).state)

`agent.fts3.easy` has the functions of the FTS3 Easy bindings.
"""

from __future__ import annotations

from agent.fts3.client import Client
from agent.fts3.context import Context
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
from agent.fts3.ids import deterministic_job_id
from agent.fts3.jobs import CanceledFile, Submitted
from agent.fts3.retrying import Retries, Runtime
from agent.fts3.states import FileState, JobState, Reason, Side
from agent.fts3.structures import EndpointInfo, Job, Statuses, TransferFile, WhoAmI
from agent.fts3.submission import (
    JobIdGenerator,
    add_alternative_source,
    new_delete_job,
    new_job,
    new_staging_job,
    new_transfer,
    storage_element,
)
from agent.fts3.transport import Limits

__all__ = [
    "BadCredential",
    "BadEndpoint",
    "CanceledFile",
    "Client",
    "ClientError",
    "Conflict",
    "Context",
    "EndpointInfo",
    "FTS3ClientException",
    "FailedDependency",
    "FileState",
    "Job",
    "JobIdGenerator",
    "JobState",
    "Kind",
    "Limits",
    "MethodNotAllowed",
    "NeedDelegation",
    "NoAnswer",
    "NotFound",
    "PartialAnswer",
    "Reason",
    "Retries",
    "Runtime",
    "ServerError",
    "Side",
    "Statuses",
    "Submitted",
    "TransferFile",
    "TryAgain",
    "Unauthorized",
    "WhoAmI",
    "add_alternative_source",
    "deterministic_job_id",
    "new_delete_job",
    "new_job",
    "new_staging_job",
    "new_transfer",
    "storage_element",
]
