"""Users of one receiving server who try each other's files, transfers and rights, frame by frame."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import xxhash
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface, CommandError, constants
from agent.server import accounts
from agent.server.data import pack, wire
from agent.server.data.wire import Header, Kind, Stream, WireError

pytestmark = pytest.mark.fault

PASSWORDS = {"anna": "anna's words", "bert": "bert's words", "chief": "chief's words"}
UID = "5e" * 16
Credentials = dict[str, str]


class Place(NamedTuple):
    server: Server
    folder: Path
    homes: Path
    tokens: list[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Nobody dies, nothing appears but in the two homes, and no log tells what was shown."""
    folder = tmp_path_factory.mktemp("users")
    for user, password in PASSWORDS.items():
        accounts.add(folder / "accounts.json", user, password, superuser=user == "chief")
    homes = folder / "homes"
    homes.mkdir()
    options: dict[str, Any] = {"accounts": folder / "accounts.json", "sandbox_dir": f"{homes}/%u"}
    with start_server(folder / "s", **options) as server:
        made = Place(server, folder, homes, [])
        publish(made, "anna", "/warm", b"up")
        worker = server.worker("receiver")
        yield made
        assert server.worker("receiver") == worker
        assert sorted(os.listdir(folder)) == ["accounts.json", "homes", "s", "s.log"]
        assert set(os.listdir(homes)) <= set(PASSWORDS)
        log = server.log()
        assert "Traceback" not in log
        for secret in (*PASSWORDS.values(), *made.tokens):
            assert secret not in log


def as_user(user: str) -> Credentials:
    return {"user": user, "password": PASSWORDS[user]}


def login(place: Place, user: str) -> APIInterface:
    api = place.server.api()
    api.server.auth(user, PASSWORDS[user])
    return api


def connect(place: Place, session: str | None = None) -> Stream:
    """A session of its own unless it is named: one that has just ended may not know it yet."""
    session = session or os.urandom(8).hex()
    stream = Stream(socket.create_connection(("127.0.0.1", place.server.port), 20))
    stream.sock.sendall(wire.PREAMBLE)
    stream.send_json(Header(Kind.HELLO), {"protocol": wire.PROTOCOL, "session": session})
    assert expect(stream, Kind.HELLO)
    return stream


def expect(stream: Stream, kind: Kind) -> bytes:
    received = stream.receive()
    assert received is not None and received[0].kind == kind, received and bytes(received[1])
    return bytes(received[1])


def opens(stream: Stream, credentials: Credentials, uid: str = UID, **more: Any) -> dict[str, Any]:
    value = {"uid": uid, "destinationPath": "/in", "overwriteMode": 4, "flags": 7, "timeResolutionUs": 0}
    stream.send_json(Header(Kind.OPEN, handle=1), value | credentials | more)
    return dict(json.loads(expect(stream, Kind.OPENED)))


def remote(stream: Stream, credentials: Credentials, verb: str, **arguments: Any) -> dict[str, Any]:
    stream.send_json(Header(Kind.REMOTE), {"verb": verb, "args": arguments, **credentials})
    return dict(json.loads(expect(stream, Kind.REMOTE_RESULT)))


def packs(stream: Stream, files: dict[str, bytes]) -> tuple[Kind, bytes]:
    payload = pack.encode(
        [pack.PackedFile(n, 0, name.encode(), 0, files[name]) for n, name in enumerate(files)]
    )
    stream.send(Header(Kind.PACK, handle=1, digest=xxhash.xxh3_64_intdigest(payload)), payload)
    received = stream.receive()
    assert received is not None
    return Kind(received[0].kind), bytes(received[1])


def publish(place: Place, user: str, name: str, content: bytes) -> Path:
    stream = connect(place)
    assert "error" not in opens(stream, as_user(user), os.urandom(16).hex())
    assert packs(stream, {name: content})[0] is Kind.DONE
    stream.sock.close()
    path = place.homes / user / "in" / name.lstrip("/")
    assert path.read_bytes() == content
    return path


def half(place: Place, user: str, name: str) -> Stream:
    """A transfer with a file of which the first half has come."""
    stream = connect(place)
    assert "error" not in opens(stream, as_user(user))
    announce = {"path": name, "identity": [200, 1, 1, 1], "flags": 0, "mtimeNs": 1}
    stream.send_json(Header(Kind.FILE, generation=1, handle=1, seq=1), announce)
    data = b"h" * 100
    stream.send(Header(Kind.CHUNK, 0, 1, 1, 1, 0, 0, xxhash.xxh3_64_intdigest(data)), data)
    stream.send(Header(Kind.CHECKPOINT, handle=1))
    expect(stream, Kind.CHECKPOINTED)
    return stream


