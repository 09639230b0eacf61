"""Which credential is used with the FTS3 service, and what is said when it cannot be."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from unit.fts3_service import NOW, Pair, authority, ec_key, rsa_key, user

from agent.fts3 import BadCredential, BadEndpoint, Context, Kind
from agent.fts3.credentials import Certificate, Token, discover, given

UID = os.geteuid()


@pytest.fixture(scope="module")
def signer() -> Pair:
    return authority(NOW)


@pytest.fixture
def alice(signer: Pair) -> Pair:
    return user(signer, ec_key(), NOW - timedelta(days=1), NOW + timedelta(days=1))


def private(path: Path, text: str = "") -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_of_what_is_given_the_token_wins_as_on_the_server() -> None:
    found = given("cert.pem", "key.pem", "secret")
    assert isinstance(found, Token)
    assert found.header() == "Bearer secret"
    assert given("cert.pem", None, None) == Certificate("cert.pem", "cert.pem")
    assert given(None, None, None) is None
    with pytest.raises(BadCredential):
        given(None, "key.pem", None)


def test_the_environment_is_looked_at_in_the_grids_order(tmp_path: Path) -> None:
    folder = str(tmp_path)
    proxy_file = private(tmp_path / f"x509up_u{UID}")
    token_file = private(tmp_path / f"bt_u{UID}", "from-default-file\n")
    named = private(tmp_path / "named", "from-named-file\n")
    environ = {
        "X509_USER_PROXY": "/p",
        "X509_USER_CERT": "/c",
        "X509_USER_KEY": "/k",
        "BEARER_TOKEN": "from-variable",
        "BEARER_TOKEN_FILE": named,
    }
    assert discover(environ, UID, folder) == Certificate("/p", "/p")
    del environ["X509_USER_PROXY"]
    assert discover(environ, UID, folder) == Certificate("/c", "/k")
    del environ["X509_USER_KEY"]
    assert discover(environ, UID, folder) == Certificate("/c", "/c")
    del environ["X509_USER_CERT"]
    for name, word in (("BEARER_TOKEN", "from-variable"), ("BEARER_TOKEN_FILE", "from-named-file")):
        found = discover(environ, UID, folder)
        assert isinstance(found, Token)
        assert found.header() == f"Bearer {word}"
        del environ[name]
    assert discover(environ, UID, folder) == Certificate(proxy_file, proxy_file)
    os.unlink(proxy_file)
    found = discover(environ, UID, folder)
    assert isinstance(found, Token)
    assert found.header() == "Bearer from-default-file"
    os.unlink(token_file)
    assert discover(environ, UID, folder) is None


def test_a_default_file_that_others_can_read_or_placed_is_not_used(tmp_path: Path) -> None:
    path = Path(private(tmp_path / f"x509up_u{UID}"))
    path.chmod(0o644)
    assert discover({}, UID, str(tmp_path)) is None
    path.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o600)
    path.symlink_to(tmp_path / "elsewhere")
    assert discover({}, UID, str(tmp_path)) is None


def test_a_token_is_read_anew_each_time_and_never_shown() -> None:
    words = iter(["one", "two\n"])
    token = Token(lambda: next(words))
    assert (token.header(), token.header()) == ("Bearer one", "Bearer two")
    assert "secret" not in repr(Token(lambda: "secret"))


@pytest.mark.parametrize("odd", ["", " ", "a b", "a\nb", "ä", "a\x00"])
def test_what_is_no_token_does_not_become_a_header(odd: str) -> None:
    with pytest.raises(BadCredential) as caught:
        Token(lambda: odd).header()
    assert not odd.strip() or odd not in str(caught.value)


def test_a_chain_is_read_with_its_key_between(tmp_path: Path, signer: Pair, alice: Pair) -> None:
    """A proxy file: certificate, key, then the certificates above."""
    path = tmp_path / "proxy"
    path.write_bytes(alice.pem() + alice.key_pem() + signer.pem())
    loaded = Certificate(str(path), str(path)).load(NOW)
    assert loaded.chain == (alice.certificate, signer.certificate)
    assert loaded.ends == alice.certificate.not_valid_after_utc


def test_each_thing_wrong_with_a_certificate_is_told_apart(tmp_path: Path, signer: Pair, alice: Pair) -> None:
    cert, key = alice.write(tmp_path, "alice")
    other_key = user(signer, ec_key(), NOW - timedelta(1), NOW + timedelta(1)).write(tmp_path, "other")[1]
    encrypted = tmp_path / "encrypted"
    encrypted.write_bytes(alice.key_pem(b"secret"))
    damaged = tmp_path / "damaged"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "long").write_bytes(b"x" * (1024 * 1024 + 1))
    wrong = [
        (Certificate(str(tmp_path / "none"), key), "cannot be read"),
        (Certificate(cert, str(tmp_path / "none")), "cannot be read"),
        (Certificate(key, key), "no certificate"),
        (Certificate(cert, cert), "no private key"),
        (Certificate(str(damaged), key), "damaged"),
        (Certificate(cert, other_key), "does not belong"),
        (Certificate(cert, str(encrypted)), "encrypted"),
        (Certificate(str(tmp_path / "long"), key), "longer"),
    ]
    for certificate, word in wrong:
        with pytest.raises(BadCredential, match=word) as caught:
            certificate.load(NOW)
        assert caught.value.kind is Kind.NEEDS_CREDENTIAL
    with pytest.raises(BadCredential, match="expired"):
        Certificate(cert, key).load(NOW + timedelta(days=2))


def test_rsa_and_ec_keys_are_read(tmp_path: Path, signer: Pair) -> None:
    for name, key in (("rsa", rsa_key()), ("ec", ec_key())):
        pair = user(signer, key, NOW - timedelta(days=1), NOW + timedelta(days=1))
        assert Certificate(*pair.write(tmp_path, name)).load(NOW).key.public_key() == key.public_key()


def test_a_context_says_at_once_that_its_certificate_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadCredential):
        Context("https://localhost:8446", str(tmp_path / "none"))


@pytest.mark.parametrize(
    "odd",
    ["", "localhost:8446", "ftp://localhost", "https://", "https://h:port", "https://me:pw@h", "https://h/?a=b"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused(odd: str) -> None:
    with pytest.raises(BadEndpoint, match="https://host:port") as caught:
        Context(odd, no_creds=True)
    assert caught.value.kind is Kind.PERMANENT
    assert "pw" not in str(caught.value)


def test_another_machine_is_never_asked_without_tls() -> None:
    with pytest.raises(BadEndpoint, match="TLS"):
        Context("http://fts3.example.org:8446", fts_access_token="secret")


def test_authorities_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadEndpoint, match="nowhere"):
        Context("https://localhost:8446", no_creds=True, capath=str(tmp_path / "nowhere"))
    monkeypatch.setenv("X509_CERT_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(BadEndpoint, match="elsewhere"):
        Context("https://localhost:8446", no_creds=True)


def test_how_we_prove_ourselves(tmp_path: Path, alice: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    real_now = Certificate.load
    monkeypatch.setattr(Certificate, "load", lambda self, _now: real_now(self, NOW))
    cert, key = alice.write(tmp_path, "alice")
    url = "https://localhost:8446"
    assert Context(url, cert, key).access_method == "X509"
    assert Context(url, fts_access_token="t").access_method == "oauth2"
    assert Context(url, no_creds=True).access_method is None
    monkeypatch.setenv("X509_USER_CERT", cert)
    monkeypatch.setenv("X509_USER_KEY", key)
    assert Context(url).certificate == Certificate(cert, key)
    with pytest.raises(BadCredential):
        _ = Context(url, no_creds=True).certificate
