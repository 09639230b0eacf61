"""The FTS3 double's manners over HTTP: errors, identities, delegation, lists, configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fts3_double.caller import Caller, pair_of
from fts3_double.pki import Pair, sign_proxy, user_dn
from fts3_double.run import Double, start_double, start_webdav

UNKNOWN = "11111111-2222-3333-4444-555555555555"
MOCK = pair_of("mock://a/x?size=1", "mock://b/x?size_post=1")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    with start_double(tmp_path_factory.mktemp("fts3") / "fts3", engine_paused=True) as double:
        for name in ("alice", "bob", "admin", "otheradmin"):
            with Caller(double, name) as caller:
                caller.delegate()
        yield double


@pytest.fixture
def double(started: Double) -> Double:
    started.reset()
    return started


@pytest.fixture
def callers(double: Double) -> Iterator[dict[str, Caller]]:
    names = ("alice", "bob", "admin", "otheradmin", "root")
    made = {name: Caller(double, name) for name in names} | {"nobody": Caller(double, None)}
    yield made
    for caller in made.values():
        caller.__exit__(None, None, None)


@pytest.fixture
def alice(callers: dict[str, Caller]) -> Caller:
    return callers["alice"]


@pytest.fixture
def admin(callers: dict[str, Caller]) -> Caller:
    return callers["admin"]


def status(caller: Caller, method: str, path: str, **options: Any) -> int:
    return caller.ask(method, path, **options).status_code


# ---------------------------------------------------------------------- paths and bodies


@pytest.mark.parametrize("path", ["/whoami", "//whoami", "///whoami"])
def test_slashes_in_front_may_be_doubled(alice: Caller, path: str) -> None:
    answer = alice.ask("GET", path, allow_redirects=False)
    assert (answer.status_code, answer.json()["user_dn"]) == (200, user_dn("alice"))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("GET", "/nothing", 404), ("GET", "/whoami/", 404), ("GET", "/jobs/", 200), ("DELETE", "/whoami", 405)],
)
def test_wrong_paths_and_verbs_are_told_in_json(alice: Caller, method: str, path: str, expected: int) -> None:
    answer = alice.ask(method, path)
    assert answer.status_code == expected
    assert expected == 200 or answer.json()["status"].startswith(f"{expected} ")


def test_a_request_from_another_origin_is_refused(alice: Caller) -> None:
    answer = alice.ask("GET", "/whoami", headers={"Origin": "https://evil.example.org"})
    assert (answer.status_code, answer.text[:14]) == (403, "<!DOCTYPE HTML")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": b"{}"}, "Expecting application/json or application/x-www-form-urlencoded"),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, "Badly formatted JSON request"),
        ({"json": [1]}, "Expecting a dictionary"),
        ({"json": {}}, "No transfers operations specified"),
        ({"json": {"files": []}}, "No valid pairs available"),
    ],
)
def test_bodies_that_are_no_submission_are_refused(
    alice: Caller, options: dict[str, Any], message: str
) -> None:
    answer = alice.ask("POST", "/jobs", **options)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


@pytest.mark.parametrize("change", [{"activity": "x" * 256}, {"sources": ["mock://a/" + "x" * 1100]}])
def test_values_too_long_for_their_column_are_internal_errors(alice: Caller, change: dict[str, Any]) -> None:
    assert status(alice, "POST", "/jobs", json={"files": [{**MOCK, **change}]}) == 500
    assert alice.get("/jobs") == []


def test_put_submits_as_post_does(alice: Caller) -> None:
    assert status(alice, "PUT", "/jobs", data=b'{"files": [%s]}' % b"") == 400
    answer = alice.ask("PUT", "/jobs", json={"files": [MOCK]})
    assert set(answer.json()) == {"job_id"}


def test_a_request_line_longer_than_apaches_is_414(alice: Caller) -> None:
    ids = ",".join([UNKNOWN] * 230)
    assert status(alice, "GET", f"/jobs/{ids}") == 414


# ---------------------------------------------------------------------- identities


def test_nobody_sees_what_needs_no_login(callers: dict[str, Caller]) -> None:
    nobody = callers["nobody"]
    found = nobody.get("/whoami")
    assert (found["user_dn"], found["method"]) == ("anon", "unauthenticated")
    assert [status(nobody, "GET", p) for p in ("/", "/optimizer", "/jobs", f"/jobs/{UNKNOWN}")] == [
        200,
        200,
        403,
        500,
    ]
    sent = {"source_se": "mock://a", "destination_se": "x", "dest_se": "mock://b", "active": 3}
    assert nobody.ask("POST", "/optimizer/current", json=sent).json()["active"] == 3


def test_a_proxy_counts_as_its_user_if_the_server_can_tell(double: Double) -> None:
    with Caller(double, proxy=double.proxy()) as caller:
        assert caller.get("/whoami")["user_dn"] == user_dn("alice")
        double.settings(gridsite=False)
        assert caller.get("/whoami")["user_dn"].startswith(user_dn("alice") + "/CN=")


def test_voms_roles_give_vos_and_levels(tmp_path: Path, started: Double) -> None:
    fqans = {user_dn("alice"): ["/dteam/Role=production/Capability=NULL", "/dteam/cern/Role=NULL"]}
    with start_double(tmp_path / "fts3", pki=tmp_path / "pki", identities={"fqans": fqans}) as double:
        with Caller(double) as caller:
            found = caller.get("/whoami")
    assert (found["vos"], found["roles"]) == (["dteam", "dteam/cern"], ["production"])
    assert found["level"] == {"transfer": "vo", "datamanagement": "all", "config": "all"}


def test_a_user_with_an_elliptic_key_can_delegate(double: Double) -> None:
    double.user("eve", elliptic=True)
    with Caller(double, "eve") as eve:
        eve.delegate()
        eve.submit(MOCK)


def test_the_host_is_root(callers: dict[str, Caller]) -> None:
    found = callers["root"].get("/whoami")
    assert (found["is_root"], found["level"]["admin"]) == (True, "all")


def test_a_user_without_vo_gets_one_of_his_own(double: Double) -> None:
    with Caller(double, "dave") as dave:
        found = dave.get("/whoami")
    assert found["vos"] == [found["delegation_id"]]


@pytest.mark.parametrize(
    "claims",
    [{"seconds": -10}, {"audience": "https://elsewhere"}, {"iss": "https://unknown.test/"}, {"damage": True}],
)
def test_a_token_that_does_not_hold_makes_anonymous(double: Double, claims: dict[str, Any]) -> None:
    damage = claims.pop("damage", False)
    token = double.token(**claims)
    if damage:
        head, payload, _ = token.split(".")
        token = f"{head}.{payload}.{'A' * 342}"
    with Caller(double, None, token=token) as caller:
        assert caller.get("/whoami")["user_dn"] == "anon"
        assert status(caller, "GET", "/jobs") == 403


def test_where_tokens_are_off_any_bearer_is_bad(double: Double) -> None:
    double.settings(oauth2=False)
    with Caller(double, None, token=double.token()) as caller:
        answer = caller.ask("GET", "/whoami")
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "text/html; charset=utf-8")


def test_a_token_user_passes_every_level_but_not_the_calls_for_certificates(double: Double) -> None:
    with Caller(double, None, token=double.token()) as caller:
        assert caller.get("/whoami")["vos"] == ["farm"]
        assert caller.ask("POST", "/ban/se", json={"storage": "mock://z"}).json() == []
        assert status(caller, "GET", "/config/activity_shares") == 403
        assert status(caller, "DELETE", "/jobs/all") == 403
        assert status(caller, "POST", "/jobs", json={"files": [MOCK]}) == 500
        tape = {"files": [MOCK], "params": {"bring_online": 60}}
        assert status(caller, "POST", "/jobs", json=tape) == 400


# ---------------------------------------------------------------------- delegation


def put_proxy(double: Double, caller: Caller, chain: list[x509.Certificate]) -> requests.Response:
    name = caller.get("/whoami")["delegation_id"]
    pem = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain)
    return caller.ask("PUT", f"/delegation/{name}/credential", data=pem)


def request_of(caller: Caller) -> x509.CertificateSigningRequest:
    name = caller.get("/whoami")["delegation_id"]
    return x509.load_pem_x509_csr(caller.ask("GET", f"/delegation/{name}/request").content)


def test_the_same_request_is_given_until_it_is_replaced(alice: Caller) -> None:
    assert request_of(alice) == request_of(alice)


def test_without_a_delegation_clients_get_an_empty_list_or_null_by_age(double: Double) -> None:
    with Caller(double, "erin") as erin:
        path = f"/delegation/{erin.get('/whoami')['delegation_id']}"
        modern = erin.get(path, headers={"User-Agent": "fts-python-bindings/3.14.2"})
        old = erin.get(path, headers={"User-Agent": "fts-python-bindings/3.11.0"})
        assert (modern, old, erin.get(path)) == ([], None, None)
        assert status(erin, "DELETE", path) == 404
        assert status(erin, "POST", path + "/voms", json=["farm"]) == 500
        answer = erin.ask("POST", "/jobs", json={"files": [MOCK]})
        assert (answer.status_code, answer.reason) == (419, "Authentication Timeout")


def test_a_wrong_proxy_is_refused_with_the_reason(double: Double, alice: Caller) -> None:
    key = request_of(alice).public_key()
    owner, other = double.user("alice"), double.user("bob")
    certificate, others = owner.certificates()[0], other.certificates()[0]
    mixed = Pair(owner.cert, other.key)
    for chain, reason in (
        ([sign_proxy(owner, key, 7200)], "Malformed proxy"),
        ([sign_proxy(owner, others.public_key(), 7200), certificate], "does not match the stored"),
        ([sign_proxy(mixed, key, 7200), certificate], "Failed to verify the proxy"),
        ([certificate, certificate], "does not match the stored"),
    ):
        answer = put_proxy(double, alice, chain)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("Could not process the proxy: ")
        assert reason in answer.json()["message"]


@pytest.mark.parametrize(
    ("seconds", "skew", "message"),
    [(1800, 0, "has less than one hour left"), (7200, 9000, "expired 1")],
)
def test_a_delegation_needs_an_hour_of_life(
    double: Double, seconds: float, skew: float, message: str
) -> None:
    with Caller(double, "erin") as erin:
        erin.delegate(seconds)
        double.settings(clock_skew=skew)
        answer = erin.ask("POST", "/jobs", json={"files": [MOCK]})
        assert answer.status_code == 419
        assert message in answer.json()["message"]
        name = erin.get("/whoami")["delegation_id"]
        assert status(erin, "DELETE", f"/delegation/{name}") == 204


def test_another_users_delegation_is_closed(alice: Caller, callers: dict[str, Caller]) -> None:
    name = alice.get("/whoami")["delegation_id"]
    assert status(callers["bob"], "GET", f"/delegation/{name}") == 403


# ---------------------------------------------------------------------- jobs


def test_ended_jobs_are_listed_only_with_a_limit_or_a_window(alice: Caller) -> None:
    ended, open_job = alice.submit(MOCK), alice.submit(MOCK)
    alice.ask("DELETE", f"/jobs/{ended}")
    ids = lambda query: [job["job_id"] for job in alice.get("/jobs?" + query)]  # noqa: E731
    assert ids("") == [open_job]
    assert ids("state_in=CANCELED") == []
    assert ids("state_in=CANCELED&limit=10") == [ended]
    assert ids("state_in=CANCELED&time_window=1:30") == [ended]
    assert alice.get("/jobs?fields=job_id,nothing") == [{"job_id": open_job}]


def test_filters_of_others_are_refused(alice: Caller, callers: dict[str, Caller]) -> None:
    alice.submit(MOCK)
    assert [
        status(alice, "GET", "/jobs?" + query)
        for query in (f"user_dn={user_dn('bob')}", "dlg_id=0123", "limit=501", "limit=-1")
    ] == [400, 403, 400, 400]
    assert callers["bob"].get("/jobs?vo_name=farm") == []


def test_bulk_states_hold_the_fields_that_were_asked_for(alice: Caller) -> None:
    one, two = alice.submit(MOCK, MOCK), alice.submit(MOCK)
    found = alice.get(f"/jobs/{one},{two}?files=file_state,file_index,nothing")
    assert [job["files"] for job in found] == [
        [{"file_state": "SUBMITTED", "file_index": n} for n in range(count)] for count in (2, 1)
    ]


def test_a_field_of_a_job_is_bare_json(alice: Caller) -> None:
    job_id = alice.submit(MOCK)
    assert alice.get(f"/jobs/{job_id}/job_state") == "SUBMITTED"
    answer = alice.ask("GET", f"/jobs/{job_id}/nothing")
    assert (answer.status_code, answer.json()["message"]) == (404, "No such field")


def test_a_priority_can_be_changed_to_anything_while_the_job_goes_on(alice: Caller) -> None:
    job_id, over = alice.submit(MOCK), alice.submit(MOCK)
    alice.ask("DELETE", f"/jobs/{over}")
    body = {"params": {"priority": 99}}
    assert alice.ask("POST", f"/jobs/{job_id}", json=body).json()["priority"] == 99
    assert alice.files(job_id)[0]["priority"] == 99
    assert alice.ask("POST", f"/jobs/{over}", json=body).json()["http_status"] == "304 Not Modified"
    assert status(alice, "POST", f"/jobs/{job_id},{over}", json=body) == 200
    assert status(alice, "POST", f"/jobs/{job_id},{UNKNOWN}", json=body) == 207


def test_canceling_several_jobs_tells_of_each(alice: Caller) -> None:
    one, over = alice.submit(MOCK), alice.submit(MOCK)
    alice.ask("DELETE", f"/jobs/{over}")
    answer = alice.ask("DELETE", f"/jobs/{one},{over},{UNKNOWN}")
    assert answer.status_code == 207
    found = {entry["job_id"]: entry["http_status"] for entry in answer.json()}
    assert found == {one: "200 Ok", over: "304 Not Modified", UNKNOWN: "404 Not Found"}


def test_a_file_of_another_job_is_refused_within_a_good_answer(alice: Caller) -> None:
    one, two = alice.submit(MOCK), alice.submit(MOCK)
    file_id = alice.files(two)[0]["file_id"]
    answer = alice.ask("DELETE", f"/jobs/{one}/files/{file_id}")
    assert (answer.status_code, answer.json()) == (200, "File does not belong to the job")


def test_files_of_hops_are_not_canceled_one_by_one(alice: Caller) -> None:
    job_id = alice.submit(MOCK, MOCK, multihop=True)
    assert status(alice, "DELETE", f"/jobs/{job_id}/files/{alice.files(job_id)[0]['file_id']}") == 400


def test_the_same_sid_is_taken_once(alice: Caller) -> None:
    body = {"files": [MOCK], "params": {"id_generator": "deterministic", "sid": "one"}}
    first, second = (alice.ask("POST", "/jobs", json=body) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 409)
    assert second.json()["message"] == "The sid provided by the user is duplicated"


def test_a_forgotten_job_is_only_in_the_archive(double: Double, alice: Caller) -> None:
    job_id = alice.submit(MOCK)
    assert double.forget(job_id) == 1
    assert status(alice, "GET", f"/jobs/{job_id}") == 404
    archived = alice.get(f"/archive/{job_id}")
    assert (archived["job_state"], len(archived["files"])) == ("SUBMITTED", 1)
    assert status(alice, "GET", f"/archive/{UNKNOWN}") == 404


def test_ended_jobs_go_to_the_archive_when_their_time_is_over(double: Double, alice: Caller) -> None:
    job_id = alice.submit(MOCK)
    alice.ask("DELETE", f"/jobs/{job_id}")
    double.settings(clock_skew=8 * 86400)
    from servers import eventually

    eventually(lambda: status(alice, "GET", f"/jobs/{job_id}") == 404)


def test_the_list_of_files_has_no_time_window(alice: Caller) -> None:
    alice.submit(MOCK, MOCK)
    assert len(alice.get("/files?state_in=SUBMITTED&dest_se=mock://b&limit=1")) == 2
    assert status(alice, "GET", "/files?time_window=1") == 500


# ---------------------------------------------------------------------- data management


def test_storages_are_worked_on_with_the_delegated_proxy(
    double: Double, alice: Caller, tmp_path: Path
) -> None:
    with start_webdav(tmp_path / "se", pki=double.pki, require_certificate=True) as storage:
        surl = {"surl": storage.url("d")}
        made = alice.ask("POST", "/dm/mkdir", json=surl)
        assert (made.status_code, made.json()) == (200, 0)
        (storage.root / "d/x").write_bytes(b"abc")
        (storage.root / "d/two words").write_bytes(b"")
        looked = alice.get("/dm/stat", params={"surl": storage.url("d/x")})
        assert (looked["size"], looked["mode"]) == (3, 0o100777)
        assert set(alice.get("/dm/list", params={"surl": storage.url("")})) == {"d/"}
        assert set(alice.get("/dm/list", params=surl)) == {"x", "two%20words"}
        assert status(alice, "GET", "/dm/list", params={"surl": storage.url("d/x")}) == 400
        moved = {"old": storage.url("d/x"), "new": storage.url("d/y")}
        assert status(alice, "POST", "/dm/rename", json=moved) == 200
        assert status(alice, "POST", "/dm/unlink", json=surl) == 500
        assert status(alice, "POST", "/dm/rmdir", json={"surl": storage.url("d/y")}) == 400
        assert status(alice, "POST", "/dm/rmdir", json={"surl": storage.url("d/none")}) == 404
        assert status(alice, "POST", "/dm/unlink", json={"surl": storage.url("d/y")}) == 200
        assert status(alice, "POST", "/dm/rmdir", json=surl) == 200
        assert status(alice, "GET", "/dm/stat", params=surl) == 404
        assert not any(storage.root.iterdir()), "with what was in it, as the storage deletes trees"
    with Caller(double, "frank") as frank:
        assert status(frank, "GET", "/dm/stat", params=surl) == 419
