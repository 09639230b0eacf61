"""The FTS3 client against a service in a process of its own: TLS, delegation, real copies, lost answers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fts3_double.run import Double, WebDav, start_double, start_webdav
from servers import eventually

import agent.fts3.easy as easy
from agent.fts3 import (
    BadCredential,
    BadEndpoint,
    Client,
    ClientError,
    Conflict,
    Context,
    FileState,
    Job,
    JobState,
    Kind,
    NoAnswer,
    NotFound,
    Retries,
    Unauthorized,
    new_job,
    new_transfer,
    storage_element,
)

pytestmark = pytest.mark.e2e
QUICK = Retries(attempts=3, interval=0.01, max_interval=0.05)


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    with start_double(tmp_path_factory.mktemp("fts3") / "double") as running:
        yield running


@pytest.fixture(scope="module")
def storage(double: Double, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDav]:
    with start_webdav(tmp_path_factory.mktemp("fts3") / "dav", pki=double.pki) as running:
        yield running


@pytest.fixture(autouse=True)
def no_faults(double: Double) -> Iterator[None]:
    yield
    double.clear_faults()


def client(double: Double, name: str = "alice", **options: object) -> Client:
    pair = double.user(name)
    given = {"capath": str(double.ca), "retries": QUICK, **options}
    return Client(Context(double.url, str(pair.cert), str(pair.key), **given))  # type: ignore[arg-type]


@pytest.fixture
def fts3(double: Double) -> Iterator[Client]:
    with client(double) as made:
        yield made


def file_in(storage: WebDav, content: bytes = b"content") -> tuple[str, str, Path]:
    """URLs of a new source file and of its destination, and where that will lie."""
    name = uuid.uuid4().hex
    (storage.root / name).write_bytes(content)
    return storage.url(name), storage.url(f"{name}.copy"), storage.root / f"{name}.copy"


def ended(fts3: Client, job_id: str) -> Job:
    def look() -> Job | None:
        job = fts3.jobs.job(job_id)
        return job if job.state.over else None

    found = eventually(look, what=f"job {job_id} ends")
    assert found is not None
    return found


def test_a_file_is_copied_from_storage_to_storage(fts3: Client, storage: WebDav) -> None:
    source, destination, copy = file_in(storage, b"x" * 100_000)
    job = new_job([new_transfer(source, destination)], verify_checksum=True, metadata={"tag": 1})
    done = fts3.jobs.submit(job)
    assert ended(fts3, done.job_id).state is JobState.FINISHED
    assert copy.read_bytes() == b"x" * 100_000
    (file,) = fts3.jobs.files(done.job_id)
    assert (file.state, file.filesize, file.dest_surl) == (FileState.FINISHED, 100_000, destination)
    assert fts3.jobs.job(done.job_id).metadata["tag"] == 1


def test_the_default_checksum_does_not_fail_a_transfer_without_verification(
    fts3: Client, storage: WebDav
) -> None:
    source, destination, copy = file_in(storage)
    done = fts3.jobs.submit(new_job([new_transfer(source, destination)]))
    job = ended(fts3, done.job_id)
    assert (job.state, job.raw["verify_checksum"]) == (JobState.FINISHED, "n")
    assert copy.exists()


def test_a_missing_source_fails_for_good(fts3: Client, storage: WebDav) -> None:
    _, destination, _ = file_in(storage)
    done = fts3.jobs.submit(new_job([new_transfer(storage.url("none"), destination, checksum=None)]))
    assert ended(fts3, done.job_id).state is JobState.FAILED
    (file,) = fts3.jobs.files(done.job_id)
    assert file.why.final
    assert file.why.code == 2


def test_the_service_says_what_it_is_and_who_we_are(double: Double, fts3: Client) -> None:
    info, who = fts3.endpoint_info(), fts3.whoami()
    assert (info.url, info.api is not None) == (double.url, True)
    assert (who.user_dn.rpartition("=")[2], who.vos, who.method) == ("alice", ("farm",), "certificate")
    assert not who.anonymous


def test_a_delegation_is_taken_and_renewed(double: Double) -> None:
    with client(double, "carol") as fts3:
        first = fts3.delegation.delegate(timedelta(hours=3))
        ends = fts3.delegation.ends()
        assert ends is not None
        assert timedelta(hours=2.9) < ends - datetime.now(UTC) <= timedelta(hours=3)
        assert fts3.delegation.delegate(timedelta(hours=30), force=True) == first
        later = fts3.delegation.ends()
        assert later is not None
        assert later > ends
        fts3.delegation.withdraw()
        assert fts3.delegation.ends() is None


def test_a_proxy_file_serves_as_certificate_and_key(double: Double, storage: WebDav) -> None:
    """And can be delegated on: the service gets a proxy of the proxy."""
    context = Context(double.url, str(double.proxy("alice")), capath=str(double.ca))
    with Client(context) as fts3:
        assert fts3.whoami().user_dn.endswith("CN=alice")
        fts3.delegation.delegate(force=True)
        source, destination, copy = file_in(storage)
        assert ended(fts3, fts3.jobs.submit(new_job([new_transfer(source, destination)])).job_id)
        assert copy.exists()


def test_a_token_is_enough_and_a_wrong_one_makes_nobody(double: Double) -> None:
    with Client(Context(double.url, fts_access_token=double.token, capath=str(double.ca))) as fts3:
        assert fts3.whoami().method == "oauth2"
        assert fts3.delegation.delegate() == ""
        assert fts3.jobs.list_jobs() == []
    with Client(Context(double.url, fts_access_token="nonsense", capath=str(double.ca))) as fts3:
        assert fts3.whoami().anonymous
        with pytest.raises(Unauthorized, match="token") as caught:
            fts3.jobs.list_jobs()
        assert caught.value.kind is Kind.NEEDS_CREDENTIAL
        with pytest.raises(Unauthorized, match="token"):  # the service itself fails at that
            fts3.jobs.job(str(uuid.uuid4()))


def test_the_users_environment_is_used(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X509_USER_PROXY", str(double.proxy("alice")))
    context = easy.Context(double.url, capath=str(double.ca))
    assert easy.whoami(context)["user_dn"].endswith("CN=alice")


def test_a_server_that_our_authority_did_not_sign_is_refused(double: Double) -> None:
    pair = double.user()
    with pytest.raises(BadEndpoint) as caught:
        Context(double.url, str(pair.cert), str(pair.key)).get("/")
    assert caught.value.kind is Kind.PERMANENT


def test_an_expired_certificate_is_named_before_anything_is_sent(double: Double) -> None:
    double.user("alice")
    proxy = double.proxy("banme", seconds=-60)
    with pytest.raises(BadCredential, match="expired"):
        Context(double.url, str(proxy), capath=str(double.ca))


def test_a_lost_answer_makes_no_second_job(double: Double, fts3: Client, storage: WebDav) -> None:
    source, destination, _ = file_in(storage)
    sid = uuid.uuid4().hex
    job = new_job([new_transfer(source, destination)], id_generator="deterministic", sid=sid)
    fts3.delegation.delegate()
    double.fault("drop_answer", method="POST", path="/jobs", times=2)
    done = fts3.jobs.submit(job)
    assert (done.job_id, done.existed) == (fts3.jobs.expected_id(sid), True)
    ended(fts3, done.job_id)
    with pytest.raises(Conflict, match="sid"):
        fts3.jobs.submit(job)
    assert fts3.jobs.submit(job, adopt=True).job_id == done.job_id


def test_a_job_whose_id_nobody_knows_is_sent_once(double: Double, fts3: Client, storage: WebDav) -> None:
    source, destination, _ = file_in(storage)
    fts3.delegation.delegate()
    double.fault("drop_answer", method="POST", path="/jobs", times=9)

    def submitted() -> int:
        return len([one for one in double.requests() if one["method"] == "POST" and one["path"] == "/jobs"])

    sent = submitted()
    with pytest.raises(NoAnswer):
        fts3.jobs.submit(new_job([new_transfer(source, destination)]))
    eventually(lambda: submitted() > sent, what="the request in the log, which follows the answer")
    assert submitted() == sent + 1


def test_jobs_that_the_service_forgot_are_lost_and_the_others_are_kept(
    double: Double, fts3: Client, storage: WebDav
) -> None:
    ids = []
    for _ in range(3):
        source, destination, _ = file_in(storage)
        ids.append(fts3.jobs.submit(new_job([new_transfer(source, destination)])).job_id)
    for one in ids:
        ended(fts3, one)
    double.forget(ids[1])
    found = fts3.jobs.statuses(ids, ["file_state"])
    assert (sorted(found.jobs), found.missing) == (sorted([ids[0], ids[2]]), (ids[1],))
    files = found.jobs[ids[0]].files
    assert files is not None
    assert files[0].state is FileState.FINISHED
    with pytest.raises(NotFound) as caught:
        fts3.jobs.job(ids[1])
    assert caught.value.kind is Kind.LOST
    with pytest.raises(easy.PartialAnswer) as partial:
        easy.get_jobs_statuses(fts3.context, ids)
    assert len(partial.value.entries) == 2


def test_jobs_of_others_are_refused(double: Double, fts3: Client, storage: WebDav) -> None:
    source, destination, _ = file_in(storage)
    done = fts3.jobs.submit(new_job([new_transfer(source, destination)]))
    with client(double, "bob") as bob:
        assert list(bob.jobs.statuses([done.job_id]).refused) == [done.job_id]
        with pytest.raises(Unauthorized, match="Not enough permissions"):
            easy.cancel(bob.context, done.job_id)
    ended(fts3, done.job_id)


def test_jobs_and_files_are_canceled(double: Double, fts3: Client, storage: WebDav) -> None:
    double.settings(engine_paused=True)
    try:
        pairs = [file_in(storage) for _ in range(3)]
        files = [new_transfer(source, destination) for source, destination, _ in pairs]
        done = fts3.jobs.submit(new_job(files))
        ids = [one.file_id for one in fts3.jobs.files(done.job_id)]
        assert ids[0] is not None
        (one,) = fts3.jobs.cancel_files(done.job_id, [ids[0]])
        assert one.state is FileState.CANCELED
        assert fts3.jobs.set_priority([done.job_id], 5).jobs[done.job_id].priority == 5
        assert done.job_id in {job.job_id for job in fts3.jobs.list_jobs(state_in=["SUBMITTED"])}
        canceled = fts3.jobs.cancel([done.job_id]).jobs[done.job_id]
        assert (canceled.state, canceled.unchanged) == (JobState.CANCELED, False)
        assert fts3.jobs.cancel([done.job_id]).jobs[done.job_id].unchanged
        assert done.job_id in {job.job_id for job in fts3.jobs.list_jobs(state_in=["CANCELED"])}
    finally:
        double.settings(engine_paused=False)


def test_a_storage_is_banned_and_comes_back(double: Double, fts3: Client, storage: WebDav) -> None:
    element = storage_element(storage.url())
    source, destination, _ = file_in(storage)
    job = new_job([new_transfer(source, destination)])
    with client(double, "admin") as admin:
        with pytest.raises(Unauthorized):
            fts3.bans.ban_se(element)
        admin.bans.ban_se(element, "wait")
        try:
            with pytest.raises(Unauthorized) as caught:
                fts3.jobs.submit(job)
            assert caught.value.kind is Kind.BANNED
            assert [one["se"] for one in admin.bans.banned_ses()] == [element]
        finally:
            admin.bans.unban_se(element)
    assert ended(fts3, fts3.jobs.submit(job).job_id).state is JobState.FINISHED


def test_a_banned_user_is_told_so(double: Double) -> None:
    with client(double, "banme") as banned, client(double, "admin") as admin:
        dn = banned.whoami().user_dn
        admin.bans.ban_dn(dn)
        with pytest.raises(Unauthorized, match="banned") as caught:
            banned.whoami()
        assert caught.value.kind is Kind.BANNED
        admin.bans.unban_dn(dn)
        assert banned.whoami().user_dn == dn
        with pytest.raises(Conflict):
            admin.bans.ban_dn(admin.whoami().user_dn)


def test_the_service_is_configured(double: Double) -> None:
    with client(double, "admin") as admin:
        config = admin.config
        config.set_link("a-b", "davs://a", "davs://b", min_active=1, max_active=2)
        assert config.link("a-b")["max_active"] == 2
        config.set_share("davs://a", "davs://b", "farm", 60)
        with pytest.raises(ClientError, match="link"):
            config.set_share("davs://x", "davs://y", "farm", 60)
        config.delete_share("davs://a", "davs://b", "farm")
        config.delete_link("a-b")
        with pytest.raises(NotFound):
            config.link("a-b")
        config.set_storage("davs://a", {"inbound_max_active": 7})
        assert config.storages("davs://a")["davs://a"]["se_info"]["inbound_max_active"] == 7
        config.delete_storage("davs://a")
        config.set_activity_shares("farm", {"High": 0.7, "default": 0.3})
        assert config.activity_shares()["farm"]["share"] == {"High": 0.7, "default": 0.3}
        config.delete_activity_shares("farm")
        config.set_global(retry=2)
        assert config.global_settings()["*"]["retry"] == 2
        assert config.audit()


def test_files_at_a_storage_are_reached_through_the_service(fts3: Client, storage: WebDav) -> None:
    source, _, _ = file_in(storage, b"12345")
    fts3.delegation.delegate()
    assert fts3.storage.stat(source).size == 5
    fts3.storage.mkdir(storage.url("made"))
    fts3.storage.rename(source, storage.url("made/moved"))
    assert set(fts3.storage.list(storage.url("made"))) == {"moved"}
    fts3.storage.unlink(storage.url("made/moved"))
    fts3.storage.rmdir(storage.url("made"))
    assert not (storage.root / "made").exists()
    with pytest.raises(NotFound):
        fts3.storage.stat(source)


def test_a_service_that_comes_back_is_used_again(double: Double, fts3: Client, storage: WebDav) -> None:
    source, destination, copy = file_in(storage)
    job_id = fts3.jobs.submit(new_job([new_transfer(source, destination)])).job_id
    double.kill()
    with pytest.raises(BadEndpoint) as caught:
        fts3.jobs.job(job_id)
    assert caught.value.kind is Kind.RETRYABLE
    double.start()
    assert ended(fts3, job_id).state is JobState.FINISHED
    assert copy.exists()


def test_pages_of_errors_and_broken_answers_are_survived(double: Double, fts3: Client) -> None:
    fts3.whoami()
    double.fault("status", path="/whoami", status=503)
    double.fault("cut_body", path="/whoami", bytes=20)
    assert fts3.whoami().user_dn.endswith("CN=alice")
    double.fault("status", path="/whoami", status=500)
    with pytest.raises(easy.ServerError) as caught:
        fts3.whoami()
    assert "<" not in str(caught.value)


def test_threads_share_one_client(fts3: Client, storage: WebDav) -> None:
    def copy(_: int) -> JobState:
        source, destination, _path = file_in(storage)
        job = new_job([new_transfer(source, destination)])
        return ended(fts3, fts3.jobs.submit(job, fresh=False).job_id).state

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(copy, range(8))) == [JobState.FINISHED] * 8


def test_a_script_of_the_bindings_runs(double: Double, storage: WebDav) -> None:
    pair = double.user()
    source, destination, copy = file_in(storage)
    context = easy.Context(double.url, str(pair.cert), str(pair.key), verify=True, capath=str(double.ca))
    assert context.get_endpoint_info()["url"] == double.url
    easy.delegate(context, lifetime=timedelta(hours=48), force=False)
    transfer = easy.new_transfer(source, destination, filesize=7)
    job_id = easy.submit(context, easy.new_job([transfer], verify_checksum=True, overwrite=True))
    eventually(lambda: easy.get_job_status(context, job_id)["job_state"] == "FINISHED")
    assert copy.exists()
    status = easy.get_job_status(context, job_id, list_files=True)
    assert [one["file_state"] for one in status["files"]] == ["FINISHED"]
    (short,) = easy.get_jobs_statuses(context, [job_id], list_files=True)
    assert short["files"][0]["dest_surl"] == destination
    assert easy.cancel(context, job_id)["http_status"].startswith("304")
    assert job_id not in [one["job_id"] for one in easy.list_jobs(context)]
