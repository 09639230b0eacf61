"""The FTS3 double's bans and configuration, with the ways in which the real ones surprise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from fts3_double.caller import Caller, pair_of
from fts3_double.pki import user_dn
from fts3_double.run import Double, start_double

MOCK = pair_of("mock://a/x?size=1", "mock://b/x?size_post=1")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    with start_double(tmp_path_factory.mktemp("fts3") / "fts3", engine_paused=True) as double:
        for name in ("alice", "bob"):
            with Caller(double, name) as caller:
                caller.delegate()
        yield double


@pytest.fixture
def double(started: Double) -> Double:
    started.reset()
    return started


@pytest.fixture
def alice(double: Double) -> Iterator[Caller]:
    with Caller(double) as caller:
        yield caller


@pytest.fixture
def admin(double: Double) -> Iterator[Caller]:
    with Caller(double, "admin") as caller:
        yield caller


def ban(caller: Caller, storage: str, status: str, **more: Any) -> requests.Response:
    return caller.ask("POST", "/ban/se", json={"storage": storage, "status": status, **more})


def unban(caller: Caller, storage: str) -> None:
    assert caller.ask("DELETE", "/ban/se", params={"storage": storage}).status_code == 204


def test_a_ban_holds_for_the_vo_of_the_admin_alone(double: Double, alice: Caller, admin: Caller) -> None:
    with Caller(double, "bob") as bob, Caller(double, "otheradmin") as other:
        hers, his = alice.submit(MOCK), bob.submit(MOCK)
        assert ban(admin, "mock://b", "wait").json() == [hers]
        assert alice.files(hers)[0]["file_state"] == "ON_HOLD"
        assert bob.files(his)[0]["file_state"] == "SUBMITTED"
        assert ban(other, "mock://b", "wait").status_code == 500
        bob.submit(MOCK)


def test_a_ban_with_another_spelling_is_taken_and_does_nothing(alice: Caller, admin: Caller) -> None:
    job_id = alice.submit(MOCK)
    assert ban(admin, "mock://b:8443/", "cancel").json() == []
    assert alice.files(job_id)[0]["file_state"] == "SUBMITTED"


def test_a_ban_may_go_on_taking_jobs(alice: Caller, admin: Caller) -> None:
    ban(admin, "mock://b", "wait", allow_submit=True)
    job_id = alice.submit(MOCK)
    assert alice.files(job_id)[0]["file_state"] == "ON_HOLD"
    assert [b["status"] for b in admin.get("/ban/se")] == ["WAIT_AS"]
    unban(admin, "mock://b")
    assert alice.files(job_id)[0]["file_state"] == "SUBMITTED"


def test_a_ban_with_cancel_ends_the_job_without_a_reason(alice: Caller, admin: Caller) -> None:
    job_id = alice.submit(MOCK)
    assert ban(admin, "mock://b", "cancel").json() == [job_id]
    ended = alice.ended(job_id)
    assert (ended["job_state"], ended["reason"]) == ("CANCELED", None)
    assert ended["files"][0]["reason"] == "Storage banned"
    answer = alice.ask("POST", "/jobs", json={"files": [MOCK]})
    assert (answer.status_code, answer.json()["message"]) == (403, "mock://b is banned")


def test_an_unbanned_user_is_refused_by_threads_that_remember_him(
    double: Double, alice: Caller, admin: Caller
) -> None:
    """Until they have served somebody else."""
    double.settings(ban_memory=5)
    admin.ask("POST", "/ban/dn", json={"user_dn": user_dn("alice")})
    assert alice.ask("GET", "/whoami").status_code == 403
    admin.ask("DELETE", "/ban/dn", params={"user_dn": user_dn("alice")})
    seen = {alice.ask("GET", "/whoami").status_code for _ in range(10)}
    assert seen == {200, 403}
    for _ in range(5):
        admin.get("/whoami")
    assert {alice.ask("GET", "/whoami").status_code for _ in range(10)} == {200}


@pytest.mark.parametrize("page", ["links", "se", "global", "audit", "activity_shares", "authorize"])
def test_configuration_pages_are_html_unless_json_is_asked_for(admin: Caller, page: str) -> None:
    html = admin.ask("GET", f"/config/{page}", headers={"Accept": "*/*"})
    assert html.headers["Content-Type"] == "text/html; charset=utf-8"
    assert admin.ask("GET", f"/config/{page}").headers["Content-Type"] == "application/json"


def test_configuration_is_for_those_who_were_granted_it(alice: Caller, admin: Caller) -> None:
    assert alice.ask("GET", "/config/links").status_code == 403
    grant = {"dn": user_dn("alice"), "operation": "config"}
    assert admin.ask("POST", "/config/authorize", json=grant).json() == grant
    assert alice.get("/config/links") == []
    assert admin.ask("POST", "/config/authorize", json={**grant, "operation": "admin"}).status_code == 400


def test_a_link_is_answered_as_html_that_holds_json(admin: Caller) -> None:
    link = {"symbolicname": "one", "source": "mock://a", "destination": "mock://b", "max_active": 4}
    answer = admin.ask("POST", "/config/links", json=link)
    assert (answer.status_code, answer.headers["Content-Type"]) == (201, "text/html; charset=utf-8")
    assert admin.get("/config/links/one")["max_active"] == answer.json()["max_active"] == 4
    assert admin.ask("POST", "/config/links", json={**link, "min_active": 9}).status_code == 400
    assert admin.ask("POST", "/config/links", json={**link, "colour": 1}).status_code == 400
    assert admin.ask("DELETE", "/config/links/one").status_code == 204
    assert admin.ask("DELETE", "/config/links/one").status_code == 204
    assert admin.ask("GET", "/config/links/one").status_code == 404


def test_two_answers_are_shorter_than_they_say_though_the_change_is_made(admin: Caller) -> None:
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        admin.ask("POST", "/config/global", json={"vo_name": "farm", "retry": 2})
    assert admin.get("/config/global")["farm"]["retry"] == 2
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        admin.ask("POST", "/config/cloud_storage", json={"storage_name": "s3", "app_secret": "open"})
    assert admin.get("/config/cloud_storage")[0]["app_secret"] == "open"


def test_limits_of_a_storage_are_kept(admin: Caller) -> None:
    wanted = {"mock://b": {"se_info": {"inbound_max_active": 3, "tpc_support": "PULL"}}}
    answer = admin.ask("POST", "/config/se", json=wanted).json()
    assert (answer[0]["inbound_max_active"], answer[1]) == (3, None)
    assert admin.get("/config/se?se=mock://b")["mock://b"]["se_info"]["tpc_support"] == "PULL"
    wrong = {"mock://b": {"se_info": {"tpc_support": "MAYBE"}}}
    assert admin.ask("POST", "/config/se", json=wrong).status_code == 400
    assert admin.ask("DELETE", "/config/se?se=mock://b").status_code == 204
    assert admin.get("/config/se") == {}


def test_activity_shares_are_kept_by_vo(admin: Caller) -> None:
    shares = {"vo": "farm", "share": {"urgent": 0.7, "default": 0.3}}
    assert admin.ask("POST", "/config/activity_shares", json=shares).status_code == 200
    assert admin.get("/config/activity_shares/farm") == {"share": shares["share"], "active": True}
    assert admin.ask("GET", "/config/activity_shares/none").status_code == 500
    assert admin.ask("DELETE", "/config/activity_shares/farm").status_code == 204
    assert admin.ask("DELETE", "/config/activity_shares/farm").status_code == 404


def test_a_share_without_a_link_is_answered_and_not_stored(admin: Caller) -> None:
    share = {"source": "mock://a", "destination": "mock://b", "vo": "farm", "share": 80}
    assert admin.ask("POST", "/config/shares", json=share).json() == 80
    assert admin.get("/config/shares") == []
    link = {"symbolicname": "one", "source": "mock://a", "destination": "mock://b"}
    admin.ask("POST", "/config/links", json=link)
    admin.ask("POST", "/config/shares", json=share)
    assert admin.get("/config/shares") == [share]


def test_users_of_cloud_storages_are_kept(admin: Caller) -> None:
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        admin.ask("POST", "/config/cloud_storage", json={"storage_name": "s3"})
    user = {"vo_name": "farm", "access_key": "k", "secret_key": "s"}
    answer = admin.ask("POST", "/config/cloud_storage/s3", json=user)
    assert (answer.status_code, answer.json()["vo_name"]) == (201, "farm")
    assert admin.ask("POST", "/config/cloud_storage/s3", json={}).status_code == 400
    assert admin.get("/config/cloud_storage/s3")[0]["access_token_secret"] == "s"
    assert admin.ask("DELETE", "/config/cloud_storage/s3/farm").status_code == 204
    assert admin.get("/config/cloud_storage/s3") == []
    assert admin.ask("DELETE", "/config/cloud_storage/s3").status_code == 204
    assert admin.ask("GET", "/config/cloud_storage/s3").status_code == 404


def test_changes_are_audited_the_last_first(admin: Caller) -> None:
    ban(admin, "mock://one", "wait")
    unban(admin, "mock://one")
    assert [entry["action"] for entry in admin.get("/config/audit")] == ["unban-se", "ban-se"]


def test_names_are_completed(alice: Caller, admin: Caller) -> None:
    alice.submit(MOCK)
    assert admin.get("/autocomplete/storage?term=mock") == ["mock://a", "mock://b"]
    assert admin.get("/autocomplete/vo?term=f") == ["farm"]
    assert admin.ask("GET", "/autocomplete/colour").status_code == 404


def test_only_a_known_host_can_be_drained(double: Double, admin: Caller) -> None:
    assert admin.ask("POST", "/config/drain", json={"hostname": "x", "drain": True}).status_code == 400
    assert admin.ask("POST", "/config/drain", json={"hostname": "localhost", "drain": "x"}).status_code == 400
    answer = admin.ask("POST", "/config/drain", json={"hostname": "localhost", "drain": False})
    assert (answer.status_code, answer.json()) == (200, None)
    assert double.state()["settings"]["engine_paused"] is False
