"""Requests to the FTS3 service over real sockets: TLS, kept connections, bounded answers."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from unit.fts3_service import (
    CUT,
    ENDPOINT,
    NOBODY,
    QUICK,
    WHOAMI,
    Naps,
    Pair,
    Reply,
    Service,
    authority,
    ec_key,
    host,
    serving,
    user,
)

from agent.fts3 import (
    BadCredential,
    BadEndpoint,
    Client,
    Context,
    Kind,
    Limits,
    NoAnswer,
    Retries,
    ServerError,
    TryAgain,
    Unauthorized,
)

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as running:
        yield running


def context(service: Service, **options: object) -> Context:
    return Context(service.url, no_creds=True, **{"retries": QUICK, **options})  # type: ignore[arg-type]


class Pki:
    """An authority, a server that asks for certificates it signed, and its user alice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = authority(NOW)
        self.ca = self.authority.write(folder, "ca")[0]
        self.other_ca = authority(NOW).write(folder, "other")[0]
        self.server = host(self.authority, ec_key(), NOW).write(folder, "host")
        self.alice = self.user("alice").write(folder, "alice")

    def user(self, name: str) -> Pair:
        return user(self.authority, ec_key(), NOW - DAY, NOW + DAY, name)

    def tls(self, *, wanted: ssl.VerifyMode = ssl.CERT_OPTIONAL) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*self.server)
        made.load_verify_locations(self.ca)
        made.verify_mode = wanted
        return made


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def secure(pki: Pki) -> Iterator[Service]:
    with serving(pki.tls()) as running:
        yield running


def test_a_request_says_what_it_is_and_asks_for_json(service: Service) -> None:
    context(service).get("/whoami", {"a b": "c&d"})
    sent = service.requests[-1]
    assert sent.headers["accept"] == "application/json"
    assert sent.headers["user-agent"].startswith("lanesync-fts3/")
    assert (sent.path, sent.query) == ("/whoami", {"a b": "c&d"})
    assert "content-type" not in sent.headers
    assert "authorization" not in sent.headers


def test_one_connection_serves_many_requests(service: Service) -> None:
    service.script["GET /jobs"] = Reply(chunks=[b"[", b"]"])
    here = context(service)
    for path in ("/whoami", "/jobs", "/whoami", "/jobs"):
        here.get(path)
    assert len({one.peer for one in service.requests}) == 1


