"""The FTS3 double is held to the truth: the official client, recorded exchanges, and real copies."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from fts3_double.caller import Caller, pair_of
from fts3_double.pki import user_dn
from fts3_double.run import Double, WebDav, start_double, start_webdav
from servers import eventually

pytestmark = pytest.mark.e2e
try:
    import fts3.rest.client.easy as official
    from fts3.rest.client import exceptions
except ImportError:
    official = None
needs_client = pytest.mark.skipif(
    official is None, reason="the official client is not installed: pip install '.[fts3-check]' (wants swig)"
)
RECORDED = json.loads((Path(__file__).parents[1] / "fts3_double" / "exchanges.json").read_text())
VARIABLE = {"file_id", "hashed_id"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Double, WebDav, Caller]]:
    """One service, storage and delegation for all tests here: keys cost seconds to make."""
    folder = tmp_path_factory.mktemp("fts3")
    with start_double(folder / "fts3") as double:
        with start_webdav(folder / "se", pki=double.pki, require_certificate=True) as storage:
            with Caller(double) as alice:
                alice.delegate()
                yield double, storage, alice


@pytest.fixture
def double(shared: tuple[Double, WebDav, Caller]) -> Double:
    shared[0].reset()
    return shared[0]


@pytest.fixture
def storage(shared: tuple[Double, WebDav, Caller]) -> WebDav:
    shared[1].clear()
    return shared[1]


@pytest.fixture
def alice(double: Double, shared: tuple[Double, WebDav, Caller]) -> Caller:
    return shared[2]


def put(storage: WebDav, path: str, data: bytes) -> str:
    file = storage.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return storage.url(path)


# ---------------------------------------------------------------------- the recorded exchanges


def steady(value: Any, ids: dict[str, str]) -> Any:
    """A value with everything replaced that differs from run to run; types stay."""
    if isinstance(value, dict):
        return {k: type(v).__name__ if k in VARIABLE else steady(v, ids) for k, v in value.items()}
    if isinstance(value, list):
        return [steady(v, ids) for v in value]
    if isinstance(value, str):
        for job_id, name in ids.items():
            value = value.replace(job_id, name)
        return TIME.sub("<time>", value)
    return value


def test_recorded_exchanges_get_the_recorded_answers(shared: Any, tmp_path: Path) -> None:
    """Status, content type, length or chunks, and the whole body, ids and times apart."""
    with start_double(tmp_path / "fts3", pki=shared[0].pki, engine_paused=True) as fresh:
        replay(fresh)


def replay(double: Double) -> None:
    callers: dict[str, Caller] = {}
    ids: dict[str, str] = {}
    for step in RECORDED:
        caller = callers.setdefault(step["user"], Caller(double, step["user"]))
        where = f"{step['name']}: {step['method']} {step['path']}"
        if step["path"].endswith("/credential"):
            caller.delegate()
            continue
        path = step["path"]
        for job_id, name in ids.items():
            path = path.replace(name, job_id)
        options = {"json": step["body"]} if "body" in step else {}
        headers = {"User-Agent": "fts-python-bindings/3.14.2"}
        answer = caller.ask(step["method"], path, headers=headers, **options)
        assert answer.status_code == step["status"], (where, answer.text)
        assert answer.headers.get("Content-Type") == step["content_type"], where
        assert ("Transfer-Encoding" in answer.headers) == step["chunked"], where
        if step["name"].startswith("submit") and set(step.get("json") or ()) == {"job_id"}:
            ids[answer.json()["job_id"]] = step["json"]["job_id"]
        if "json" in step:
            assert steady(answer.json(), ids) == steady(step["json"], ids), where
        elif "list_start" in step:
            start = answer.json()[: len(step["list_start"])]
            assert steady(start, ids) == steady(step["list_start"], ids), where
        elif "html" in step:
            assert answer.text.strip() == step["html"], where
    assert len(ids) == 3


# ---------------------------------------------------------------------- the official client


def context(double: Double, user: str = "alice", **options: Any) -> Any:
    pair = double.user(user)
    return official.Context(
        double.url, ucert=str(pair.cert), ukey=str(pair.key), capath=str(double.ca), **options
    )


@needs_client
def test_the_official_client_finds_endpoint_and_user(double: Double) -> None:
    alice = context(double)
    assert alice.get_endpoint_info()["api"] == {"major": 3, "minor": 13, "patch": 4}
    assert official.whoami(alice)["user_dn"] == user_dn("alice")


@needs_client
def test_the_official_client_delegates_once_and_again_when_forced(double: Double) -> None:
    carol = context(double, "carol")
    first = official.delegate(carol, lifetime=timedelta(hours=48))
    official.delegate(carol)
    count = lambda: sum(r["path"].endswith("/credential") for r in double.requests())  # noqa: E731
    assert (first, count()) == (official.whoami(carol)["delegation_id"], 1)
    official.delegate(carol, force=True)
    assert count() == 2


@needs_client
def test_the_official_client_delegates_with_a_proxy_of_its_own(double: Double) -> None:
    proxy = str(double.proxy())
    alice = official.Context(double.url, ucert=proxy, ukey=proxy, capath=str(double.ca))
    assert official.whoami(alice)["user_dn"] == user_dn("alice")
    assert official.delegate(alice) == official.whoami(alice)["delegation_id"]


@needs_client
def test_the_official_client_has_a_file_copied(double: Double, storage: WebDav) -> None:
    source = put(storage, "in/a.bin", b"payload" * 5000)
    alice = context(double)
    transfer = official.new_transfer(source, storage.url("out/deep/a.bin"), metadata={"n": 1})
    job = official.new_job([transfer], verify_checksum=True, metadata={"label": "t"}, priority=4)
    job_id = official.submit(alice, job)
    assert [j["job_id"] for j in official.list_jobs(alice)] in ([job_id], [])
    eventually(lambda: official.get_job_status(alice, job_id)["job_state"] == "FINISHED")
    status = official.get_job_status(alice, job_id, list_files=True)
    assert (status["files"][0]["filesize"], status["dm"]) == (35000, [])
    both = official.get_jobs_statuses(alice, [job_id, job_id], list_files=True)
    assert [job["files"][0]["file_state"] for job in both] == ["FINISHED", "FINISHED"]
    assert (storage.root / "out/deep/a.bin").read_bytes() == b"payload" * 5000


@needs_client
def test_the_official_client_cancels_jobs_and_files(double: Double) -> None:
    double.settings(engine_paused=True)
    alice, root = context(double), context(double, "root")
    pairs = [official.new_transfer(f"mock://a/{n}?size=1", f"mock://b/{n}?size_post=1") for n in range(3)]
    jobs = [official.submit(alice, official.new_job(pairs)) for _ in range(3)]
    file_id = official.get_job_status(alice, jobs[0], list_files=True)["files"][0]["file_id"]
    assert official.cancel(alice, jobs[0], [file_id]) == "CANCELED"
    assert official.cancel(alice, jobs[1])["job_state"] == "CANCELED"
    assert official.cancel(alice, jobs[1])["http_status"] == "304 Not Modified"
    affected = official.cancel_all(root)
    assert affected == {"affected_files": 5, "affected_dm": 0, "affected_jobs": 2}


@needs_client
def test_the_official_client_bans_storages_and_users(double: Double) -> None:
    double.settings(engine_paused=True)
    alice, admin = context(double), context(double, "admin")
    pairs = [official.new_transfer("mock://a/x?size=1", "mock://b/x?size_post=1")]
    job_id = official.submit(alice, official.new_job(pairs))
    assert official.ban_se(admin, "mock://b", status="wait", timeout=60) == [job_id]
    with pytest.raises(exceptions.Unauthorized, match="mock://b is banned"):
        official.submit(alice, official.new_job(pairs))
    official.unban_se(admin, "mock://b")
    assert official.ban_dn(admin, user_dn("alice")) == [job_id]
    with pytest.raises(exceptions.Unauthorized, match="The user has been banned"):
        official.whoami(alice)
    official.unban_dn(admin, user_dn("alice"))
    assert official.get_job_status(alice, job_id)["reason"] == "User banned"


@needs_client
def test_errors_reach_the_official_client_as_its_exceptions(double: Double) -> None:
    alice, unknown = context(double), str(uuid.uuid4())
    with pytest.raises(exceptions.NotFound):
        official.get_job_status(alice, unknown)
    job_id = official.submit(alice, official.new_job([official.new_transfer("mock://a/x", "mock://b/x")]))
    with pytest.raises(exceptions.ClientError, match="No job with the id"):
        official.get_jobs_statuses(alice, [job_id, unknown])
    twice = official.new_job(
        [official.new_transfer("mock://a/x", "mock://b/x")], id_generator="deterministic", sid="one"
    )
    official.submit(alice, twice)
    with pytest.raises(exceptions.ClientError, match="409"):
        official.submit(alice, twice)
    double.fault("status", path="/whoami", status=503)
    with pytest.raises(exceptions.TryAgain):
        official.whoami(alice)


@needs_client
def test_the_official_clients_default_checksum_fails_without_verification(
    double: Double, storage: WebDav
) -> None:
    """Its bare algorithm name makes the service check the target against a value that nobody gave."""
    source = put(storage, "a", b"a")
    alice = context(double)
    job_id = official.submit(alice, official.new_job([official.new_transfer(source, storage.url("b"))]))
    eventually(lambda: official.get_job_status(alice, job_id)["job_finished"])
    file = official.get_job_status(alice, job_id, list_files=True)["files"][0]
    assert file["reason"] == "DESTINATION [22] Checksum value required if mode is not end to end"
    assert not (storage.root / "b").exists()


@needs_client
def test_the_official_client_works_with_a_token(double: Double) -> None:
    alice = official.Context(double.url, fts_access_token=double.token(), capath=str(double.ca))
    assert official.whoami(alice)["method"] == "oauth2"
    assert official.delegate(alice) == ""
    pairs = [official.new_transfer("mock://a/x?size=1", "mock://b/x?size_post=1", checksum=None)]
    job_id = official.submit(alice, official.new_job(pairs))
    eventually(lambda: official.get_job_status(alice, job_id)["job_state"] == "FINISHED")


# ---------------------------------------------------------------------- copies


def test_an_existing_destination_is_kept_unless_overwriting_is_asked_for(
    alice: Caller, storage: WebDav
) -> None:
    pair = pair_of(put(storage, "new", b"new"), put(storage, "old", b"old"))
    refused = alice.ended(alice.submit(pair))
    assert refused["files"][0]["reason"] == (
        "DESTINATION [17] Destination file exists and overwrite is not enabled"
    )
    assert (storage.root / "old").read_bytes() == b"old"
    assert alice.ended(alice.submit(pair, overwrite=True))["job_state"] == "FINISHED"
    assert (storage.root / "old").read_bytes() == b"new"


def test_what_is_in_the_way_is_reported_on_demand(alice: Caller, storage: WebDav) -> None:
    pair = pair_of(put(storage, "new", b"new"), put(storage, "old", b"old!"), metadata={"k": 1})
    ended = alice.ended(alice.submit(pair, dst_file_report=True))
    report = ended["files"][0]["file_metadata"]
    assert (report["k"], report["dst_file"]["file_size"]) == (1, 4)


def test_a_missing_source_is_final(alice: Caller, storage: WebDav) -> None:
    ended = alice.ended(alice.submit(pair_of(storage.url("none"), storage.url("b")), retry=3))
    assert ended["files"][0]["reason"] == "SOURCE [2] Result HTTP 404 : File not found  after 1 attempts"
    assert (ended["job_state"], ended["files"][0]["retry"]) == ("FAILED", 0)


def test_a_byte_changed_on_the_way_is_found_and_tried_again(
    double: Double, alice: Caller, storage: WebDav
) -> None:
    double.fault("corrupt", destination="*/b", times=1)
    pair = pair_of(put(storage, "a", b"content"), storage.url("b"))
    job_id = alice.submit(pair, verify_checksum=True, retry=1, retry_delay=1)
    ended = alice.ended(job_id)
    file = ended["files"][0]
    assert (ended["job_state"], file["retry"], file["reason"]) == ("FINISHED", 1, "")
    retries = alice.get(f"/jobs/{job_id}/files/{file['file_id']}/retries")
    assert [r["reason"] for r in retries] == ["TRANSFER [5] Source and destination checksums do not match"]
    assert (storage.root / "b").read_bytes() == b"content"


def test_a_wrong_checksum_of_the_user_is_found_before_the_copy(alice: Caller, storage: WebDav) -> None:
    pair = pair_of(put(storage, "a", b"content"), storage.url("b"), checksum="ADLER32:00000001")
    ended = alice.ended(alice.submit(pair, verify_checksum="both"))
    assert ended["files"][0]["reason"] == "TRANSFER [5] User and source checksums do not match"
    assert not (storage.root / "b").exists()


def test_a_broken_copy_leaves_nothing_unless_cleaning_up_is_off(alice: Caller, storage: WebDav) -> None:
    source = put(storage, "a", b"x" * 300_000)
    for options, left in (({}, False), ({"disable_cleanup": True}, True)):
        storage.fault("cut_body", method="GET", path="/a", bytes=100_000)
        ended = alice.ended(alice.submit(pair_of(source, storage.url("b")), **options))
        assert ended["job_state"] == "FAILED"
        assert (storage.root / "b").exists() is left


def test_a_canceled_copy_stops_and_leaves_nothing(double: Double, alice: Caller, storage: WebDav) -> None:
    double.fault("slow", rate=20_000, times=-1)
    job_id = alice.submit(pair_of(put(storage, "a", b"x" * 1_000_000), storage.url("b")))
    eventually(lambda: (storage.root / "b").exists())
    canceled = alice.ask("DELETE", f"/jobs/{job_id}").json()
    assert canceled["job_state"] == "CANCELED"
    eventually(lambda: alice.files(job_id)[0]["finish_time"])
    eventually(lambda: not (storage.root / "b").exists())


def test_hops_follow_each_other(alice: Caller, storage: WebDav) -> None:
    first = pair_of(put(storage, "a", b"hop"), storage.url("b"))
    second = pair_of(storage.url("b"), storage.url("c"))
    ended = alice.ended(alice.submit(first, second, multihop=True))
    assert (ended["job_type"], ended["job_state"]) == ("H", "FINISHED")
    assert (storage.root / "c").read_bytes() == b"hop"


def test_another_replica_takes_over(alice: Caller, storage: WebDav) -> None:
    pair = {
        "sources": [storage.url("none"), put(storage, "good", b"good")],
        "destinations": [storage.url("b")],
        "selection_strategy": "orderly",
    }
    ended = alice.ended(alice.submit(pair))
    assert (ended["job_type"], ended["job_state"]) == ("R", "FINISHED")
    assert [f["file_state"] for f in ended["files"]] == ["FAILED", "FINISHED"]


def test_the_state_survives_a_kill_and_copies_go_on(double: Double, alice: Caller, storage: WebDav) -> None:
    double.fault("slow", rate=200_000, times=1)
    job_id = alice.submit(pair_of(put(storage, "a", b"x" * 1_000_000), storage.url("b")))
    eventually(lambda: (storage.root / "b").exists())
    double.kill()
    double.start()
    assert alice.ended(job_id)["job_state"] == "FINISHED"
    assert (storage.root / "b").stat().st_size == 1_000_000


def test_a_storage_sees_the_user_behind_the_delegated_proxy(alice: Caller, storage: WebDav) -> None:
    alice.ended(alice.submit(pair_of(put(storage, "a", b"a"), storage.url("b"))))
    users = {r["user"] for r in storage.requests()}
    assert len(users) == 1
    assert users.pop().startswith(user_dn("alice") + "/CN=")


def test_a_storage_that_knows_nobody_refuses_the_copy(alice: Caller, double: Double, tmp_path: Path) -> None:
    with start_webdav(tmp_path / "closed", pki=double.pki, token="secret") as closed:
        put(closed, "a", b"a")
        ended = alice.ended(alice.submit(pair_of(closed.url("a"), closed.url("b"))))
    assert ended["files"][0]["reason"].startswith("SOURCE [1] Result HTTP 403")


def test_a_copy_by_token_carries_the_tokens_of_its_file(double: Double, tmp_path: Path) -> None:
    token = double.token(audience="https://localhost")
    with start_webdav(tmp_path / "closed", pki=double.pki, token=token) as closed:
        pair = pair_of(put(closed, "a", b"a"), closed.url("b"), checksum=None)
        with Caller(double, None, token=token) as alice:
            ended = alice.ended(alice.submit(pair))
    assert (ended["job_state"], ended["job_metadata"]) == ("FINISHED", {"auth_method": "oauth2"})


def test_a_folder_is_never_overwritten(alice: Caller, storage: WebDav) -> None:
    pair = pair_of(put(storage, "a", b"a"), storage.url("folder"))
    put(storage, "folder/kept", b"kept")
    ended = alice.ended(alice.submit(pair, overwrite=True))
    assert ended["files"][0]["reason"] == "DESTINATION [21] Is a directory"
    assert (storage.root / "folder/kept").read_bytes() == b"kept"


def test_names_with_blanks_and_umlauts_are_copied(alice: Caller, storage: WebDav) -> None:
    put(storage, "in dir/größe 1%.txt", b"named")
    pair = pair_of(storage.url("in dir/größe 1%25.txt"), storage.url("out dir/größe 2.txt"))
    assert alice.ended(alice.submit(pair))["job_state"] == "FINISHED"
    assert (storage.root / "out dir/größe 2.txt").read_bytes() == b"named"


def test_many_files_are_copied_side_by_side(alice: Caller, storage: WebDav) -> None:
    pairs = [pair_of(put(storage, f"in/{n}", b"%d" % n), storage.url(f"out/{n % 7}/{n}")) for n in range(60)]
    assert alice.ended(alice.submit(*pairs, verify_checksum=True))["job_state"] == "FINISHED"
    assert {int(file.read_bytes()) for file in (storage.root / "out").rglob("*") if file.is_file()} == set(
        range(60)
    )


def test_an_expired_certificate_gets_no_connection(double: Double) -> None:
    double.user("late", seconds=-60)
    with Caller(double, "late") as late, pytest.raises(requests.RequestException):
        late.ask("GET", "/whoami")


def test_an_endpoint_without_tls_is_no_endpoint(double: Double) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://localhost:{double.port}/", timeout=60)