def token(place: Place, user: str, permissions: int, path: str | None = None) -> Credentials:
    with login(place, user) as api:
        made = api.server.createAPIToken(permissions=permissions, path=path)
    place.tokens.append(made["token"])
    return {"token": made["token"]}


# --- other people's transfers ---------------------------------------------------------------------------


def test_the_uid_of_anothers_transfer_opens_ones_own(place: Place) -> None:
    """bert neither sees what anna has begun nor takes it away from her, nor can he have it dropped."""
    annas = half(place, "anna", "/annas")
    berts = connect(place)
    assert opens(berts, as_user("bert"))["partials"] == []
    assert remote(berts, as_user("bert"), "discard", uids=[UID])["results"] == []
    berts.send(Header(Kind.CHECKPOINT, wire.DISCARD, handle=1))
    expect(berts, Kind.CHECKPOINTED)
    berts.sock.close()
    annas.send(Header(Kind.CLOSE, handle=1))  # her session is still there
    expect(annas, Kind.CLOSED)
    annas.sock.close()

    def goes_on() -> list[Any]:
        again = connect(place)
        with again.sock:
            return list(opens(again, as_user("anna"))["partials"])

    assert eventually(goes_on)[0][3] == [[0, 100]]


def test_a_stream_that_joins_a_session_brings_nothing_but_itself(place: Place) -> None:
    """Who knows a session's name is in it, over the same protection; credentials are asked for anew."""
    first = connect(place, "shared name")
    assert "error" not in opens(first, as_user("anna"), os.urandom(16).hex())
    second = connect(place, "shared name")
    assert "has accounts" in opens(second, {}, os.urandom(16).hex())["error"]
    refused = remote(second, as_user("bert") | {"password": "wrong"}, "delete", files=["/in/warm"])
    assert "refuses the credentials of user bert" in refused["error"]
    for stream in (first, second):
        stream.sock.close()


def test_what_an_unopened_transfer_brings_is_not_taken(place: Place) -> None:
    """A refused OPEN leaves no handle behind."""
    stream = connect(place)
    assert opens(stream, {"user": "anna", "password": "guess"})["error"]
    with pytest.raises((AssertionError, WireError, ConnectionError)):
        assert packs(stream, {"/guess": b"x"})[0] is not Kind.ERROR
    assert not list(place.homes.rglob("guess"))


# --- other people's files -------------------------------------------------------------------------------

_OUT = (
    "/../anna/in/hers",
    "../anna/in/hers",
    "/in/../../anna/in/hers",
    "//../anna/in/hers",
    "/.lanesync",
    "/",
)


@pytest.mark.parametrize("path", _OUT)
def test_deleting_does_not_cross_roots(place: Place, path: str) -> None:
    hers = publish(place, "anna", "/hers", b"hers")
    stream = connect(place)
    answer = remote(stream, as_user("bert"), "delete", files=[path], directories=[path, "/../anna/in"])
    assert {state for _, state, _ in answer["results"]} <= {"failed", "kept", "absent"}
    assert hers.read_bytes() == b"hers"
    stream.sock.close()


@pytest.mark.parametrize("path", _OUT[:-1])
def test_listing_does_not_cross_roots(place: Place, path: str) -> None:
    """Not what is there, and not whether it is."""
    publish(place, "anna", "/hers", b"hers")
    stream = connect(place)
    answer = remote(stream, as_user("bert"), "list", directory=path, checksum=True)
    assert "error" in answer and "results" not in answer
    below = remote(stream, as_user("bert"), "list", directory="/", after=path)
    assert "hers" not in str(below)
    stream.sock.close()


@pytest.mark.parametrize("path", _OUT)
def test_renaming_does_not_cross_roots(place: Place, path: str) -> None:
    """Whichever end lies outside; a link in one's own root leads nowhere."""
    hers = publish(place, "anna", "/hers", b"hers")
    mine = publish(place, "bert", "/mine", b"mine")
    home = place.homes / "bert"
    if not (home / "link").is_symlink():
        (home / "link").symlink_to(place.homes / "anna")
    stream = connect(place)
    pairs = [
        (path, "/stolen"),
        ("/in/mine", path),
        ("/link/in/hers", "/stolen"),
        ("/in/mine", "/link/in/new"),
    ]
    answer = remote(stream, as_user("bert"), "rename", renames=[name for pair in pairs for name in pair])
    assert {state for _, state, _ in answer["results"]} <= {"failed", "absent"}
    assert hers.read_bytes() == b"hers" and mine.read_bytes() == b"mine"
    assert not (home / "stolen").exists() and not (hers.parent / "x").exists()
    stream.sock.close()


