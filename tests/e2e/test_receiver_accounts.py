"""Accounts at the receiving server: whose files a transfer may write, and where they go."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface, CommandError, NotFoundError, constants
from agent.server import accounts

pytestmark = pytest.mark.e2e

PASSWORDS = {"anna": "anna's words", "bert": "bert's words", "chief": "chief's words"}


class Pair(NamedTuple):
    sender: Server
    receiver: Server
    homes: Path  # sandboxes at the receiver
    source: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    for user, password in PASSWORDS.items():
        accounts.add(folder / "accounts.json", user, password, superuser=user == "chief")
    homes, source = folder / "homes", folder / "source"
    for made in (homes, source):
        made.mkdir()
    options: dict[str, Any] = {"accounts": folder / "accounts.json", "sandbox_dir": f"{homes}/%u"}
    with start_server(folder / "s", checkpoint_seconds=1) as sender:
        with start_server(folder / "r", **options) as receiver:
            yield Pair(sender, receiver, homes, source)


@pytest.fixture
def api(pair: Pair) -> Iterator[APIInterface]:
    with pair.sender.api() as connected:
        yield connected


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=shared) as made:
        yield Path(made)


def login(pair: Pair, user: str) -> APIInterface:
    api = pair.receiver.api()
    api.server.auth(user, PASSWORDS[user])
    if user == "chief":
        api.server.superuser()
    return api


def manifest(api: APIInterface, pair: Pair, name: str, content: bytes = b"content") -> Any:
    path = pair.source / name
    path.write_bytes(content)
    return api.send.waitForManifest(api.send.createManifest(mappings={f"/{name}": str(path)}))


def destination(api: APIInterface, pair: Pair, **options: Any) -> Any:
    return api.send.createDestination("127.0.0.1", destinationPort=pair.receiver.port, **options)


def send(api: APIInterface, pair: Pair, name: str, **options: Any) -> Any:
    made = api.send.createTransfer(destination(api, pair), manifest(api, pair, name), **options)
    return api.send.waitForTransfer(made)


def test_each_users_files_go_below_their_own_sandbox(api: APIInterface, pair: Pair) -> None:
    for user in ("anna", "bert"):
        found = send(api, pair, f"{user}.txt", userName=user, password=PASSWORDS[user], destinationPath="/in")
        assert (found["status"], found["errorMessage"]) == ("complete", "")
        assert (pair.homes / user / "in" / f"{user}.txt").read_bytes() == b"content"
    assert sorted(path.name for path in pair.homes.iterdir()) == ["anna", "bert"]
    assert not list(pair.receiver.receive_root.glob("**/*.txt"))


@pytest.mark.parametrize(
    ("credentials", "says"),
    [
        ({"userName": "anna", "password": "wrong"}, "refuses the credentials of user anna"),
        ({"userName": "nobody", "password": "wrong"}, "refuses the credentials of user nobody"),
        ({"userName": "../bert", "password": "x"}, "refuses the credentials of user ../bert"),
        ({"token": "0" * 64}, "the receiving server refuses the token"),
        ({}, "the receiving server has accounts"),
    ],
)
def test_wrong_credentials_end_the_transfer_with_the_reason(
    api: APIInterface, pair: Pair, credentials: dict[str, str], says: str
) -> None:
    """At once and for good: nothing tells which part was wrong, and nothing is written."""
    found = send(api, pair, "refused.txt", **credentials)
    assert found["status"] == "error" and says in found["errorMessage"]
    assert credentials.get("password", "no password") not in found["errorMessage"]
    assert not list(pair.homes.glob("**/refused.txt"))


@pytest.mark.parametrize("path", ["/../bert", "../../bert", "/a/../../bert", "/.lanesync/x"])
def test_a_destination_path_does_not_lead_out_of_the_sandbox(
    api: APIInterface, pair: Pair, path: str
) -> None:
    """Refused by the sending server already, or by the receiver, whose word counts."""
    try:
        made = send(api, pair, "out.txt", userName="anna", password=PASSWORDS["anna"], destinationPath=path)
    except Exception as error:
        assert "'..'" in str(error)
    else:
        assert made["status"] == "error"
    assert not list(pair.homes.glob("**/out.txt"))


def test_a_link_in_a_sandbox_is_not_followed_by_a_transfer(api: APIInterface, pair: Pair) -> None:
    (pair.homes / "anna").mkdir(exist_ok=True)
    (pair.homes / "bert").mkdir(exist_ok=True)
    (pair.homes / "anna" / "way-out").symlink_to(pair.homes / "bert")
    credentials = {"userName": "anna", "password": PASSWORDS["anna"]}
    found = send(api, pair, "linked.txt", destinationPath="/way-out", **credentials)
    assert found["status"] == "error" and "symbolic link" in found["errorMessage"]
    assert not (pair.homes / "bert" / "linked.txt").exists()


def test_deleting_reaches_only_what_the_credentials_own(api: APIInterface, pair: Pair) -> None:
    """The verb carries credentials; those of another user see another tree."""
    name = "delete-me.txt"
    sent = send(api, pair, name, userName="anna", password=PASSWORDS["anna"])
    assert sent["status"] == "complete"
    there, target = pair.homes / "anna" / name, destination(api, pair)

    def delete(path: str, **credentials: str) -> Any:
        request = api.lanesync.deletePathsAsync(target, [path], **credentials)
        return api.server.getRequestResult(request)["results"]

    bert = {"userName": "bert", "password": PASSWORDS["bert"]}
    anna = {"userName": "anna", "password": PASSWORDS["anna"]}
    assert delete(f"/{name}", **bert) == [[f"/{name}", "absent", ""]]
    assert delete(f"/../anna/{name}", **bert)[0][1] == "failed"
    with pytest.raises(Exception, match="refuses the credentials of user anna"):
        delete(f"/{name}", userName="anna", password="wrong")
    with pytest.raises(Exception, match="the receiving server has accounts"):
        delete(f"/{name}")
    assert there.exists()
    assert delete(f"/{name}", **anna) == [[f"/{name}", "deleted", ""]]
    assert not there.exists()


def test_listing_and_renaming_reach_only_what_the_credentials_own(api: APIInterface, pair: Pair) -> None:
    """Each user sees their own tree; a page can be fetched once, and is asked for again after that."""
    anna, bert = ({"userName": name, "password": PASSWORDS[name]} for name in ("anna", "bert"))
    for user in (anna, bert):
        assert send(api, pair, f"of-{user['userName']}", **user)["status"] == "complete"
    target = destination(api, pair)

    def told(**asked: Any) -> set[str]:
        page = api.server.getRequestResult(api.lanesync.listPathsAsync(target, **asked))
        return {file["path"] for file in page["files"]}

    def rename(old: str, new: str, **credentials: str) -> Any:
        request = api.lanesync.renamePathsAsync(target, [(old, new)], **credentials)
        return api.server.getRequestResult(request)["results"]

    assert "/of-anna" in told(**anna) and "/of-anna" not in told(**bert)
    assert rename("/of-anna", "/mine", **bert) == [["/mine", "absent", ""]]
    assert rename("/of-bert", "/../anna/planted", **bert)[0][1] == "failed"
    assert rename("/of-anna", "/deep/er", **anna) == [["/deep/er", "renamed", ""]]
    assert (pair.homes / "anna/deep/er").read_bytes() == b"content"
    assert told(directory="/deep", **anna) == {"/deep/er"}
    for call in (lambda **shown: told(**shown), lambda **shown: rename("/deep/er", "/x", **shown)):
        with pytest.raises(CommandError, match="refuses the credentials of user anna"):
            call(userName="anna", password="wrong")
        with pytest.raises(CommandError, match="the receiving server has accounts"):
            call()
    request = api.lanesync.listPathsAsync(target, **anna)
    assert api.server.getRequestResult(request)["next"] is None
    with pytest.raises(NotFoundError, match="ask again"):
        api.server.getRequestResult(request)


def test_a_token_writes_below_its_path_and_with_its_permissions(api: APIInterface, pair: Pair) -> None:
    with login(pair, "bert") as bert:
        token = bert.server.createAPIToken(permissions=constants.PERMISSION_UPLOAD, path="/drop")["token"]
        look = bert.server.createAPIToken(permissions=constants.PERMISSION_DOWNLOAD)["token"]
        found = send(api, pair, "dropped.txt", token=token, destinationPath="/a")
        assert (found["status"], found["errorMessage"]) == ("complete", "")
        assert (pair.homes / "bert" / "drop" / "a" / "dropped.txt").exists()
        refused = send(api, pair, "looked.txt", token=look)
        assert refused["status"] == "error" and "refuses the token" in refused["errorMessage"]
        request = api.lanesync.deletePathsAsync(destination(api, pair), ["/a/dropped.txt"], token=token)
        with pytest.raises(Exception, match="PERMISSION_MODIFY"):
            api.server.getRequestResult(request)
        bert.server.deleteAPIToken(token)
        late = send(api, pair, "late.txt", token=token)
        assert late["status"] == "error" and "refuses the token" in late["errorMessage"]


def test_several_roots_are_chosen_by_the_destination_path(
    api: APIInterface, pair: Pair, tmp_path: Path
) -> None:
    """Each lies where it was mapped, with its own directory of unfinished files."""
    media, papers = tmp_path / "media", tmp_path / "papers"
    media.mkdir()
    papers.mkdir()
    with login(pair, "chief") as chief:
        chief.server.setSandboxMapping("chief", {"media": str(media), "papers": {"path": str(papers)}})
        credentials = {"userName": "chief", "password": PASSWORDS["chief"]}
        assert send(api, pair, "m.txt", destinationPath="/media/x", **credentials)["status"] == "complete"
        assert send(api, pair, "p.txt", destinationPath="/papers", **credentials)["status"] == "complete"
        assert (media / "x" / "m.txt").exists() and (papers / "p.txt").exists()
        for path, says in (("/", "must begin with one of"), ("/etc", "there is no root etc")):
            found = send(api, pair, "nowhere.txt", destinationPath=path, **credentials)
            assert found["status"] == "error" and says in found["errorMessage"]
        chief.server.setSandboxMapping("chief", {"/": str(tmp_path / "missing")})
        found = send(api, pair, "lost.txt", **credentials)
        assert found["status"] == "error" and "administrator" in found["errorMessage"]
        assert not (tmp_path / "missing").exists()
        chief.server.deleteSandboxMapping("chief")


def test_roots_may_lie_on_different_file_systems(
    api: APIInterface, pair: Pair, tmp_path: Path, other_file_system: Path
) -> None:
    """What arrives is renamed within its root; only moving from one to the other is refused."""
    near = tmp_path / "near"
    near.mkdir()
    credentials = {"userName": "chief", "password": PASSWORDS["chief"]}
    with login(pair, "chief") as chief:
        chief.server.setSandboxMapping("chief", {"near": str(near), "far": str(other_file_system)})
        for root in ("near", "far"):
            found = send(api, pair, f"{root}.bin", destinationPath=f"/{root}/d", **credentials)
            assert (found["status"], found["errorMessage"]) == ("complete", "")
        assert (near / "d" / "near.bin").exists() and (other_file_system / "d" / "far.bin").exists()
        with pytest.raises(CommandError, match="different file systems; send the files instead"):
            chief.server.mv("/near/d/near.bin", "/far/near.bin")
        assert (near / "d" / "near.bin").exists()
        chief.server.deleteSandboxMapping("chief")


def test_a_bad_password_does_not_hold_up_who_has_a_good_one(api: APIInterface, pair: Pair) -> None:
    """Failed logins are slowed; other transfers of the same session go on meanwhile."""
    good = {"userName": "bert", "password": PASSWORDS["bert"]}
    bad = [
        api.send.createTransfer(
            destination(api, pair),
            manifest(api, pair, f"bad{number}.txt"),
            userName="anna",
            password=f"guess {number}",
        )
        for number in range(6)
    ]
    assert send(api, pair, "good.txt", **good)["status"] == "complete"
    for transfer in bad:
        assert "refuses the credentials" in api.send.waitForTransfer(transfer)["errorMessage"]


def test_the_same_user_goes_on_where_a_broken_session_stopped(api: APIInterface, pair: Pair) -> None:
    """A receiver that is started again knows the partial file as its user's."""
    target = destination(api, pair, exclusive=True, sendRateMax=20_000)
    made = api.send.createTransfer(
        target,
        manifest(api, pair, "large.bin", bytes(range(256)) * 40_000),
        userName="anna",
        password=PASSWORDS["anna"],
    )
    staging = pair.homes / "anna" / ".lanesync"
    eventually(lambda: list(staging.glob("*/journal")), what="a checkpoint names the partial file")
    (folder,) = [path.parent.name for path in staging.glob("*/journal")]
    pair.receiver.kill()
    pair.receiver.start()
    api.send.setSendRateMax(target, -1)
    found = api.send.waitForTransfer(made)
    assert (found["status"], found["errorMessage"]) == ("complete", "")
    assert (pair.homes / "anna" / "large.bin").read_bytes() == bytes(range(256)) * 40_000
    assert not (staging / folder).exists()


