"""The states of files and jobs, and how a job's state follows from its files'. Pure."""

from __future__ import annotations

from collections.abc import Mapping

FILE_ACTIVE = (
    "STAGING",
    "STARTED",
    "SUBMITTED",
    "READY",
    "ACTIVE",
    "ARCHIVING",
    "QOS_TRANSITION",
    "QOS_REQUEST_SUBMITTED",
    "FORCE_START",
)
FILE_TERMINAL = ("FINISHED", "FAILED", "CANCELED")
JOB_ACTIVE = (
    "STAGING",
    "SUBMITTED",
    "READY",
    "ACTIVE",
    "DELETE",
    "ARCHIVING",
    "QOS_TRANSITION",
    "QOS_REQUEST_SUBMITTED",
)
SOME_FAILED = "One or more files failed. Please have a look at the details for more information"
BY_USER = "Job canceled by the user"
IN_QUEUE_TOO_LONG = (
    "Job has been canceled because it stayed in the queue for too long (max-time-in-queue timeout)"
)


def end_of_job(job_type: str, files: Mapping[str, int]) -> str | None:
    """The end state of a job by the numbers of its files in each state; None while it goes on.

    Hops after a failed one, and replicas that were not needed, stay NOT_USED for ever.
    """
    if job_type == "R" and files.get("FINISHED"):
        return "FINISHED"
    if job_type == "H" and files.get("FAILED"):
        return "FAILED"
    if any(count for state, count in files.items() if state not in (*FILE_TERMINAL, "NOT_USED")):
        return None
    if files.get("CANCELED"):
        return "CANCELED"
    if files.get("NOT_USED"):
        return None
    if job_type == "R" or not files.get("FINISHED"):
        return "FAILED"
    return "FINISHEDDIRTY" if files.get("FAILED") else "FINISHED"


def going_state(job_state: str, job_type: str, files: Mapping[str, int]) -> str:
    """The state of a job that goes on. It turns ACTIVE with its first READY file and does not turn back."""
    if files.get("ACTIVE"):
        return "ACTIVE"
    if files.get("READY"):
        return "READY" if job_type == "Y" and job_state != "ACTIVE" else "ACTIVE"
    waiting = set(files) - {*FILE_TERMINAL, "NOT_USED"}
    if waiting == {"ARCHIVING"}:
        return "ARCHIVING"
    return job_state
