"""Jobs: submit, look at, cancel, reprioritise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from agent.fts3 import submission
from agent.fts3.context import Context
from agent.fts3.delegation import LIFETIME, RENEW_BEFORE, Delegation
from agent.fts3.errors import (
    ClientError,
    Conflict,
    FTS3ClientException,
    NeedDelegation,
    NoAnswer,
    ServerError,
)
from agent.fts3.ids import deterministic_job_id, job_path_part, path_part
from agent.fts3.states import FileState, JobState
from agent.fts3.structures import (
    Job,
    Json,
    Retry,
    Statuses,
    TransferFile,
    objects,
    read_files,
    without_none,
)

MAX_LISTED = 500  # the most that the service lists, and its only paging
_IDS_AT_ONCE = 100  # a request line has to stay below 8 KiB
# What the Easy bindings ask for of each file.
STATUS_FIELDS = (
    "file_state",
    "dest_surl",
    "finish_time",
    "start_time",
    "reason",
    "source_surl",
    "file_metadata",
)


@dataclass(frozen=True, slots=True)
class Submitted:
    """existed: the service had a job of that id already, and it was taken for this one."""

    job_id: str
    existed: bool = False


@dataclass(frozen=True, slots=True)
class CanceledFile:
    """said: the state, or why not (`File does not belong to the job` comes as a success)."""

    file_id: int
    state: FileState
    said: str


class Jobs:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._delegation = Delegation(context)

    def list_jobs(
        self,
        user_dn: str | None = None,
        vo: str | None = None,
        source_se: str | None = None,
        dest_se: str | None = None,
        delegation_id: str | None = None,
        state_in: Iterable[str] | None = None,
        *,
        limit: int | None = None,
        time_window: timedelta | None = None,
        fields: Iterable[str] = (),
    ) -> list[Job]:
        """Jobs without their files, newest first where a limit holds; unfinished ones unless told otherwise.

        state_in: with a state that is over, the newest `limit` (500) are listed, or those that ended within
        `time_window`; the service would by itself answer none. fields: only these, and the job id.
        Only one's own user_dn and delegation_id are allowed.
        """
        states = sorted({str(state) for state in state_in}) if state_in is not None else []
        if limit is not None and not 0 < limit <= MAX_LISTED:
            raise ClientError(f"a limit is between 1 and {MAX_LISTED}")
        if limit is None and time_window is None and any(JobState.read(one).over for one in states):
            limit = MAX_LISTED
        wanted = sorted({*fields, "job_id"}) if fields else []
        query = {
            "user_dn": user_dn,
            "vo_name": vo,
            "source_se": source_se,
            "dest_se": dest_se,
            "dlg_id": delegation_id,
            "state_in": ",".join(states) or None,
            "limit": limit,
            "time_window": _hours(time_window),
            "fields": ",".join(wanted) or None,
        }
        found = self._context.get("/jobs", {name: value for name, value in query.items() if value})
        return [Job.read(one) for one in objects(found)]

    def job(self, job_id: str) -> Job:
        """One job, without its files. NotFound of kind `lost` if the service does not know it."""
        return Job.read(self._context.get(f"/jobs/{job_path_part(job_id)}"))

    def files(self, job_id: str) -> tuple[TransferFile, ...]:
        """Every file of a job with all its fields."""
        return read_files(self._context.get(f"/jobs/{job_path_part(job_id)}/files"))

    def deletions(self, job_id: str) -> list[Json]:
        """The deletions of a job: none, on services of today."""
        return objects(self._context.get(f"/jobs/{job_path_part(job_id)}/dm"))

    def retries(self, job_id: str, file_id: int) -> tuple[Retry, ...]:
        """The tries of a file that failed and were followed by another."""
        found = self._context.get(f"/jobs/{job_path_part(job_id)}/files/{int(file_id)}/retries")
        return tuple(Retry.read(one) for one in objects(found))

    def archived(self, job_id: str) -> Job:
        """A job that the service has moved out of its active tables. NotFound if it never had it."""
        return Job.read(self._context.get(f"/archive/{job_path_part(job_id)}"))

    def statuses(self, job_ids: Sequence[str], file_fields: Sequence[str] = ()) -> Statuses:
        """Many jobs; with `file_fields` each with its files, reduced to these fields.

        Unknown jobs are named, not raised.
        """
        query = {"files": ",".join(file_fields)} if file_fields else None
        return self._about(job_ids, lambda ids: self._context.get(f"/jobs/{ids}", query))

    def cancel(self, job_ids: Sequence[str]) -> Statuses:
        """End jobs. Those that were over already are `unchanged`; unknown ones are named, not raised."""
        return self._about(job_ids, lambda ids: self._context.delete(f"/jobs/{ids}"))

    def set_priority(self, job_ids: Sequence[str], priority: int) -> Statuses:
        """1 to 5, 5 first. The only thing about a job that can be changed."""
        if not 1 <= priority <= 5:
            raise ClientError("a priority is between 1 and 5")  # the service stores any number
        body = {"params": {"priority": priority}}
        return self._about(job_ids, lambda ids: self._context.post(f"/jobs/{ids}", body, safe=True))

    def cancel_files(self, job_id: str, file_ids: Iterable[int]) -> tuple[CanceledFile, ...]:
        """End single files of a plain job. ClientError for a multihop or reuse job."""
        wanted = [int(one) for one in file_ids]
        done: list[CanceledFile] = []
        for batch in _batches(wanted):
            path = f"/jobs/{job_path_part(job_id)}/files/{','.join(map(str, batch))}"
            answer = self._context.delete(path)
            words = answer if isinstance(answer, list) else [answer]
            if len(words) != len(batch):
                raise ServerError("the service did not answer for each file")
            said = [str(word) for word in words]
            done += [
                CanceledFile(one, FileState.read(word), word) for one, word in zip(batch, said, strict=True)
            ]
        return tuple(done)

    def cancel_all(self, vo: str | None = None) -> Json:
        """End every job of a VO, or of the whole service; for its root only. Returns how many."""
        found = self._context.delete(f"/jobs/vo/{path_part(vo)}" if vo is not None else "/jobs/all")
        return found if isinstance(found, dict) else {}

    def active_files(
        self,
        vo: str | None = None,
        state_in: Iterable[str] | None = None,
        source_se: str | None = None,
        dest_se: str | None = None,
        dest_surl: str | None = None,
    ) -> tuple[TransferFile, ...]:
        """Unfinished files over all jobs, at most 1000."""
        states = ",".join(sorted({str(state) for state in state_in})) if state_in is not None else None
        query = {
            "vo_name": vo,
            "state_in": states,
            "source_se": source_se,
            "dest_se": dest_se,
            "dest_surl": dest_surl,
        }
        return read_files(self._context.get("/files", without_none(query)))

    def submit(
        self,
        job: Mapping[str, Any],
        delegation_lifetime: timedelta = LIFETIME,
        force_delegation: bool = False,
        renew_before: timedelta = RENEW_BEFORE,
        *,
        adopt: bool = False,
        fresh: bool = True,
    ) -> Submitted:
        """Submit a job made by `new_job`, delegating first where that is needed.

        With `id_generator=deterministic` and a `sid` the id is known beforehand: a request whose answer is
        lost is repeated, and never makes a second job. NoAnswer then carries the `job_id` to ask for. Other
        jobs are sent once.

        adopt: a job of that id that was there before is this one (from before a crash), instead of Conflict.
        fresh=False: trust what was learned of us and of the delegation before, without asking.
        """
        body = submission.submission(job)
        self._delegation.delegate(delegation_lifetime, force_delegation, renew_before, fresh=fresh)
        expected = self._expected_id(body["params"])
        try:
            return self._send(body, expected, adopt)
        except NeedDelegation:
            # Nothing was made. The delegation went away, or ends sooner than we thought.
            if not self._delegation.delegate(delegation_lifetime, True, renew_before):
                raise
            return self._send(body, expected, adopt)

    def expected_id(self, sid: str) -> str:
        """The id of the job that this user makes with that `sid` and the deterministic generator."""
        who = self._delegation.whoami(fresh=False)
        if not who.base_id or not who.vos:
            raise ServerError("the service does not say what its deterministic ids are made from")
        return deterministic_job_id(who.base_id, who.vos[0], sid)

    def _expected_id(self, params: Json) -> str | None:
        if params.get("id_generator") != submission.JobIdGenerator.deterministic:
            return None
        if not params.get("sid"):
            raise ClientError("a deterministic job id needs a sid")
        return self.expected_id(str(params["sid"]))

    def _send(self, body: Json, expected: str | None, adopt: bool) -> Submitted:
        try:
            answer = self._context.post("/jobs", body, safe=expected is not None)
        except Conflict as error:
            error.job_id = expected
            if expected is not None and (adopt or error.sent_before) and self._is_there(expected):
                return Submitted(expected, existed=True)
            raise
        except (NoAnswer, ServerError) as error:
            error.job_id = expected
            if expected is not None and self._is_there(expected):
                return Submitted(expected, existed=True)
            raise
        job_id = answer.get("job_id") if isinstance(answer, dict) else None
        if not isinstance(job_id, str):
            raise ServerError("the service took the job, but named no id")
        return Submitted(job_id)

    def _is_there(self, job_id: str) -> bool:
        try:
            self.job(job_id)
        except FTS3ClientException:
            return False
        return True

    def _about(self, job_ids: Sequence[str], ask: Callable[[str], Any]) -> Statuses:
        """Ask about all the ids, some at a time, until each is accounted for."""
        jobs: dict[str, Job] = {}
        missing: list[str] = []
        refused: dict[str, str] = {}
        for batch in _batches(list(dict.fromkeys(job_path_part(one) for one in job_ids))):
            pending = set(batch)
            while pending:
                entries = self._entries(pending, batch, ask)
                named = {str(one.get("job_id")) for one in entries} & pending
                if not named:
                    raise ServerError("the service did not answer for each job")
                for one in entries:
                    _sort(one, jobs, missing, refused)
                pending -= named
        return Statuses(jobs, tuple(missing), refused)

    def _entries(self, pending: set[str], batch: list[str], ask: Callable[[str], Any]) -> list[Json]:
        asked = [one for one in batch if one in pending]
        try:
            answer = ask(",".join(asked))
        except FTS3ClientException as error:
            # About one id this is its status; about several it does not say whose, so ask one by one.
            if not error.about_job:
                raise
            if len(asked) == 1:
                return [{"job_id": asked[0], "http_status": str(error.status), "http_message": error.reason}]
            return [one for single in asked for one in self._entries({single}, [single], ask)]
        return objects(answer if isinstance(answer, list) else [answer])


def _sort(entry: Json, jobs: dict[str, Job], missing: list[str], refused: dict[str, str]) -> None:
    status = str(entry.get("http_status") or "200")
    job_id = str(entry.get("job_id"))
    if status.startswith("404"):
        missing.append(job_id)
    elif status.startswith(("2", "304")):
        jobs[job_id] = Job.read(entry)
    else:
        refused[job_id] = str(entry.get("http_message") or status)


def _batches(values: list[Any]) -> list[list[Any]]:
    return [values[start : start + _IDS_AT_ONCE] for start in range(0, len(values), _IDS_AT_ONCE)]


def _hours(window: timedelta | None) -> str | None:
    """`H:M`, rounded up to whole minutes."""
    if window is None:
        return None
    minutes = -(-int(window.total_seconds()) // 60)
    return f"{minutes // 60}:{minutes % 60:02d}"
