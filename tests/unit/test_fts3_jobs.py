"""Jobs of the FTS3 service through the typed client: looked at, ended, and submitted exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from unit.fts3_service import (
    BASE_ID,
    CUT,
    FILE,
    JOB,
    JOB_ID,
    NOW,
    OTHER_ID,
    QUICK,
    UNKNOWN_ID,
    WHOAMI,
    Delegatee,
    Naps,
    Reply,
    Request,
    Service,
    authority,
    ec_key,
    no_job,
    not_yours,
    serving,
    user,
)

from agent.fts3 import (
    BadEndpoint,
    Client,
    ClientError,
    Conflict,
    Context,
    FileState,
    JobState,
    Kind,
    NeedDelegation,
    NoAnswer,
    NotFound,
    ServerError,
    Submitted,
    Unauthorized,
    deterministic_job_id,
    new_job,
    new_transfer,
)

SID = "attempt-1"
EXPECTED = deterministic_job_id(BASE_ID, "farm", SID)
SIMPLE = new_job([new_transfer("https://a/x", "https://b/x")])
REPEATABLE = new_job([new_transfer("https://a/x", "https://b/x")], id_generator="deterministic", sid=SID)
DUPLICATE = Reply({"status": "409 Conflict", "message": "The sid provided by the user is duplicated"}, 409)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as running:
        yield running


@pytest.fixture
def fts3(service: Service) -> Client:
    """With a token, so that no delegation gets in the way; delegation has tests of its own."""
    return Client(Context(service.url, fts_access_token="token", retries=QUICK))


def of(job_id: str, **fields: Any) -> dict[str, Any]:
    return {**JOB, "job_id": job_id, **fields}


def test_unfinished_jobs_are_listed(service: Service, fts3: Client) -> None:
    service.script["GET /jobs"] = Reply(chunks=[b"[", b"]"])
    assert fts3.jobs.list_jobs() == []
    assert service.requests[-1].query == {}
    service.script["GET /jobs"] = Reply([JOB, of(OTHER_ID)])
    assert [one.job_id for one in fts3.jobs.list_jobs()] == [JOB_ID, OTHER_ID]


def test_every_filter_is_sent_under_its_name(service: Service, fts3: Client) -> None:
    service.script["GET /jobs"] = Reply([])
    fts3.jobs.list_jobs(
        "/CN=alice",
        "farm",
        "https://a",
        "https://b",
        "d248",
        [JobState.SUBMITTED, "ACTIVE"],
        limit=50,
        time_window=timedelta(minutes=90, seconds=1),
        fields=["job_state"],
    )
    assert service.requests[-1].query == {
        "user_dn": "/CN=alice",
        "vo_name": "farm",
        "source_se": "https://a",
        "dest_se": "https://b",
        "dlg_id": "d248",
        "state_in": "ACTIVE,SUBMITTED",
        "limit": "50",
        "time_window": "1:31",
        "fields": "job_id,job_state",
    }


def test_jobs_that_are_over_are_found_though_no_limit_was_named(service: Service, fts3: Client) -> None:
    """Without limit and window the service lists unfinished jobs only, whatever states were asked for."""
    service.script["GET /jobs"] = Reply([])
    fts3.jobs.list_jobs(state_in=["FINISHED"])
    assert service.requests[-1].query == {"state_in": "FINISHED", "limit": "500"}
    fts3.jobs.list_jobs(state_in=["SUBMITTED"])
    assert service.requests[-1].query == {"state_in": "SUBMITTED"}
    fts3.jobs.list_jobs(state_in=["FAILED"], time_window=timedelta(hours=2))
    assert service.requests[-1].query == {"state_in": "FAILED", "time_window": "2:00"}
    for odd in (0, 501, -1):
        with pytest.raises(ClientError):
            fts3.jobs.list_jobs(limit=odd)


def test_one_job_its_files_and_their_retries(service: Service, fts3: Client) -> None:
    retries = [{"attempt": 1, "datetime": "2026-11-22T12:41:00", "reason": "TRANSFER [110] x", "file_id": 7}]
    service.script |= {
        f"GET /jobs/{JOB_ID}": Reply(JOB),
        f"GET /jobs/{JOB_ID}/files": Reply([FILE, {**FILE, "file_index": 1}]),
        f"GET /jobs/{JOB_ID}/files/7/retries": Reply(retries),
        f"GET /jobs/{JOB_ID}/dm": Reply([]),
        f"GET /archive/{OTHER_ID}": Reply(of(OTHER_ID, job_state="FINISHED")),
    }
    assert fts3.jobs.job(JOB_ID).state is JobState.SUBMITTED
    assert [one.file_index for one in fts3.jobs.files(JOB_ID)] == [0, 1]
    assert fts3.jobs.retries(JOB_ID, 7)[0].reason == "TRANSFER [110] x"
    assert fts3.jobs.deletions(JOB_ID) == []
    assert fts3.jobs.archived(OTHER_ID).state is JobState.FINISHED


def test_an_unknown_job_is_lost_but_a_missing_page_is_not(service: Service, fts3: Client) -> None:
    service.script[f"GET /jobs/{UNKNOWN_ID}"] = Reply(no_job(), 404)
    with pytest.raises(NotFound) as caught:
        fts3.jobs.job(UNKNOWN_ID)
    assert caught.value.kind is Kind.LOST
    service.script[f"GET /jobs/{UNKNOWN_ID}"] = Reply("<title>404 Not Found</title>", 404)
    with pytest.raises(NotFound) as caught:
        fts3.jobs.job(UNKNOWN_ID)
    assert caught.value.kind is Kind.PERMANENT
    with pytest.raises(NotFound):
        fts3.jobs.statuses([UNKNOWN_ID])


def test_of_many_jobs_the_good_the_lost_and_the_refused_are_told_apart(
    service: Service, fts3: Client
) -> None:
    path = f"GET /jobs/{JOB_ID},{UNKNOWN_ID},{OTHER_ID}"
    service.script[path] = Reply([JOB, no_job(), not_yours()], 207)
    found = fts3.jobs.statuses([JOB_ID, UNKNOWN_ID, OTHER_ID])
    assert list(found.jobs) == [JOB_ID]
    assert found.missing == (UNKNOWN_ID,)
    assert found.refused == {OTHER_ID: f'Not enough permissions to check the job "{OTHER_ID}"'}


def test_many_good_jobs_with_some_fields_of_their_files(service: Service, fts3: Client) -> None:
    files = [{"file_state": "FINISHED", "dest_surl": "https://b/x"}]
    service.script[f"GET /jobs/{JOB_ID},{OTHER_ID}"] = Reply(
        [of(JOB_ID, files=files), of(OTHER_ID, files=[])]
    )
    found = fts3.jobs.statuses([JOB_ID, OTHER_ID, JOB_ID], ["file_state", "dest_surl"])
    assert service.requests[-1].query == {"files": "file_state,dest_surl"}
    assert found.jobs[JOB_ID].files is not None
    assert found.jobs[JOB_ID].files[0].state is FileState.FINISHED
    assert found.jobs[OTHER_ID].files == ()


@pytest.mark.parametrize(
    ("reply", "missing", "refused"),
    [(Reply(no_job(JOB_ID), 404), (JOB_ID,), ()), (Reply(not_yours(JOB_ID), 403), (), (JOB_ID,))],
)
def test_one_job_alone_is_told_apart_by_its_status(
    service: Service, fts3: Client, reply: Reply, missing: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    service.script[f"GET /jobs/{JOB_ID}"] = reply
    found = fts3.jobs.statuses([JOB_ID])
    assert (found.jobs, found.missing, tuple(found.refused)) == ({}, missing, refused)


def test_a_404_for_several_jobs_is_looked_into(service: Service, fts3: Client) -> None:
    service.script[f"GET /jobs/{JOB_ID},{UNKNOWN_ID}"] = Reply(no_job(), 404)
    service.script[f"GET /jobs/{JOB_ID}"] = Reply(JOB)
    service.script[f"GET /jobs/{UNKNOWN_ID}"] = Reply(no_job(), 404)
    found = fts3.jobs.statuses([JOB_ID, UNKNOWN_ID])
    assert (list(found.jobs), found.missing) == ([JOB_ID], (UNKNOWN_ID,))


def test_jobs_that_an_answer_leaves_out_are_asked_for_again(service: Service, fts3: Client) -> None:
    service.script[f"GET /jobs/{JOB_ID},{OTHER_ID}"] = Reply([JOB])
    service.script[f"GET /jobs/{OTHER_ID}"] = Reply(of(OTHER_ID))
    assert set(fts3.jobs.statuses([JOB_ID, OTHER_ID]).jobs) == {JOB_ID, OTHER_ID}
    service.script[f"GET /jobs/{OTHER_ID}"] = Reply([])
    with pytest.raises(ServerError, match="each job"):
        fts3.jobs.statuses([JOB_ID, OTHER_ID])


def test_a_thousand_jobs_are_asked_for_some_at_a_time(service: Service, fts3: Client) -> None:
    ids = [f"{n:08d}-7ba6-11e9-aea1-02163e00a077" for n in range(250)]
    for start in (0, 100, 200):
        part = ids[start : start + 100]
        service.script[f"GET /jobs/{','.join(part)}"] = Reply([of(one) for one in part])
    assert list(fts3.jobs.statuses(ids).jobs) == ids
    assert max(len(one.path) for one in service.requests) < 4000
    assert fts3.jobs.statuses([]).jobs == {}


def test_a_banned_user_learns_so_instead_of_missing_jobs(service: Service, fts3: Client) -> None:
    service.script[f"GET /jobs/{JOB_ID}"] = Reply("<p>The user has been banned</p>", 403)
    with pytest.raises(Unauthorized) as caught:
        fts3.jobs.statuses([JOB_ID])
    assert caught.value.kind is Kind.BANNED


def test_jobs_are_canceled_and_those_over_say_so(service: Service, fts3: Client) -> None:
    canceled = of(JOB_ID, job_state="CANCELED", reason="Job canceled by the user")
    over = of(OTHER_ID, http_status="304 Not Modified", http_message="The job is in a terminal state")
    service.script[f"DELETE /jobs/{JOB_ID},{OTHER_ID},{UNKNOWN_ID}"] = Reply([canceled, over, no_job()], 207)
    found = fts3.jobs.cancel([JOB_ID, OTHER_ID, UNKNOWN_ID])
    assert found.jobs[JOB_ID].state is JobState.CANCELED
    assert (found.jobs[JOB_ID].unchanged, found.jobs[OTHER_ID].unchanged) == (False, True)
    assert found.missing == (UNKNOWN_ID,)


@pytest.mark.parametrize("odd", ["all", "vo", "", "a/../all", "*"])
def test_no_slip_cancels_the_jobs_of_everybody(service: Service, fts3: Client, odd: str) -> None:
    with pytest.raises(ClientError, match="job id"):
        fts3.jobs.cancel([odd])
    assert service.requests == []


def test_single_files_are_canceled(service: Service, fts3: Client) -> None:
    service.script[f"DELETE /jobs/{JOB_ID}/files/7"] = Reply('"CANCELED"')
    service.script[f"DELETE /jobs/{JOB_ID}/files/7,8,9"] = Reply(
        ["CANCELED", "FINISHED", "File does not belong to the job"]
    )
    (one,) = fts3.jobs.cancel_files(JOB_ID, [7])
    assert (one.file_id, one.state) == (7, FileState.CANCELED)
    several = fts3.jobs.cancel_files(JOB_ID, [7, 8, 9])
    assert [one.state for one in several] == [FileState.CANCELED, FileState.FINISHED, FileState.UNKNOWN]
    assert several[2].said == "File does not belong to the job"
    service.script[f"DELETE /jobs/{JOB_ID}/files/7"] = Reply(
        {"status": "400 Bad Request", "message": "Multihop or reuse jobs must be cancelled at once (H)"}, 400
    )
    with pytest.raises(ClientError, match="Multihop"):
        fts3.jobs.cancel_files(JOB_ID, [7])


def test_all_jobs_or_those_of_a_vo_are_canceled(service: Service, fts3: Client) -> None:
    counts = {"affected_files": 2, "affected_dm": 0, "affected_jobs": 1}
    service.script["DELETE /jobs/all"] = Reply({"message": "User does not have root privileges"}, 403)
    service.script["DELETE /jobs/vo/farm"] = Reply(counts)
    assert fts3.jobs.cancel_all("farm") == counts
    with pytest.raises(Unauthorized, match="root"):
        fts3.jobs.cancel_all()
    with pytest.raises(ClientError):
        fts3.jobs.cancel_all("")


def test_priorities_are_changed_and_stay_in_range(service: Service, fts3: Client) -> None:
    service.script[f"POST /jobs/{JOB_ID}"] = Reply(of(JOB_ID, priority=5))
    assert fts3.jobs.set_priority([JOB_ID], 5).jobs[JOB_ID].priority == 5
    assert service.requests[-1].json == {"params": {"priority": 5}}
    for odd in (0, 6, 99):
        with pytest.raises(ClientError, match="priority"):
            fts3.jobs.set_priority([JOB_ID], odd)


def test_unfinished_files_are_listed_over_all_jobs(service: Service, fts3: Client) -> None:
    service.script["GET /files"] = Reply([FILE])
    (found,) = fts3.jobs.active_files(vo="farm", state_in=["ON_HOLD"], dest_se="https://b")
    assert (found.job_id, found.state) == (JOB_ID, FileState.SUBMITTED)
    assert service.requests[-1].query == {"vo_name": "farm", "state_in": "ON_HOLD", "dest_se": "https://b"}


def test_a_job_is_submitted_once(service: Service, fts3: Client) -> None:
    service.script["POST /jobs"] = Reply({"job_id": JOB_ID})
    assert fts3.jobs.submit(SIMPLE) == Submitted(JOB_ID)
    sent = service.requests[-1]
    assert sent.headers["content-type"] == "application/json"
    assert sent.json["files"] == SIMPLE["files"]
    assert service.asked() == ["POST /jobs"]


@pytest.mark.parametrize("reply", [CUT, Reply({"message": "busy"}, 503), Reply({"message": "gateway"}, 502)])
def test_a_job_whose_id_is_not_known_beforehand_is_never_sent_twice(
    service: Service, fts3: Client, reply: Reply
) -> None:
    service.script["POST /jobs"] = [reply, Reply({"job_id": JOB_ID})]
    with pytest.raises((NoAnswer, ServerError)) as caught:
        fts3.jobs.submit(SIMPLE)
    assert caught.value.kind is Kind.RETRYABLE
    assert caught.value.job_id is None
    assert service.asked() == ["POST /jobs"]


class Store:
    """Takes jobs with deterministic ids as the service does: a second of the same id is 409."""

    def __init__(self, service: Service, losses: int = 0) -> None:
        self.taken: list[str] = []
        self._losses = losses
        service.script["POST /jobs"] = self._submit
        service.script[f"GET /jobs/{EXPECTED}"] = self._status

    def _submit(self, request: Request) -> Reply:
        assert request.json["params"]["sid"] == SID
        if EXPECTED in self.taken:
            return DUPLICATE
        self.taken.append(EXPECTED)
        self._losses -= 1
        return CUT if self._losses >= 0 else Reply({"job_id": EXPECTED})

    def _status(self, _: Request) -> Reply:
        return Reply(of(EXPECTED)) if EXPECTED in self.taken else Reply(no_job(EXPECTED), 404)


def test_the_id_of_a_repeatable_job_is_the_one_computed(service: Service, fts3: Client) -> None:
    Store(service)
    assert fts3.jobs.expected_id(SID) == EXPECTED
    assert fts3.jobs.submit(REPEATABLE) == Submitted(EXPECTED)


def test_a_lost_answer_makes_no_second_job(service: Service, fts3: Client) -> None:
    store = Store(service, losses=1)
    assert fts3.jobs.submit(REPEATABLE) == Submitted(EXPECTED, existed=True)
    assert store.taken == [EXPECTED]
    assert service.asked().count("POST /jobs") == 2


def test_a_job_that_arrived_though_every_answer_was_lost_is_found(service: Service, fts3: Client) -> None:
    store = Store(service)

    def take_and_cut(_: Request) -> Reply:
        store.taken = [EXPECTED]
        return CUT

    service.script["POST /jobs"] = take_and_cut
    assert fts3.jobs.submit(REPEATABLE) == Submitted(EXPECTED, existed=True)


def test_a_job_that_did_not_arrive_leaves_the_id_to_ask_for(service: Service, fts3: Client) -> None:
    Store(service)
    service.script["POST /jobs"] = CUT
    with pytest.raises(NoAnswer) as caught:
        fts3.jobs.submit(REPEATABLE)
    assert caught.value.job_id == EXPECTED


def test_a_job_of_before_a_crash_is_adopted_only_if_asked_for(service: Service, fts3: Client) -> None:
    store = Store(service)
    store.taken = [EXPECTED]
    with pytest.raises(Conflict, match="sid") as caught:
        fts3.jobs.submit(REPEATABLE)
    assert caught.value.job_id == EXPECTED
    assert fts3.jobs.submit(REPEATABLE, adopt=True) == Submitted(EXPECTED, existed=True)


def test_a_conflict_about_something_else_is_not_taken_for_success(service: Service, fts3: Client) -> None:
    Store(service)
    service.script["POST /jobs"] = Reply({"message": "The submission is duplicated (dest)"}, 409)
    with pytest.raises(Conflict, match="dest"):
        fts3.jobs.submit(REPEATABLE, adopt=True)


def test_a_job_that_never_left_is_tried_again_whatever_its_id(service: Service) -> None:
    naps = Naps()
    context = Context(service.url, fts_access_token="token", retries=QUICK, runtime=naps.runtime)
    service.close()
    with pytest.raises(BadEndpoint) as caught:
        Client(context).jobs.submit(SIMPLE)
    assert not isinstance(caught.value, NoAnswer)
    assert len(naps.slept) == QUICK.attempts - 1


def test_a_deterministic_id_needs_something_to_make_it_from(service: Service, fts3: Client) -> None:
    with pytest.raises(ClientError, match="sid"):
        fts3.jobs.submit(new_job(SIMPLE["files"], id_generator="deterministic"))
    service.script["GET /whoami"] = Reply({**WHOAMI, "base_id": None})
    with pytest.raises(ServerError, match="deterministic"):
        fts3.jobs.submit(REPEATABLE)


def test_an_answer_without_an_id_is_an_error(service: Service, fts3: Client) -> None:
    service.script["POST /jobs"] = Reply({})
    with pytest.raises(ServerError, match="no id"):
        fts3.jobs.submit(SIMPLE)


def test_with_a_token_a_wish_for_delegation_is_passed_on(service: Service, fts3: Client) -> None:
    service.script["POST /jobs"] = Reply({"message": "No delegation found"}, 419)
    with pytest.raises(NeedDelegation, match="No delegation found"):
        fts3.jobs.submit(SIMPLE)
    assert service.asked() == ["POST /jobs"]


def test_a_delegation_that_went_away_is_made_anew_and_the_job_sent_again(tmp_path: Path) -> None:
    service = Delegatee()
    try:
        service.ends = NOW + timedelta(hours=9)
        alice = user(authority(NOW), ec_key(), NOW - timedelta(1), NOW + timedelta(9)).write(
            tmp_path, "alice"
        )
        fts3 = Client(Context(service.url, *alice, runtime=Naps().runtime, retries=QUICK))
        service.script["POST /jobs"] = [
            Reply({"status": "419", "message": 'No delegation found for "alice"'}, 419),
            Reply({"job_id": JOB_ID}),
        ]
        assert fts3.jobs.submit(SIMPLE, fresh=False) == Submitted(JOB_ID)
        assert len(service.proxies) == 1
        assert service.asked().count("POST /jobs") == 2
        service.script["POST /jobs"] = Reply({"status": "419", "message": "never enough"}, 419)
        with pytest.raises(NeedDelegation, match="never enough"):
            fts3.jobs.submit(SIMPLE)
    finally:
        service.close()