def test_what_is_received_is_seen_by_its_user_and_by_superusers(api: APIInterface, pair: Pair) -> None:
    sent = send(api, pair, "seen.txt", userName="anna", password=PASSWORDS["anna"], destinationPath="/seen")
    with login(pair, "anna") as anna, login(pair, "bert") as bert, login(pair, "chief") as chief:

        def seen(who: APIInterface) -> list[dict[str, Any]]:
            return [row for row in who.recv.getTransfers() if row["destinationPath"] == "/seen"]

        (row,) = eventually(lambda: [row for row in seen(anna) if row["status"] == "complete"])
        assert set(row) == {
            *("destinationPath", "lastErrorTime", "lastRecvTime", "lastSendTime", "sourceIP"),
            *("sourcePort", "status", "totalSize", "transferId"),
        }
        assert (row["totalSize"], row["sourceIP"]) == (sent["totalBytes"], "127.0.0.1")
        assert row["lastRecvTime"] and row["lastSendTime"] and row["lastErrorTime"] is None
        assert not seen(bert) and seen(chief)
        (source,) = anna.recv.getSources()
        assert set(source) == {
            *("activeTransferCount", "aveRecvRate", "aveRecvRateWindow", "completeTransferCount"),
            *("destinationPublicKey", "encryptedConnectionState", "encryptionEnabled"),
            *("errorTransferCount", "inactiveTransferCount", "sourceIP", "sourcePort"),
        }
        assert source["completeTransferCount"] >= 1 and source["sourceIP"] == "127.0.0.1"


