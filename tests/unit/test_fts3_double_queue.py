"""The FTS3 double's engine: order, states over time, lags, bans and faults while files are under way."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from fts3_double.caller import Caller, pair_of
from fts3_double.pki import user_dn
from fts3_double.run import Double, start_double
from servers import eventually


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Double, Caller]]:
    with start_double(tmp_path_factory.mktemp("fts3") / "fts3") as double:
        with Caller(double) as alice:
            alice.delegate()
            yield double, alice


@pytest.fixture
def double(started: tuple[Double, Caller]) -> Double:
    started[0].reset()
    return started[0]


@pytest.fixture
def alice(double: Double, started: tuple[Double, Caller]) -> Caller:
    return started[1]


@pytest.fixture
def admin(double: Double) -> Iterator[Caller]:
    with Caller(double, "admin") as caller:
        yield caller


def mock(name: str = "x", *, source: str = "", target: str = "", **more: Any) -> dict[str, Any]:
    return pair_of(f"mock://a/{name}?size=1{source}", f"mock://b/{name}?size_post=1{target}", **more)


def one_slot(admin: Caller) -> None:
    link = {"symbolicname": "one", "source": "mock://a", "destination": "mock://b", "min_active": 1}
    assert admin.ask("POST", "/config/links", json={**link, "max_active": 1}).status_code == 201


def states(alice: Caller, job_id: str) -> tuple[str, tuple[str, ...]]:
    job = alice.get(f"/jobs/{job_id}?files=file_state")
    return job["job_state"], tuple(file["file_state"] for file in job["files"])


def seen(alice: Caller, job_id: str, last: str) -> list[tuple[str, tuple[str, ...]]]:
    """The different states a job and its files went through, as far as asking showed them."""
    found: list[tuple[str, tuple[str, ...]]] = []

    def look() -> bool:
        now = states(alice, job_id)
        if not found or found[-1] != now:
            found.append(now)
        return now[0] == last

    eventually(look)
    return found


# ---------------------------------------------------------------------- states


def test_a_plain_job_turns_active_with_its_first_ready_file(double: Double, alice: Caller) -> None:
    double.settings(ready_seconds=0.4, end_seconds=0.3)
    found = seen(alice, alice.submit(mock()), "FINISHED")
    order = [
        ("SUBMITTED", ("SUBMITTED",)),
        ("ACTIVE", ("READY",)),
        ("ACTIVE", ("ACTIVE",)),
        ("FINISHED", ("FINISHED",)),
    ]
    assert found == [state for state in order if state in found]
    assert ("ACTIVE", ("READY",)) in found


def test_a_file_may_finish_before_its_job_says_so(double: Double, alice: Caller) -> None:
    double.settings(job_lag=0.5)
    found = seen(alice, alice.submit(mock()), "FINISHED")
    assert ("ACTIVE", ("FINISHED",)) in found


def test_staging_comes_before_and_archiving_after_the_copy(double: Double, alice: Caller) -> None:
    double.settings(staging_seconds=0.3, archive_seconds=0.3)
    job_id = alice.submit(mock(), bring_online=60, archive_timeout=60)
    found = seen(alice, job_id, "FINISHED")
    assert ("STAGING", ("STARTED",)) in found
    assert ("ARCHIVING", ("ARCHIVING",)) in found
    file = alice.files(job_id)[0]
    assert file["finish_time"] <= file["archive_finish_time"]


def test_a_token_job_is_prepared_first(double: Double, alice: Caller) -> None:
    double.settings(token_prep_seconds=2.0)
    with Caller(double, None, token=double.token()) as caller:
        job_id = caller.submit(mock(checksum=None))
        assert states(caller, job_id)[1] == ("TOKEN_PREP",)
        assert caller.files(job_id)[0]["file_state_initial"] == "SUBMITTED"
        double.settings(token_prep_seconds=0.0)
        assert caller.ended(job_id)["job_state"] == "FINISHED"


def test_staging_may_fail(alice: Caller) -> None:
    ended = alice.ended(alice.submit(mock(source="&staging_errno=13"), bring_online=60))
    assert ended["files"][0]["reason"] == "STAGING [13] Permission denied"


def test_one_of_a_hundred_fails_with_the_text_that_was_asked_for(double: Double, alice: Caller) -> None:
    reason = "TRANSFER [70] globus_ftp_client: the server responded with an error"
    double.fault("fail", destination="*/f042?*", reason=reason)
    ended = alice.ended(alice.submit(*(mock(f"f{n:03}") for n in range(100))))
    failed = [file for file in ended["files"] if file["file_state"] == "FAILED"]
    assert ended["job_state"] == "FINISHEDDIRTY"
    assert [(file["file_index"], file["reason"]) for file in failed] == [(42, reason)]
    assert ended["reason"].startswith("One or more files failed.")


def test_while_a_file_waits_for_its_retry_it_shows_no_trace_of_the_failure(
    double: Double, alice: Caller
) -> None:
    double.fault("fail", reason="TRANSFER [110] Connection timed out")
    job_id = alice.submit(mock(), retry=2, retry_delay=3600)
    eventually(lambda: alice.files(job_id)[0]["retry"] == 1)
    file = alice.files(job_id)[0]
    shown = (alice.job(job_id)["job_state"], file["file_state"], file["reason"], file["start_time"])
    assert shown == ("ACTIVE", "SUBMITTED", "", None)
    retry = alice.get(f"/jobs/{job_id}/files/{file['file_id']}/retries")[0]
    assert (retry["attempt"], retry["reason"]) == (1, "TRANSFER [110] Connection timed out")
    alice.ask("DELETE", f"/jobs/{job_id}")
    assert alice.files(job_id)[0]["finish_time"] is None


def test_hops_after_a_failed_one_stay_unused(alice: Caller) -> None:
    second = pair_of("mock://b/x?errno=2", "mock://c/x")
    third = pair_of("mock://c/x", "mock://d/x")
    ended = alice.ended(alice.submit(mock(), second, third, multihop=True))
    assert ended["job_state"] == "FAILED"
    assert [file["file_state"] for file in ended["files"]] == ["FINISHED", "FAILED", "NOT_USED"]


def test_a_reuse_job_has_one_file_active_at_a_time(double: Double, alice: Caller) -> None:
    job_id = alice.submit(*(mock(f"f{n}", target="&time=0.1") for n in range(4)), reuse="Y")
    found = seen(alice, job_id, "FINISHED")
    assert max(files.count("ACTIVE") for _, files in found) == 1
    assert any(files.count("READY") for _, files in found)


def test_a_file_that_waits_too_long_is_canceled(double: Double, alice: Caller, admin: Caller) -> None:
    one_slot(admin)
    double.fault("stall", source="*/first?*")
    alice.submit(mock("first"))
    job_id = alice.submit(mock("second"), max_time_in_queue="1s")
    ended = alice.ended(job_id)
    assert ended["job_state"] == "CANCELED"
    assert "stayed in the queue for too long" in ended["files"][0]["reason"]


def test_one_good_and_one_canceled_file_make_a_canceled_job(double: Double, alice: Caller) -> None:
    double.fault("stall", destination="*/slow?*")
    job_id = alice.submit(mock("good"), mock("slow"))
    eventually(lambda: states(alice, job_id)[1] == ("FINISHED", "ACTIVE"))
    file_id = alice.files(job_id)[1]["file_id"]
    assert alice.ask("DELETE", f"/jobs/{job_id}/files/{file_id}").json() == "CANCELED"
    assert states(alice, job_id) == ("CANCELED", ("FINISHED", "CANCELED"))


def test_a_canceled_copy_has_no_finish_time_until_it_was_stopped(double: Double, alice: Caller) -> None:
    double.settings(cancel_poll=3600.0)
    double.fault("stall")
    job_id = alice.submit(mock())
    eventually(lambda: states(alice, job_id)[1] == ("ACTIVE",))
    eventually(lambda: alice.ask("DELETE", f"/jobs/{job_id}").ok)
    assert (alice.job(job_id)["job_state"], alice.files(job_id)[0]["finish_time"]) == ("CANCELED", None)


# ---------------------------------------------------------------------- order


def test_of_waiting_files_those_of_the_highest_priority_start(
    double: Double, alice: Caller, admin: Caller
) -> None:
    one_slot(admin)
    double.settings(engine_paused=True)
    jobs = {n: alice.submit(mock(f"p{n}"), priority=n) for n in (1, 3, 5, 2, 4)}
    double.settings(engine_paused=False)
    pids = {alice.ended(job_id)["files"][0]["pid"]: priority for priority, job_id in jobs.items()}
    assert [pids[pid] for pid in sorted(pids)] == [5, 4, 3, 2, 1]


def test_a_file_that_waits_for_its_retry_holds_back_all_lower_ones(double: Double, alice: Caller) -> None:
    double.fault("fail", source="*/high?*", reason="TRANSFER [110] Connection timed out")
    high = alice.submit(mock("high"), priority=5, retry=1, retry_delay=3600)
    eventually(lambda: alice.files(high)[0]["retry"] == 1)
    low, elsewhere = alice.submit(mock("low"), priority=3), alice.submit(pair_of("mock://a/x", "mock://c/x"))
    assert alice.ended(elsewhere)["job_state"] == "FINISHED"
    assert states(alice, low)[1] == ("SUBMITTED",)
    alice.ask("DELETE", f"/jobs/{high}")
    assert alice.ended(low)["job_state"] == "FINISHED"


def test_activities_share_the_slots_by_weight(double: Double, alice: Caller, admin: Caller) -> None:
    shares = {"vo": "farm", "share": {"urgent": 0.95, "default": 0.05}}
    admin.ask("POST", "/config/activity_shares", json=shares)
    one_slot(admin)
    double.settings(engine_paused=True)
    files = [mock(f"{name}{n}", activity=name) for n in range(30) for name in ("urgent", "bulk")]
    job_id = alice.submit(*files)
    double.settings(engine_paused=False)
    done = lambda: [f["activity"] for f in alice.files(job_id) if f["file_state"] == "FINISHED"]  # noqa: E731
    eventually(lambda: len(done()) >= 20)
    first = done()
    assert first.count("urgent") > first.count("bulk")
    assert alice.ended(job_id)["job_state"] == "FINISHED"


def test_vos_share_a_link_by_weight(double: Double, alice: Caller, admin: Caller) -> None:
    one_slot(admin)
    for vo, weight in (("farm", 95), ("other", 5)):
        share = {"source": "mock://a", "destination": "mock://b", "vo": vo, "share": weight}
        assert admin.ask("POST", "/config/shares", json=share).json() == weight
    double.settings(engine_paused=True)
    with Caller(double, "bob") as bob:
        bob.delegate()
        hers, his = (c.submit(*(mock(f"{n}") for n in range(20))) for c in (alice, bob))
        double.settings(engine_paused=False)
        ends = [(f["pid"], f["vo_name"]) for c, j in ((alice, hers), (bob, his)) for f in c.ended(j)["files"]]
    first = [vo for _, vo in sorted(ends)][:15]
    assert first.count("farm") > first.count("other")


def test_forced_files_leave_the_queue_but_need_a_slot(double: Double, alice: Caller) -> None:
    double.settings(force_start_seconds=0.05)
    double.fault("fail", reason="TRANSFER [110] Connection timed out")
    job_id = alice.submit(mock(), retry=1, retry_delay=3600)
    eventually(lambda: alice.files(job_id)[0]["retry"] == 1)
    file_id = alice.files(job_id)[0]["file_id"]
    with Caller(double, "root") as root:
        assert root.ask("POST", "/admin/force-start", json=[file_id, 1]).json() == [1]
    assert alice.ended(job_id)["job_state"] == "FINISHED"


def test_a_drained_host_starts_nothing_new(double: Double, alice: Caller, admin: Caller) -> None:
    admin.ask("POST", "/config/drain", json={"hostname": "localhost", "drain": True})
    job_id = alice.submit(mock())
    assert double.state()["settings"]["engine_paused"]
    admin.ask("POST", "/config/drain", json={"hostname": "localhost", "drain": False})
    assert alice.ended(job_id)["job_state"] == "FINISHED"


def test_a_ban_with_wait_lets_running_files_go_on(double: Double, alice: Caller, admin: Caller) -> None:
    one_slot(admin)
    double.fault("stall", source="*/first?*", seconds=0.5)
    job_id = alice.submit(mock("first"), mock("second"))
    eventually(lambda: states(alice, job_id)[1] == ("ACTIVE", "SUBMITTED"))
    assert admin.ask("POST", "/ban/se", json={"storage": "mock://b", "status": "wait"}).json() == [job_id]
    eventually(lambda: states(alice, job_id) == ("ACTIVE", ("FINISHED", "ON_HOLD")))
    admin.ask("DELETE", "/ban/se?storage=mock://b")
    assert alice.ended(job_id)["job_state"] == "FINISHED"


# ---------------------------------------------------------------------- faults of requests


def test_a_lost_answer_leaves_the_job_behind(double: Double, alice: Caller) -> None:
    double.fault("drop_answer", method="POST", path="/jobs")
    body = {"files": [mock()], "params": {"id_generator": "deterministic", "sid": "lost"}}
    with pytest.raises(requests.ConnectionError):
        alice.ask("POST", "/jobs", json=body)
    assert alice.ask("POST", "/jobs", json=body).status_code == 409


def test_a_lost_request_leaves_nothing(double: Double, alice: Caller) -> None:
    double.settings(engine_paused=True)
    double.fault("drop_request", method="POST", path="/jobs")
    with pytest.raises(requests.ConnectionError):
        alice.ask("POST", "/jobs", json={"files": [mock()]})
    assert alice.get("/jobs") == []


def test_an_error_page_comes_in_html_as_often_as_was_said(double: Double, alice: Caller) -> None:
    double.fault("status", path="/jobs*", status=500, times=2, skip=1)
    answers = [alice.ask("GET", "/jobs") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 500, 500, 200]
    assert answers[1].headers["Content-Type"].startswith("text/html")


def test_a_body_may_be_cut_or_replaced(double: Double, alice: Caller) -> None:
    double.fault("cut_body", path="/whoami", bytes=20)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        alice.ask("GET", "/whoami")
    double.fault("replace_body", path="/whoami", body="not json")
    assert alice.ask("GET", "/whoami").text == "not json"


def test_a_slow_body_comes_whole_but_late(double: Double, alice: Caller) -> None:
    job_id = alice.submit(mock())
    double.fault("slow_body", path="/jobs*", rate=1000)
    started = time.monotonic()
    assert [job["job_id"] for job in alice.get(f"/jobs/{job_id},{job_id}")] == [job_id, job_id]
    assert time.monotonic() - started > 0.5


def test_a_delayed_answer_outlasts_an_impatient_client(double: Double, alice: Caller) -> None:
    double.fault("delay", path="/whoami", seconds=20)
    with pytest.raises(requests.exceptions.ReadTimeout):
        alice._session.get(double.url + "/whoami", timeout=(60, 0.3))
    assert alice.get("/whoami")["user_dn"] == user_dn("alice")


def test_a_paused_service_hangs_until_it_goes_on(double: Double, alice: Caller) -> None:
    double.pause()
    with pytest.raises(requests.exceptions.ReadTimeout):
        alice._session.get(double.url + "/whoami", timeout=(60, 0.3))
    double.resume()
    assert alice.get("/whoami")["user_dn"] == user_dn("alice")


def test_an_idle_connection_is_closed(double: Double) -> None:
    double.settings(idle_seconds=0.1)
    context = ssl.create_default_context(cafile=double.ca)
    connection = http.client.HTTPSConnection("localhost", double.port, timeout=20, context=context)
    connection.request("GET", "/")
    assert connection.getresponse().read()
    assert connection.sock.recv(1) == b""
    connection.close()


def test_rows_can_be_set_to_states_that_are_hard_to_come_by(double: Double, alice: Caller) -> None:
    job_id = alice.submit(mock(), mock("y"))
    alice.ended(job_id)
    double.set_rows(job_id, job={"job_state": "CANCELED"}, files={"file_state": "FAILED"}, file_index=1)
    assert states(alice, job_id) == ("CANCELED", ("FINISHED", "FAILED"))


def test_an_unknown_fault_is_refused(double: Double) -> None:
    with pytest.raises(AssertionError, match="no such fault"):
        double.fault("explode")


def test_two_thousand_files_are_taken_at_once_and_finish_by_schedule(double: Double, alice: Caller) -> None:
    double.settings(copy=False, default_active=2000, poll=0.01)
    files = [pair_of(f"davs://a.org/{n}", f"davs://b.org/{n}", filesize=7) for n in range(2000)]
    ended = alice.ended(alice.submit(*files))
    assert ended["job_state"] == "FINISHED"
    assert {file["filesize"] for file in ended["files"]} == {7}
