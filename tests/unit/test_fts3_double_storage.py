"""The FTS3 double's storage, and copies between two of them while jobs are canceled or storages fail."""

from __future__ import annotations

import errno
import http.client
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fts3_double.caller import Caller, pair_of
from fts3_double.run import Double, WebDav, start_double, start_webdav
from fts3_double.storage import Storage, StorageError
from servers import eventually


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Double, Caller, WebDav]]:
    folder = tmp_path_factory.mktemp("fts3")
    with start_double(folder / "fts3") as double, start_webdav(folder / "plain") as storage:
        with Caller(double) as alice:
            alice.delegate()
            yield double, alice, storage


@pytest.fixture
def storage(shared: tuple[Double, Caller, WebDav]) -> WebDav:
    shared[2].clear()
    return shared[2]


@pytest.fixture
def double(shared: tuple[Double, Caller, WebDav]) -> Double:
    shared[0].reset()
    return shared[0]


@pytest.fixture
def alice(double: Double, shared: tuple[Double, Caller, WebDav]) -> Caller:
    return shared[1]


@pytest.fixture
def client() -> Iterator[Storage]:
    with Storage("") as opened:
        yield opened


def put(storage: WebDav, path: str, data: bytes = b"content") -> str:
    file = storage.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return storage.url(path)


# ---------------------------------------------------------------------- the storage


def test_what_is_written_is_read_again(storage: WebDav, client: Storage) -> None:
    url = storage.url("a/b/file with blank")
    client.make_parents(url)
    client.write(url, [b"one ", b"two"], 7)
    with client.read(url) as answer:
        assert answer.read() == b"one two"
    assert (client.stat(url).size, client.stat(url).folder) == (7, False)
    assert client.stat(storage.url("a/b")).folder


def test_checksums_are_those_of_the_content(storage: WebDav, client: Storage) -> None:
    url = put(storage, "a", b"\x00" * 3)
    assert client.checksum(url, "adler32") == f"{zlib.adler32(bytes(3)):x}"
    assert client.checksum(url, "md5") == "693e9af84d3dfcc71e640e005bdc5e2e"
    with pytest.raises(StorageError) as raised:
        client.checksum(url, "sha999")
    assert raised.value.number == errno.EOPNOTSUPP


def test_a_listing_has_files_and_folders(storage: WebDav, client: Storage) -> None:
    put(storage, "d/file ä", b"12")
    put(storage, "d/sub/x")
    found = client.listing(storage.url("d"))
    assert [(e.name, e.size, e.folder) for e in found] == [("file ä", 2, False), ("sub", 0, True)]


def test_a_move_replaces_what_was_there(storage: WebDav, client: Storage) -> None:
    client.move(put(storage, "new", b"new"), put(storage, "old", b"old"))
    assert (storage.root / "old").read_bytes() == b"new"
    assert not (storage.root / "new").exists()


@pytest.mark.parametrize(
    ("method", "path", "number"),
    [
        ("HEAD", "none", errno.ENOENT),
        ("DELETE", "none", errno.ENOENT),
        ("MKCOL", "none/sub", errno.ENOENT),
        ("MKCOL", "there", errno.EEXIST),
        ("PUT", "none/file", errno.ENOENT),
        ("PATCH", "there", errno.EEXIST),
    ],
)
def test_refusals_have_numbers(storage: WebDav, client: Storage, method: str, path: str, number: int) -> None:
    put(storage, "there/x")
    with pytest.raises(StorageError) as raised:
        client._ask(method, storage.url(path))
    assert raised.value.number == number


def test_a_path_does_not_leave_the_root(storage: WebDav, tmp_path: Path) -> None:
    secret = storage.root.parent / "secret"
    secret.write_text("secret")
    (storage.root / "link").symlink_to(secret)
    connection = http.client.HTTPConnection("localhost", storage.port, timeout=20)
    for path in ("/../secret", "/%2e%2e/secret", "/link"):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (403, b"")
    connection.close()
    secret.unlink()