def test_threads_do_not_share_connections(service: Service) -> None:
    here, together = context(service), threading.Barrier(4)

    def ask(_: int) -> object:
        together.wait(10)
        return [here.get("/whoami") for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert answers == [[WHOAMI] * 5] * 4
    assert len({one.peer for one in service.requests}) == 4


def test_closing_drops_connections_and_a_later_call_opens_new_ones(service: Service) -> None:
    with context(service) as here:
        here.get("/whoami")
    here.get("/whoami")
    assert len({one.peer for one in service.requests}) == 2


def test_the_certificate_is_shown_on_every_call(secure: Service, pki: Pki) -> None:
    with Context(secure.url, *pki.alice, capath=pki.ca) as here:
        here.get("/whoami")
        here.get("/whoami")
    names = [
        dict(pair[0] for pair in one.certificate["subject"]) for one in secure.requests if one.certificate
    ]
    assert [one["commonName"] for one in names] == ["alice", "alice"]


def test_a_renewed_certificate_is_used_without_a_restart(secure: Service, pki: Pki, tmp_path: Path) -> None:
    """And what was known of the former user is forgotten."""
    paths = pki.user("before").write(tmp_path, "u")
    with Client(Context(secure.url, *paths, capath=pki.ca)) as fts3:
        fts3.whoami()
        assert fts3.context.memory.whoami is not None
        pki.user("afterwards").write(tmp_path, "u")
        fts3.context.get("/")
        assert fts3.context.memory.whoami is None
    shown = [str(one.certificate) for one in secure.requests]
    assert "before" in shown[0]
    assert "afterwards" in shown[1]


def test_a_certificate_that_goes_away_is_told_so(secure: Service, pki: Pki, tmp_path: Path) -> None:
    cert, key = pki.user("short-lived").write(tmp_path, "u")
    here = Context(secure.url, cert, key, capath=pki.ca)
    here.get("/whoami")
    os.unlink(cert)
    with pytest.raises(BadCredential, match="u-cert"):
        here.get("/whoami")


def test_an_http_proxy_of_the_environment_is_used_unless_exempt(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(BadEndpoint, match="HTTP proxy"):
        context(service).get("/whoami")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert context(service).get("/whoami") == WHOAMI


def test_an_authority_in_the_environment_does_not_override_ours(
    secure: Service, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", pki.ca)
    monkeypatch.setenv("CURL_CA_BUNDLE", pki.ca)
    with pytest.raises(BadEndpoint, match="capath") as caught:
        Context(secure.url, *pki.alice, capath=pki.other_ca).get("/whoami")
    assert caught.value.kind is Kind.PERMANENT
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", pki.other_ca)
    monkeypatch.setenv("CURL_CA_BUNDLE", pki.other_ca)
    assert Context(secure.url, *pki.alice, capath=pki.ca).get("/whoami") == WHOAMI
    with pytest.raises(BadEndpoint, match="capath"):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", pki.ca)
        Context(secure.url, *pki.alice).get("/whoami")


def test_a_directory_of_authorities_is_used(
    secure: Service, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["openssl", "x509", "-hash", "-noout", "-in", pki.ca]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    os.symlink(pki.ca, tmp_path / f"{name}.0")
    assert Context(secure.url, no_creds=True, capath=str(tmp_path)).get("/whoami") == WHOAMI
    monkeypatch.setenv("X509_CERT_DIR", str(tmp_path))
    assert Context(secure.url, no_creds=True).get("/whoami") == WHOAMI


def test_only_verify_false_trusts_a_server_that_nobody_signed(secure: Service, pki: Pki) -> None:
    with pytest.warns(Warning, match="Unverified"):
        assert Context(secure.url, *pki.alice, verify=False).get("/whoami") == WHOAMI


def test_a_server_by_another_name_is_refused(pki: Pki, tmp_path: Path) -> None:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*pki.user("no host").write(tmp_path, "no-host"))
    with serving(made) as service, pytest.raises(BadEndpoint, match="capath") as caught:
        Context(service.url, *pki.alice, capath=pki.ca, retries=QUICK).get("/")
    assert caught.value.kind is Kind.PERMANENT


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_the_server_does_not_take_is_told_apart(
    pki: Pki, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """TLS 1.3 has no handshake left to fail in: the server may be gone before its alert is read."""
    stranger = user(authority(NOW), ec_key(), NOW - DAY, NOW + DAY).write(tmp_path, "stranger")
    tls = pki.tls(wanted=ssl.CERT_REQUIRED)
    tls.maximum_version = version
    with serving(tls) as service, pytest.raises((BadCredential, NoAnswer), match="our certificate") as caught:
        Context(service.url, *stranger, capath=pki.ca, retries=QUICK).get("/whoami")
    if version is ssl.TLSVersion.TLSv1_2:
        assert isinstance(caught.value, BadCredential)
        assert caught.value.kind is Kind.NEEDS_CREDENTIAL


def test_a_token_goes_into_each_request_and_a_netrc_file_does_not_replace_it(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    words = iter(["one", "two"])
    here = Context(service.url, fts_access_token=lambda: next(words))
    here.get("/whoami")
    here.get("/whoami")
    assert [one.headers["authorization"] for one in service.requests] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("status", [403, 500])
def test_a_token_that_is_not_accepted_is_told_from_a_missing_right(service: Service, status: int) -> None:
    service.script["GET /jobs"] = Reply({"message": "Not enough permissions"}, status)
    here = Context(service.url, fts_access_token="token", retries=QUICK)
    with pytest.raises((Unauthorized, ServerError), match="Not enough permissions"):
        here.get("/jobs")
    service.script["GET /whoami"] = Reply(NOBODY)
    with pytest.raises(Unauthorized, match="does not accept the bearer token") as caught:
        here.get("/jobs")
    assert caught.value.kind is Kind.NEEDS_CREDENTIAL
    service.script["GET /whoami"] = Reply({"message": "busy"}, 500)
    with pytest.raises((Unauthorized, ServerError), match="Not enough permissions"):
        here.get("/jobs")


def test_a_redirect_is_not_followed(service: Service) -> None:
    with serving() as other:
        service.script["GET /whoami"] = Reply(status=302, headers={"Location": f"{other.url}/whoami"})
        with pytest.raises(BadEndpoint, match="redirects"):
            Context(service.url, fts_access_token="secret").get("/whoami")
        assert other.requests == []


def test_an_answer_that_is_too_long_is_given_up(service: Service) -> None:
    service.script["GET /jobs"] = Reply(chunks=[b"x" * 5000] * 3)
    with pytest.raises(ServerError, match="more than 10000 bytes") as caught:
        context(service, limits=Limits(answer_bytes=10_000)).get("/jobs")
    assert caught.value.kind is Kind.PERMANENT


def test_an_answer_that_stops_half_way_is_given_up(service: Service) -> None:
    stop = threading.Event()
    service.script["GET /jobs"] = Reply([], hang=stop)
    with pytest.raises(NoAnswer):
        context(service, limits=Limits(read=0.05)).get("/jobs")
    stop.set()


def test_an_answer_may_not_take_for_ever_however_steadily_it_comes(service: Service) -> None:
    service.script["GET /jobs"] = Reply(chunks=[b"[", b"]"])
    with pytest.raises(NoAnswer, match="longer than"):
        context(service, limits=Limits(answer=-1.0)).get("/jobs")


def test_an_answer_that_breaks_off_is_no_answer(service: Service) -> None:
    service.script["GET /jobs"] = Reply(b'[{"job_id": "1"}', length=400)
    with pytest.raises(NoAnswer, match="ended before"):
        context(service).get("/jobs")
    service.script["GET /number"] = Reply(b"12", length=3)
    with pytest.raises(NoAnswer, match="ended before"):
        context(service).get("/number")


def test_an_answer_with_too_large_a_length_counts_if_it_is_whole(service: Service) -> None:
    """The service answers some changes of its configuration so."""
    service.script["GET /config/global"] = Reply({"*": {}}, length=400)
    assert context(service).get("/config/global") == {"*": {}}


def test_a_get_is_repeated_until_it_works(service: Service) -> None:
    service.script["GET /whoami"] = [CUT, Reply({"message": "busy"}, 503), Reply(WHOAMI)]
    assert context(service).get("/whoami") == WHOAMI
    assert len(service.requests) == 3


def test_a_get_whose_answer_breaks_off_is_repeated(service: Service) -> None:
    service.script["GET /whoami"] = [Reply(b'{"user_dn": "/DC=tes', length=379), Reply(WHOAMI)]
    assert context(service).get("/whoami") == WHOAMI


def test_a_pause_follows_what_the_server_wishes(service: Service) -> None:
    naps = Naps(draw=0.0)
    service.script["GET /whoami"] = [
        Reply({"message": "busy"}, 503, {"Retry-After": "7"}),
        Reply({"message": "busy"}, 503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}),
        Reply(WHOAMI),
    ]
    context(service, runtime=naps.runtime, retries=Retries()).get("/whoami")
    assert naps.slept == [7.0, 0.0]


def test_after_the_last_attempt_the_error_is_raised(service: Service) -> None:
    service.script["GET /whoami"] = Reply({"message": "busy"}, 503)
    with pytest.raises(TryAgain, match="busy"):
        context(service).get("/whoami")
    assert len(service.requests) == QUICK.attempts


@pytest.mark.parametrize("reply", [CUT, Reply({"message": "busy"}, 503)])
def test_what_may_have_been_done_is_not_done_again(service: Service, reply: Reply) -> None:
    service.script["POST /ban/se"] = reply
    with pytest.raises((NoAnswer, TryAgain)):
        context(service).post("/ban/se", {})
    assert service.asked() == ["POST /ban/se"]


def test_nobody_listening_is_told_so(service: Service) -> None:
    here = context(service)
    service.close()
    with pytest.raises(BadEndpoint, match="nothing answers") as caught:
        here.get("/whoami")
    assert not isinstance(caught.value, NoAnswer)
    assert caught.value.kind is Kind.RETRYABLE


def test_a_host_that_nobody_knows_is_told_so() -> None:
    with pytest.raises(BadEndpoint, match="not known"):
        Context("https://nobody.invalid:8446", no_creds=True, retries=QUICK).get("/")


@pytest.mark.parametrize("body", [b"<html><title>Welcome</title></html>", b"[]", b"{}", b""])
def test_something_else_that_answers_is_no_endpoint(service: Service, body: bytes) -> None:
    service.script["GET /"] = Reply(body)
    with pytest.raises(BadEndpoint, match="not like an FTS3") as caught:
        context(service).get_endpoint_info()
    assert caught.value.kind is Kind.PERMANENT


def test_the_endpoint_is_asked_once(service: Service) -> None:
    here = context(service)
    assert here.get_endpoint_info() == {**ENDPOINT, "url": service.url}
    here.get_endpoint_info().clear()
    assert here.get_endpoint_info()["api"]["minor"] == 13
    assert service.asked() == ["GET /"]


def test_what_is_no_json_is_an_error_without_its_markup(service: Service) -> None:
    service.script["GET /jobs"] = Reply("<html>hello</html>")
    with pytest.raises(ServerError, match="no JSON") as caught:
        context(service).get("/jobs")
    assert "<" not in str(caught.value)


def test_a_token_appears_in_no_error(service: Service) -> None:
    for reply in (CUT, Reply({"message": "no"}, 403), Reply(b"x" * 99, 500), Reply("<p>no</p>", 400)):
        service.script["GET /jobs"] = reply
        with pytest.raises(Exception) as caught:
            Context(service.url, fts_access_token="s3cret", retries=QUICK).get("/jobs")
        seen = [str(caught.value), repr(caught.value), str(caught.value.__cause__)]
        assert not any("s3cret" in one for one in seen)
