"""Looking, deleting, moving and making directories at real storages: over WebDAV and through the service."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fts3_double.run import Double, WebDav, start_double, start_webdav

from agent.engines.fts3.destination import ExistsError, NotEmptyError, PermissionRefusedError, Root, Stat
from agent.engines.fts3.dm import ServiceStorage
from agent.engines.fts3.urls import join
from agent.engines.fts3.webdav import BusyError, Destination, open_destination, tree
from agent.fts3 import Client, Context, Retries
from agent.fts3.credentials import Certificate, Token
from agent.model.outcome import (
    AuthenticationError,
    NotFoundError,
    PermanentError,
    UnreachableError,
)

pytestmark = pytest.mark.e2e

ODD = [
    "plain.txt",
    "two words",
    "100%",
    "100%25",
    "a#b?c&d",
    "é",
    "semi;colon=1",
    "a+b",
    "back\\slash",
    "...",
]
QUICK = Retries(attempts=2, interval=0.01, max_interval=0.02)

Open = Callable[[str], Destination]


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    with start_double(tmp_path_factory.mktemp("fts3") / "double") as running:
        yield running


@pytest.fixture(scope="module")
def dav(double: Double, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDav]:
    folder = tmp_path_factory.mktemp("fts3") / "dav"
    with start_webdav(folder, pki=double.pki, require_certificate=True) as running:
        yield running


@pytest.fixture
def storage(dav: WebDav) -> WebDav:
    dav.clear()
    return dav


def certificate(double: Double, name: str = "alice") -> Certificate:
    pair = double.user(name)
    return Certificate(str(pair.cert), str(pair.key))


@pytest.fixture
def service(double: Double) -> Iterator[Client]:
    who = certificate(double)
    with Client(Context(double.url, who.cert, who.key, capath=str(double.ca), retries=QUICK)) as client:
        client.delegation.delegate()
        yield client


@pytest.fixture(params=["webdav", "service"])
def at(request: pytest.FixtureRequest, double: Double, service: Client) -> Open:
    """Both ways to the same storage."""
    if request.param == "webdav":
        return lambda url: open_destination(url, certificate(double), verify=str(double.ca))
    return lambda url: ServiceStorage(Root(url), service)


@pytest.mark.parametrize("name", ODD)
def test_a_file_of_any_name_is_seen_moved_and_deleted(storage: WebDav, at: Open, name: str) -> None:
    (storage.root / "in").mkdir()
    (storage.root / "in" / name).write_bytes(b"hello")
    os.utime(storage.root / "in" / name, (1_700_000_000, 1_700_000_000))
    destination, url = at(storage.url("in")), join(storage.url("in"), name)
    assert destination.stat(url) == Stat(url, 5, 1_700_000_000, False)
    assert [one.url for one in destination.listing(storage.url("in"))] == [url]
    destination.move(url, storage.url("in/moved"))
    assert destination.stat(url) is None
    destination.move(storage.url("in/moved"), url)
    assert destination.delete(url) is True
    assert destination.delete(url) is False
    assert not list((storage.root / "in").iterdir())


def test_directories_are_made_with_parents_and_deleted_when_empty(storage: WebDav, at: Open) -> None:
    destination, deep = at(storage.url("new")), storage.url("new/a%20b/c")
    for _ in range(2):
        destination.mkdir(deep)
    assert (storage.root / "new" / "a b" / "c").is_dir()
    with pytest.raises(NotEmptyError):
        destination.rmdir(storage.url("new/a%20b"))
    assert (storage.root / "new" / "a b" / "c").is_dir()
    assert destination.rmdir(deep) is True
    assert destination.rmdir(deep) is False
    assert destination.rmdir(storage.url("new/a%20b")) is True
    assert not list((storage.root / "new").iterdir())


def test_what_is_in_the_way_is_named_and_left_alone(storage: WebDav, at: Open) -> None:
    (storage.root / "top" / "folder").mkdir(parents=True)
    (storage.root / "top" / "folder" / "kept").write_text("kept")
    (storage.root / "top" / "file").write_text("file")
    destination = at(storage.url("top"))
    folder, file = storage.url("top/folder"), storage.url("top/file")
    for act in (
        lambda: destination.delete(folder),
        lambda: destination.rmdir(file),
        lambda: destination.mkdir(file),
        lambda: destination.mkdir(file + "/below"),
        lambda: destination.move(file, folder + "/kept"),
        lambda: destination.move(file, folder),
    ):
        with pytest.raises(ExistsError):
            act()
    with pytest.raises(NotFoundError):
        destination.listing(storage.url("top/nothing"))
    with pytest.raises(NotFoundError):
        destination.move(storage.url("top/nothing"), storage.url("top/new"))
    assert (storage.root / "top" / "folder" / "kept").read_text() == "kept"
    assert (storage.root / "top" / "file").read_text() == "file"


def test_a_tree_is_listed_whole(storage: WebDav, at: Open) -> None:
    for path in ("a/1", "a/b/2", "c/3"):
        (storage.root / "top" / path).parent.mkdir(parents=True, exist_ok=True)
        (storage.root / "top" / path).write_bytes(b"x" * int(path[-1]))
    root = storage.url("top")
    found = {one.url.removeprefix(root): one.size for one in tree(at(root), root)}
    assert found == {"/a": None, "/c": None, "/a/1": 1, "/a/b": None, "/a/b/2": 2, "/c/3": 3}


def test_the_storage_is_left_for_a_while(double: Double, storage: WebDav, service: Client) -> None:
    """What is no answer is no "nothing there"."""
    url = storage.url("top/a")
    direct = open_destination(storage.url("top"), certificate(double), verify=str(double.ca))
    storage.fault("status", status=503, times=3, method="PROPFIND")
    with pytest.raises(BusyError):
        direct.stat(url)
    storage.clear_faults()
    double.fault("status", status=503, path="/dm/*", times=2)
    with pytest.raises(BusyError):
        ServiceStorage(Root(storage.url("top")), service).stat(url)
    assert direct.stat(url) is None


def test_a_lost_answer_is_told_and_the_next_call_finds_it_done(double: Double, storage: WebDav) -> None:
    (storage.root / "top").mkdir()
    (storage.root / "top" / "a").write_text("a")
    destination = open_destination(storage.url("top"), certificate(double), verify=str(double.ca))
    storage.fault("drop_answer", method="DELETE")
    with pytest.raises(UnreachableError):
        destination.delete(storage.url("top/a"))
    assert destination.delete(storage.url("top/a")) is False
    deletions = [one for one in storage.requests() if one["method"] == "DELETE"]
    assert len(deletions) == 1


def test_a_restarted_storage_is_found_again(double: Double, tmp_path: Path) -> None:
    with start_webdav(tmp_path / "dav", pki=double.pki) as storage:
        destination = open_destination(storage.url("top"), None, verify=str(double.ca))
        destination.mkdir(storage.url("top"))
        storage.stop()
        with pytest.raises(UnreachableError):
            destination.stat(storage.url("top"))
        storage.start()
        assert destination.stat(storage.url("top")) is not None


def test_who_may_look(double: Double, storage: WebDav, tmp_path: Path) -> None:
    """Nobody, a token, an expired certificate and one of another authority."""
    root, ca = storage.url("top"), str(double.ca)
    with pytest.raises(AuthenticationError):
        open_destination(root, None, verify=ca).stat(root)
    with pytest.raises(PermissionRefusedError):
        open_destination(root, Token(lambda: "unknown"), verify=ca).stat(root)
    with pytest.raises(AuthenticationError, match="cannot be read"):
        open_destination(root, Certificate("/nonexistent", "/nonexistent"), verify=ca).stat(root)
    with pytest.raises(PermanentError, match="authority"):
        open_destination(root, certificate(double)).stat(root)
    with start_webdav(tmp_path / "dav", pki=double.pki, token="of the day") as other:
        held = ["of yesterday"]
        destination = open_destination(other.url("top"), Token(lambda: held[0]), verify=ca)
        with pytest.raises(AuthenticationError, match="no token"):
            destination.stat(other.url("top"))
        held[0] = "of-yesterday"
        with pytest.raises(PermissionRefusedError):
            destination.stat(other.url("top"))


def test_a_certificate_renewed_in_place_is_used(double: Double, storage: WebDav, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    destination = open_destination(
        storage.url("top"), Certificate(str(cert), str(key)), verify=str(double.ca)
    )
    for name in ("alice", "bob"):
        pair = double.user(name)
        cert.write_bytes(pair.cert.read_bytes())
        key.write_bytes(pair.key.read_bytes())
        assert destination.stat(storage.url("top")) is None
    users = [one["user"] for one in storage.requests() if one["method"] == "PROPFIND"]
    assert [user.rpartition("CN=")[2] for user in users] == ["alice", "bob"]


def test_the_service_needs_a_delegation_to_look(double: Double, storage: WebDav) -> None:
    who = certificate(double, "carol")
    with Client(Context(double.url, who.cert, who.key, capath=str(double.ca), retries=QUICK)) as client:
        destination = ServiceStorage(Root(storage.url("top")), client)
        with pytest.raises(AuthenticationError, match="delegated"):
            destination.stat(storage.url("top"))
        client.delegation.delegate()
        assert destination.stat(storage.url("top")) is None


def test_many_threads_share_one_destination(double: Double, storage: WebDav) -> None:
    destination = open_destination(storage.url("top"), certificate(double), verify=str(double.ca))
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        url = storage.url(f"top/shared/{number}")
        destination.mkdir(url)
        assert destination.rmdir(url) is True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [None] * 8
    assert not list((storage.root / "top" / "shared").iterdir())


def test_a_name_that_is_no_utf_8_is_asked_for_as_its_bytes(double: Double, storage: WebDav) -> None:
    name = os.fsdecode(b"caf\xe9")
    (storage.root / "top").mkdir()
    (storage.root / "top" / name).write_text("latin")
    destination = open_destination(storage.url("top"), certificate(double), verify=str(double.ca))
    url = join(storage.url("top"), name)
    assert url.endswith("/caf%E9")
    assert destination.delete(url) is True
    assert not list((storage.root / "top").iterdir())