def test_a_storage_that_is_not_there_is_told_with_its_errno(client: Storage) -> None:
    with pytest.raises(StorageError) as raised:
        client.stat("http://localhost:1/x")
    assert raised.value.number == errno.ECONNREFUSED


# ---------------------------------------------------------------------- copies


def slow_copy(double: Double, alice: Caller, storage: WebDav) -> str:
    """A job of one file of which a part is there already."""
    double.fault("slow", rate=200_000)
    job_id = alice.submit(pair_of(put(storage, "a", b"x" * 200_000), storage.url("b")))
    eventually(lambda: (storage.root / "b").exists())
    return job_id


def test_a_file_that_is_canceled_alone_still_arrives(double: Double, alice: Caller, storage: WebDav) -> None:
    job_id = slow_copy(double, alice, storage)
    file_id = alice.files(job_id)[0]["file_id"]
    assert alice.ask("DELETE", f"/jobs/{job_id}/files/{file_id}").json() == "CANCELED"
    eventually(lambda: (storage.root / "b").stat().st_size == 200_000)
    assert alice.ended(job_id)["files"][0]["file_state"] == "CANCELED"


def test_a_ban_with_cancel_does_not_stop_a_copy_under_way(
    double: Double, alice: Caller, storage: WebDav
) -> None:
    job_id = slow_copy(double, alice, storage)
    with Caller(double, "admin") as admin:
        banned = {"storage": "dav://localhost", "status": "cancel"}
        assert admin.ask("POST", "/ban/se", json=banned).json() == [job_id]
    eventually(lambda: (storage.root / "b").stat().st_size == 200_000)
    assert alice.ended(job_id)["job_state"] == "CANCELED"


def test_a_copy_of_a_job_that_was_forgotten_ends(double: Double, alice: Caller, storage: WebDav) -> None:
    double.fault("slow", rate=10_000)
    alice.submit(pair_of(put(storage, "a", b"x" * 1_000_000), storage.url("b")))
    eventually(lambda: (storage.root / "b").exists())
    double.forget()
    eventually(lambda: not (storage.root / "b").exists())


def test_a_strict_copy_looks_at_nothing(alice: Caller, storage: WebDav) -> None:
    pair = pair_of(put(storage, "a", b"new"), put(storage, "b", b"old"), checksum="ADLER32:1")
    ended = alice.ended(alice.submit(pair, strict_copy=True))
    assert (ended["job_state"], (storage.root / "b").read_bytes()) == ("FINISHED", b"new")
    assert {r["method"] for r in storage.requests()} == {"GET", "PUT"}


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"method": "HEAD", "path": "/a", "status": 503}, "SOURCE [5] Result HTTP 503"),
        ({"method": "PUT", "path": "/b", "status": 507}, "TRANSFER [28] Result HTTP 507"),
        ({"method": "PUT", "path": "/b", "status": 403}, "TRANSFER [17] TRANSFER ERROR: Copy failed"),
    ],
)
def test_a_storages_refusal_is_told_with_its_side(
    alice: Caller, storage: WebDav, rule: dict[str, object], reason: str
) -> None:
    source = put(storage, "a")
    storage.fault("status", **rule)
    ended = alice.ended(alice.submit(pair_of(source, storage.url("b"))))
    assert ended["files"][0]["reason"].startswith(reason)


def test_a_storage_that_fails_once_is_tried_again(alice: Caller, storage: WebDav) -> None:
    source = put(storage, "a")
    storage.fault("status", method="PUT", status=503)
    ended = alice.ended(alice.submit(pair_of(source, storage.url("b")), retry=2, retry_delay=1))
    assert (ended["job_state"], ended["files"][0]["retry"]) == ("FINISHED", 1)
    assert (storage.root / "b").read_bytes() == b"content"