def test_rates_of_a_source_are_measured_while_it_sends(api: APIInterface, pair: Pair) -> None:
    target = destination(api, pair, exclusive=True, sendRateMax=16_000)
    made = api.send.createTransfer(
        target,
        manifest(api, pair, "steady.bin", b"x" * 10_000_000),
        userName="anna",
        password=PASSWORDS["anna"],
    )
    with login(pair, "anna") as anna:

        def measured() -> Any:
            active = [row for row in anna.recv.getSources() if row["activeTransferCount"]]
            return active and active[0]["aveRecvRateWindow"] > 1000 and active[0]

        source = eventually(measured, what="the rate of the last seconds is told")
        assert source["encryptedConnectionState"] == "connected" and source["aveRecvRate"] > 1000
    api.send.setSendRateMax(target, -1)
    assert api.send.waitForTransfer(made)["status"] == "complete"


def test_a_server_vouches_for_its_own_users_when_it_sends_to_itself(pair: Pair) -> None:
    """As in the documents' examples: who is logged in sends to the same server without logging in again."""
    path = pair.homes / "anna" / "own.txt"
    path.write_bytes(b"own")
    with login(pair, "anna") as anna:
        made = anna.send.waitForManifest(anna.send.createManifest(mappings={"/copy.txt": "/own.txt"}))
        target = anna.send.createDestination("localhost", destinationPort=pair.receiver.port)
        found = anna.send.waitForTransfer(anna.send.createTransfer(target, made, destinationPath="/self"))
        assert (found["status"], found["errorMessage"]) == ("complete", "")
        assert (pair.homes / "anna" / "self" / "copy.txt").read_bytes() == b"own"
        request = anna.lanesync.deletePathsAsync(target, ["/self/copy.txt"])
        assert anna.server.getRequestResult(request)["results"] == [["/self/copy.txt", "deleted", ""]]


def test_credentials_are_in_no_log_and_no_structure(api: APIInterface, pair: Pair) -> None:
    secret = "a secret that must not be seen"
    found = send(api, pair, "secret.txt", userName="anna", password=secret)
    for text in (pair.sender.log(), pair.receiver.log(), repr(found), repr(api.server.getEventLog())):
        assert secret not in text