@pytest.mark.parametrize("path", _OUT)
def test_writing_does_not_cross_roots(place: Place, path: str) -> None:
    """By the transfer's path, and by each file's."""
    hers = publish(place, "anna", "/hers", b"hers")
    for where, name in ((path, "/x"), ("/in", path), ("/", path)):
        stream = connect(place)
        answer = opens(stream, as_user("bert"), os.urandom(16).hex(), destinationPath=where)
        if "error" not in answer:
            packs(stream, {name: b"berts"})
        stream.sock.close()
    assert hers.read_bytes() == b"hers"
    assert not [
        file for file in (place.homes / "anna").rglob("*") if file.is_file() and b"berts" in file.read_bytes()
    ]


@pytest.mark.parametrize("path", _OUT[:4])
def test_file_operations_and_manifests_do_not_cross_roots(place: Place, path: str) -> None:
    """Also where both ends of a move are given, and through a link that lies in one's own root."""
    hers = publish(place, "anna", "/hers", b"hers")
    home = place.homes / "bert"
    home.mkdir(exist_ok=True)
    if not (home / "link").is_symlink():
        (home / "link").symlink_to(place.homes / "anna")
    (home / "mine").write_bytes(b"mine")
    with login(place, "bert") as bert:
        for found in (path, "/link/in/hers"):
            for call in (
                lambda p: bert.server.mv(p, "/stolen"),
                lambda p: bert.server.mv("/mine", p + ".new"),
                lambda p: bert.server.rm(p, recursive=True),
                lambda p: bert.server.ls(p),
                lambda p: bert.server.du(p),
                lambda p: bert.server.mkdir(p + "/d"),
            ):
                with pytest.raises(CommandError):
                    call(found)
            with pytest.raises(CommandError):
                bert.send.waitForManifest(bert.send.createManifest(mappings={"/x": found}))
                raise CommandError("what leads outside is left out", 0)
    assert hers.read_bytes() == b"hers" and not (home / "stolen").exists()
    assert os.listdir(place.homes / "anna" / "in") == os.listdir(hers.parent)


# --- tokens ---------------------------------------------------------------------------------------------


def test_a_token_reaches_below_its_path_only(place: Place) -> None:
    """Not by `..`, not by naming the path itself, not by the transfer of its maker."""
    publish(place, "anna", "/hers", b"hers")
    (place.homes / "anna" / "drop").mkdir(exist_ok=True)
    shown = token(place, "anna", constants.PERMISSION_UPLOAD | constants.PERMISSION_MODIFY, "/drop")
    stream = connect(place)
    for path in ("/in/hers", "/../in/hers", "/drop/../in/hers"):
        answer = remote(stream, shown, "delete", files=[path])
        assert answer["results"][0][1] in ("failed", "absent")
    assert "error" not in opens(stream, shown, destinationPath="/in")
    assert packs(stream, {"/hers": b"from the token"})[0] is Kind.DONE
    stream.sock.close()
    assert (place.homes / "anna" / "in" / "hers").read_bytes() == b"hers"
    assert (place.homes / "anna" / "drop" / "in" / "hers").read_bytes() == b"from the token"


@pytest.mark.parametrize("permissions", [constants.PERMISSION_UPLOAD, constants.PERMISSION_MODIFY])
def test_a_token_does_only_what_it_permits(place: Place, permissions: int) -> None:
    """Uploading is not deleting, and deleting is not uploading."""
    hers = publish(place, "anna", "/permitted", b"hers")
    shown = token(place, "anna", permissions)
    stream = connect(place)
    may_upload = permissions == constants.PERMISSION_UPLOAD
    assert ("error" in opens(stream, shown, os.urandom(16).hex())) != may_upload
    assert "error" in remote(stream, shown, "delete", files=["/in/permitted"])
    assert "error" in remote(stream, shown, "rename", renames=["/in/permitted", "/in/x"])
    assert "error" in remote(stream, shown, "list", directory="/in")
    assert hers.exists()
    stream.sock.close()


@pytest.mark.parametrize(
    "shown",
    [
        {"token": "0" * 64},
        {"token": "f" * 48},
        {"token": ""},
        {"token": "\x00"},
        {"token": "x" * 1024},
        {"user": "anna", "token": "0" * 48},
        {"user": "chief"},
        {"user": "", "password": ""},
        {"user": "anna\x00", "password": PASSWORDS["anna"]},
        {"user": "ANNA", "password": PASSWORDS["anna"]},
        {"user": "anna", "password": PASSWORDS["anna"] + " "},
    ],
    ids=lambda shown: repr(shown)[:40],
)
def test_credentials_that_nearly_fit_open_nothing(place: Place, shown: Credentials) -> None:
    """All in few words that name no more than the user."""
    stream = connect(place)
    answer = opens(stream, shown, os.urandom(16).hex())
    assert "refuses" in answer["error"] or "has accounts" in answer["error"]
    assert PASSWORDS["anna"] not in answer["error"] and "runs" not in answer
    stream.sock.close()
