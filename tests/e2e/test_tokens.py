"""Shared tokens and API tokens of a real server: what they open, and what they do not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rawclient import explicit
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface, AuthenticationError, CommandError, NotFoundError, constants
from agent.server import accounts
from agent.server.store.schema import DATABASE_NAME

pytestmark = pytest.mark.e2e

CONTENT = b"what is shared\n" * 1000


@dataclass
class World:
    """A sending server with accounts, and the receiver of somebody who has none of them."""

    sender: Server
    receiver: Server
    folder: Path
    accounts: Path

    def user(self, name: str = "anna") -> APIInterface:
        api = self.sender.api()
        api.server.auth(name, "secret")
        return api

    def holder(self, token: str, password: str | None = None) -> APIInterface:
        api = self.sender.api()
        api.server.authToken(token, password)
        return api

    def manifest(self, api: APIInterface) -> dict[str, Any]:
        source = self.folder / "shared.txt"
        source.write_bytes(CONTENT)
        return dict(
            api.send.waitForManifest(api.send.createManifest(mappings={"/s/shared.txt": str(source)}))
        )

    def destination(self, api: APIInterface) -> dict[str, Any]:
        return dict(api.send.createDestination("127.0.0.1", destinationPort=self.receiver.port))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tokens")
    file = folder / "accounts.json"
    accounts.add(file, "anna", "secret", superuser=True)
    accounts.add(file, "bert", "secret")
    with (
        start_server(folder / "sender", accounts=file) as sender,
        start_server(folder / "receiver") as receiver,
    ):
        yield World(sender, receiver, folder, file)


@pytest.fixture
def anna(world: World) -> Iterator[APIInterface]:
    with world.user() as api:
        yield api


# --- shared tokens -------------------------------------------------------------------------------------


def test_who_has_the_token_downloads_the_manifest_to_a_receiver_of_their_own(
    world: World, anna: APIInterface
) -> None:
    """From the token to the bytes: log in, see the manifest, send it, and see nothing else."""
    manifest = world.manifest(anna)
    anna.send.createManifest(mappings=explicit(1))
    anna.send.createDestination("127.0.0.1", destinationPort=9)
    shared = anna.send.createSharedToken(manifest, password="pass", downloadLimit=2, description="for Carl")
    with world.holder(shared["token"], "pass") as carl:
        assert [row["manifestId"] for row in carl.send.getManifests()] == [manifest["manifestId"]]
        assert carl.send.getManifest(manifest)["totalFiles"] == 1
        files = carl.send.getManifestFiles(manifest)["fileMappings"]
        assert [(row["destPath"], row["srcPath"]) for row in files] == [("/s/shared.txt", "")]
        assert carl.send.getDestinations() == [] and carl.send.getTransfers() == []
        destination = world.destination(carl)
        transfer = carl.send.createTransfer(destination, manifest, destinationPath="/carl")
        start = carl.lanesync.waitEvents(after=0)["next"]
        assert isinstance(start, int)
        done = carl.send.waitForTransfer(transfer)
        assert done["status"] == "complete", done["errorMessage"]
        assert done["owner"] == "anna" and done["ownerToken"] == shared["tokenId"]
        assert done["ownerTokenSession"] == destination["ownerTokenSession"] is not None
        assert [row["transferId"] for row in carl.send.getTransfers()] == [transfer["transferId"]]
        assert carl.lanesync.getTransferResults(transfer)["files"][0]["outcome"] == "delivered"
    assert (world.receiver.receive_root / "carl/s/shared.txt").read_bytes() == CONTENT
    assert anna.send.getSharedToken(shared)["downloadCount"] == 1
    assert transfer["transferId"] in {row["transferId"] for row in anna.send.getTransfers()}


def test_the_token_structure_tells_all_but_the_password(world: World, anna: APIInterface) -> None:
    """Every documented field; the password is nowhere to be read, not even in the store."""
    manifest = world.manifest(anna)
    shared = anna.send.createSharedToken(manifest, "opensesame", 3, 3600, "a link")
    assert len(shared["token"]) >= 32 and set(shared["token"]) <= set("0123456789abcdef")
    assert shared["expiryTime"] == shared["creationTime"] + 3_600_000_000
    assert {key: shared[key] for key in ("description", "downloadCount", "downloadLimit", "manifestId")} == {
        "description": "a link",
        "downloadCount": 0,
        "downloadLimit": 3,
        "manifestId": manifest["manifestId"],
    }
    assert shared["owner"] == "anna" and shared["ownerToken"] is None and shared["ownerTokenSession"] is None
    assert shared["passwordRequired"] is True and shared["permissions"] == constants.PERMISSION_DOWNLOAD
    assert shared["userData"] == {} and not any("opensesame" in str(value) for value in shared.values())
    assert anna.send.getSharedToken(shared["token"]) == shared
    assert shared in anna.send.getSharedTokens() and len(anna.send.getSharedTokens(limit=1)) == 1
    with sqlite3.connect(world.sender.state_dir / DATABASE_NAME) as database:
        assert "opensesame" not in "".join(database.iterdump())
    assert "opensesame" not in world.sender.log()


def test_a_token_with_a_password_opens_with_it_only(world: World, anna: APIInterface) -> None:
    """Without, or with another, it opens nothing; nor does a token that never was."""
    shared = anna.send.createSharedToken(world.manifest(anna), password="pass")
    with world.sender.api() as api:
        for password in (None, "wrong", ""):
            with pytest.raises(AuthenticationError, match="password"):
                api.server.authToken(shared["token"], password)
        with pytest.raises(AuthenticationError, match="not valid"):
            api.server.authToken("0" * 48)
        with pytest.raises(AuthenticationError):
            api.send.getManifests()
        api.server.authToken(shared["token"], "pass")
        assert len(api.send.getManifests()) == 1


def test_the_download_limit_holds_under_a_rush(world: World, anna: APIInterface) -> None:
    """Of many who start at once exactly as many get through as the limit says; the rest hear of it."""
    manifest = world.manifest(anna)
    shared = anna.send.createSharedToken(manifest, downloadLimit=5)

    def start(_: int) -> str:
        with world.holder(shared["token"]) as api:
            try:
                return str(api.send.createTransfer(world.destination(api), manifest)["transferId"])
            except CommandError as error:
                return str(error)

    with ThreadPoolExecutor(12) as threads:
        outcomes = list(threads.map(start, range(12)))
    refused = [text for text in outcomes if not text.isdigit()]
    assert len(refused) == 7 and all("downloadLimit of 5" in text for text in refused), outcomes
    assert anna.send.getSharedToken(shared)["downloadCount"] == 5


def test_a_deleted_token_ends_its_sessions_and_not_its_transfers(world: World, anna: APIInterface) -> None:
    """What was started with it goes on to its end."""
    manifest = world.manifest(anna)
    shared = anna.send.createSharedToken(manifest)
    with world.holder(shared["token"]) as carl:
        transfer = carl.send.createTransfer(
            world.destination(carl), manifest, destinationPath="/d", sendRateMax=100
        )
        anna.send.deleteSharedToken(shared)
        with pytest.raises(AuthenticationError, match="deleted"):
            carl.send.getTransfer(transfer)
        with pytest.raises(AuthenticationError, match="not valid"):
            carl.server.authToken(shared["token"])
    with pytest.raises(NotFoundError):
        anna.send.getSharedToken(shared)
    anna.send.setTransferSendRateMax(transfer["transferId"], -1)
    assert anna.send.waitForTransfer(transfer)["status"] == "complete"


def test_an_expired_token_opens_nothing_and_can_be_prolonged(world: World, anna: APIInterface) -> None:
    """By the wall clock, also for who is logged in; updateSharedToken counts from now."""
    shared = anna.send.createSharedToken(world.manifest(anna), timeLimitSeconds=3600)
    with world.holder(shared["token"]) as carl:
        anna.send.updateSharedToken(shared, timeLimitSeconds=0, description="over")
        with pytest.raises(AuthenticationError, match="expired"):
            carl.send.getManifests()
        with pytest.raises(AuthenticationError, match="expired"):
            carl.server.authToken(shared["token"])
        anna.send.updateSharedToken(shared, timeLimitSeconds=60)
        carl.server.authToken(shared["token"])
    later = anna.send.getSharedToken(shared)
    assert later["description"] == "over" and later["expiryTime"] < shared["expiryTime"]


def test_deleting_a_manifest_takes_its_tokens_along(world: World, anna: APIInterface) -> None:
    """There is nothing left to share."""
    manifest = world.manifest(anna)
    shared = anna.send.createSharedToken(manifest)
    with world.holder(shared["token"]) as carl:
        anna.send.deleteManifest(manifest)
        with pytest.raises(AuthenticationError):
            carl.send.getManifests()
    assert shared["token"] not in {row["token"] for row in anna.send.getSharedTokens()}


FORBIDDEN: list[tuple[str, dict[str, Any]]] = [
    ("send.createManifest", {"mappings": {"/x": "/etc/passwd"}}),
    ("send.deleteManifest", {"manifestId": "MANIFEST"}),
    ("send.createSharedToken", {"manifestId": "MANIFEST"}),
    ("send.getSharedToken", {"token": "TOKEN"}),
    ("send.getSharedTokens", {}),
    ("send.updateSharedToken", {"token": "TOKEN", "timeLimitSeconds": 9e6}),
    ("send.deleteSharedToken", {"token": "TOKEN"}),
    ("server.createAPIToken", {}),
    ("server.getAPITokens", {}),
    ("server.superuser", {}),
    ("server.lsRoots", {}),
    ("server.ls", {"path": "/"}),
    ("server.du", {"path": "/"}),
    ("server.mkdir", {"path": "/x"}),
    ("server.mv", {"source": "/x", "destination": "/y"}),
    ("server.rm", {"path": "/x"}),
    ("server.setSandboxMapping", {"user": "", "mapping": {"/": "/"}}),
    ("server.getSandboxMappings", {}),
    ("server.terminate", {}),
    ("server.garbageCollect", {}),
    ("server.getEventLog", {}),
    ("server.updateBandwidthLimits", {}),
    ("recv.getTransfers", {}),
    ("recv.getSources", {}),
    ("recv.addAuthorizedClient", {"clientPublicKey": "x"}),
    ("lanesync.deletePaths", {"destinationId": "1", "files": ["/x"], "directories": []}),
]


def test_a_shared_token_allows_nothing_else(world: World, anna: APIInterface) -> None:
    """Under either name of a method."""
    manifest = world.manifest(anna)
    shared = anna.send.createSharedToken(manifest)
    places = {"MANIFEST": manifest["manifestId"], "TOKEN": shared["token"]}
    with world.holder(shared["token"]) as carl:
        for method, given in FORBIDDEN:
            parameters = {
                key: places.get(value, value) if isinstance(value, str) else value
                for key, value in given.items()
            }
            for name in (method, method + "Async"):
                with pytest.raises(CommandError, match="a shared token does not allow"):
                    carl.call(name, parameters)
        with pytest.raises(CommandError, match="not found"):
            carl.send.updateObjectUserData(manifest, "k", "v")
        with pytest.raises(CommandError, match="not found"):
            carl.send.updateObjectUserData(shared, "k", "v")
        other = world.manifest(anna)
        with pytest.raises(NotFoundError):
            carl.send.createTransfer(world.destination(carl), other)
        with pytest.raises(NotFoundError):
            carl.send.getManifest(other)
        info = carl.server.getServerInfo()
        assert "receiver" not in info and "configuration" not in info
    assert anna.send.getManifest(manifest)["userData"] == {}


def test_what_was_left_out_of_a_shared_manifest_is_its_owners_to_know(
    world: World, anna: APIInterface
) -> None:
    """The message names places on the server."""
    folder = world.folder / "with a hole"
    folder.mkdir()
    (folder / "file").write_bytes(CONTENT)
    os.mkfifo(folder / "pipe")
    manifest = anna.send.waitForManifest(anna.send.createManifest(mappings={"/f": str(folder)}))
    assert "pipe" in (manifest["errorMessage"] or "")
    with world.holder(anna.send.createSharedToken(manifest)["token"]) as carl:
        for shown in (
            carl.send.getManifest(manifest),
            carl.send.waitForManifest(manifest),
            *carl.send.getManifests(),
        ):
            assert shown["errorMessage"] == "" and shown["totalFiles"] == 1


def test_two_holders_do_not_see_each_other(world: World, anna: APIInterface) -> None:
    """Each token has its own destinations and transfers, even of one and the same manifest."""
    manifest = world.manifest(anna)
    one, two = anna.send.createSharedToken(manifest), anna.send.createSharedToken(manifest)
    with world.holder(one["token"]) as carl, world.holder(two["token"]) as dora:
        transfer = carl.send.createTransfer(world.destination(carl), manifest, destinationPath="/one")
        with pytest.raises(NotFoundError):
            dora.send.getTransfer(transfer)
        assert dora.send.getTransfers() == [] and dora.send.getDestinations() == []
        assert world.destination(dora)["destinationId"] != transfer["destinationId"]


def test_user_data_is_kept_with_a_token(world: World, anna: APIInterface) -> None:
    """By structure and by the token itself."""
    shared = anna.send.createSharedToken(world.manifest(anna))
    anna.send.updateObjectUserData(shared, "ticket", "42")
    anna.send.updateObjectUserData(shared["token"], "by", "token")
    assert anna.send.getSharedToken(shared)["userData"] == {"ticket": "42", "by": "token"}
    anna.send.deleteObjectUserData(shared, "ticket")
    assert anna.send.getSharedToken(shared)["userData"] == {"by": "token"}
    assert anna.send.getManifest(shared["manifestId"])["userData"] == {}


def test_tokens_outlive_a_restart_and_go_with_the_account(tmp_path: Path) -> None:
    """A token stands for who made it: without that account it opens nothing."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    with start_server(tmp_path / "s", accounts=file) as server:
        with server.api() as api:
            api.server.auth("anna", "secret")
            shared = api.send.createSharedToken(api.send.createManifest(mappings=explicit(1)))
            token = api.server.createAPIToken()
        server.restart()
        with server.api() as one, server.api() as two:
            one.server.authToken(shared["token"])
            two.server.authToken(token["token"])
            assert len(one.send.getManifests()) == len(two.send.getManifests()) == 1
            accounts.remove(file, "anna")
            for api in (one, two):
                with pytest.raises(AuthenticationError, match="is gone"):
                    api.send.getManifests()
                with pytest.raises(AuthenticationError, match="is gone"):
                    api.server.authToken(token["token"])


# --- API tokens ----------------------------------------------------------------------------------------


def test_an_api_token_acts_as_its_maker(world: World, anna: APIInterface) -> None:
    """It sees what he has, what it makes is his, and he sees it; but it is never a superuser."""
    manifest = world.manifest(anna)
    token = anna.server.createAPIToken(password="pass", description="for the render farm")
    assert token["passwordRequired"] and token["path"] == "" and token["owner"] == "anna"
    assert token["permissions"] == constants.PERMISSIONS_ALL
    with world.holder(token["token"], "pass") as farm:
        transfer = farm.send.createTransfer(world.destination(farm), manifest, destinationPath="/farm")
        assert transfer["owner"] == "anna" and transfer["ownerToken"] == token["tokenId"]
        assert farm.send.waitForTransfer(transfer)["status"] == "complete"
        for method in ("server.superuser", "server.createAPIToken", "server.getAPITokens"):
            with pytest.raises(CommandError, match="needs a login with an account"):
                farm.call(method, {})
    assert anna.send.getTransfer(transfer)["status"] == "complete"
    assert (world.receiver.receive_root / "farm/s/shared.txt").read_bytes() == CONTENT


def test_a_token_is_not_shown_what_its_maker_asked_for(world: World, anna: APIInterface) -> None:
    """A result may be that of a method which the token may not call; its maker sees what it asked for."""
    destination = world.destination(anna)
    asked = anna.send.setSendRateMaxAsync(destination, 1000.0)
    token = anna.server.createAPIToken(permissions=constants.PERMISSION_DOWNLOAD)
    with world.holder(token["token"]) as holder:
        for get in (holder.server.getRequestStatus, holder.server.getRequestResult):
            with pytest.raises(NotFoundError):
                get(asked)
        own = holder.send.setSendRateMaxAsync(destination, 2000.0)
        assert holder.server.getRequestResult(own) == {"sendRateMax": 2000.0}
    assert anna.server.getRequestResult(own) == {"sendRateMax": 2000.0}
    anna.send.setSendRateMax(destination, -1)


def test_a_token_that_is_held_to_a_path_sees_only_what_it_made(world: World, anna: APIInterface) -> None:
    """What its maker has otherwise may hold files from anywhere."""
    manifest = world.manifest(anna)
    token = anna.server.createAPIToken(path="/only/here/")
    assert token["path"] == "/only/here"
    with world.holder(token["token"]) as held:
        assert held.send.getManifests() == []
        with pytest.raises(NotFoundError):
            held.send.getManifestFiles(manifest)


def test_a_token_that_is_held_to_a_path_sends_only_what_lies_below(world: World, anna: APIInterface) -> None:
    """Its paths begin there, below the user's files; no way of writing one leads out, nor does a link."""
    folder = world.sender.receive_root / "held"
    folder.mkdir(parents=True)
    (folder / "inside.txt").write_bytes(CONTENT)
    (folder / "link").symlink_to("/etc/hostname")
    token = anna.server.createAPIToken(path="/held")
    with world.holder(token["token"]) as held:
        for outside in ("/etc/hostname", str(folder / "inside.txt"), "/../../etc/hostname", "/link"):
            with pytest.raises(CommandError):
                manifest = held.send.waitForManifest(held.send.createManifest(mappings={"/x": outside}))
                transfer = held.send.createTransfer(
                    world.destination(held), manifest, destinationPath="/held"
                )
                raise CommandError(held.send.waitForTransfer(transfer)["errorMessage"] or "sent")
        assert not (world.receiver.receive_root / "held/x").exists()
        manifest = held.send.waitForManifest(held.send.createManifest(mappings={"/x": "/inside.txt"}))
        transfer = held.send.createTransfer(world.destination(held), manifest, destinationPath="/held")
        assert held.send.waitForTransfer(transfer)["status"] == "complete"
    assert (world.receiver.receive_root / "held/x").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("permission", "allowed"),
    [
        (constants.PERMISSION_UPLOAD, {"recv.getTransfers"}),
        (constants.PERMISSION_DOWNLOAD, {"send.getManifests", "send.createTransfer", "lanesync.waitEvents"}),
        (constants.PERMISSION_MODIFY, {"lanesync.deletePaths", "server.rm"}),
        (constants.PERMISSION_SHARE, set()),
        (
            constants.PERMISSION_SHARE | constants.PERMISSION_DOWNLOAD,
            {"send.getManifests", "send.createTransfer", "lanesync.waitEvents", "send.createSharedToken"},
        ),
    ],
)
def test_permissions_of_a_token_hold(
    world: World, anna: APIInterface, permission: int, allowed: set[str]
) -> None:
    """What a permission does not name is refused with the name of the one that would."""
    token = anna.server.createAPIToken(permissions=permission)
    calls: dict[str, dict[str, Any]] = {
        "recv.getTransfers": {},
        "send.getManifests": {},
        "send.createTransfer": {"destinationId": "99999", "manifestId": "99999"},
        "lanesync.waitEvents": {},
        "lanesync.deletePaths": {"destinationId": "99999", "files": ["/a"], "directories": []},
        "server.rm": {"path": "/no/such/file"},
        "send.createSharedToken": {"manifestId": "99999"},
    }
    with world.holder(token["token"]) as holder:
        for method, parameters in calls.items():
            try:
                holder.call(method, parameters)
                outcome = ""
            except CommandError as error:
                outcome = str(error)
            assert ("needs a token with PERMISSION_" in outcome) == (method not in allowed), (method, outcome)


def test_a_revoked_api_token_is_over_at_once_with_what_it_shared(world: World, anna: APIInterface) -> None:
    """Nobody goes on with a link that was made with it."""
    manifest = world.manifest(anna)
    token = anna.server.createAPIToken(timeLimitSeconds=3600)
    with world.holder(token["token"]) as holder:
        shared = holder.send.createSharedToken(manifest)
        assert shared["ownerToken"] == token["tokenId"] and shared["expiryTime"] == token["expiryTime"]
        with world.holder(shared["token"]) as carl:
            anna.server.deleteAPIToken(token)
            for api in (holder, carl):
                with pytest.raises(AuthenticationError, match="deleted"):
                    api.send.getManifests()
    with pytest.raises(NotFoundError):
        anna.server.getAPIToken(token)


def test_no_structure_shows_the_token_that_its_object_was_made_with(world: World, anna: APIInterface) -> None:
    """Who sees the object does not thereby hold the token."""
    token = anna.server.createAPIToken()
    with world.holder(token["token"]) as maker:
        manifest = world.manifest(maker)
        transfer = maker.send.createTransfer(world.destination(maker), manifest, destinationPath="/m")
        shared = maker.send.createSharedToken(manifest)
        with world.holder(shared["token"]) as carl:
            seen = [carl.send.getManifest(manifest), world.destination(carl), *carl.send.getManifests()]
        seen += [transfer, manifest, anna.send.getTransfer(transfer), shared]
    assert all(row["ownerToken"] in (token["tokenId"], shared["tokenId"]) for row in seen)
    assert not any(token["token"] in str(row) for row in seen)


def test_permissions_that_are_none_are_refused(anna: APIInterface) -> None:
    """Nothing is silently cut off."""
    for permissions in (0, 16, 255):
        with pytest.raises(CommandError, match="PERMISSION_"):
            anna.server.createAPIToken(permissions=permissions)
    with pytest.raises(CommandError, match="downloadLimit"):
        anna.send.createSharedToken("1", downloadLimit=0)
    with pytest.raises(CommandError, match=r"\.\."):
        anna.server.createAPIToken(path="/a/../../b")


def test_both_kinds_can_be_switched_off(tmp_path: Path) -> None:
    """Those made before open nothing any more; the information says so."""
    with start_server(tmp_path / "s") as server, server.api() as api:
        token = api.server.createAPIToken()
        shared = api.send.createSharedToken(api.send.createManifest(mappings=explicit(1)))
        assert api.server.getServerInfo()["APITokensAvailable"] is True
    off = {"api_disable_api_tokens": True, "api_disable_shared_tokens": True}
    with start_server(tmp_path / "s", **off) as server, server.api() as api:
        assert api.server.getServerInfo()["APITokensAvailable"] is False
        for credential in (token, shared):
            with pytest.raises(AuthenticationError, match="takes no"):
                api.server.authToken(credential["token"])
        with pytest.raises(CommandError, match="--api-disable-api-tokens"):
            api.server.createAPIToken()
        with pytest.raises(CommandError, match="--api-disable-shared-tokens"):
            api.send.createSharedToken(shared["manifestId"])


def test_on_a_server_without_accounts_a_token_narrows_what_its_session_may(tmp_path: Path) -> None:
    """Who logs in with it is held to it, though who does not log in is the owner."""
    with start_server(tmp_path / "s") as server, server.api() as owner, server.api() as api:
        manifest = owner.send.createManifest(mappings=explicit(1))
        other = owner.send.createManifest(mappings=explicit(1))
        api.server.authToken(owner.send.createSharedToken(manifest)["token"])
        assert [row["manifestId"] for row in api.send.getManifests()] == [manifest["manifestId"]]
        with pytest.raises(NotFoundError):
            api.send.getManifest(other)


def test_expired_tokens_are_removed_and_keep_their_manifests_no_longer(tmp_path: Path) -> None:
    """At the next clean-up, which also a launch brings."""
    Call = Callable[[], list[Any]]
    with start_server(tmp_path / "s") as server:
        with server.api() as api:
            manifest = api.send.createManifest(mappings=explicit(1))
            shared = api.send.createSharedToken(manifest, timeLimitSeconds=0)
            kept = api.send.createSharedToken(manifest)
            api.server.createAPIToken(timeLimitSeconds=0)
            assert shared in api.send.getSharedTokens()
        server.restart()
        with server.api() as api:
            left: Call = api.send.getSharedTokens
            eventually(lambda: [row["token"] for row in left()] == [kept["token"]])
            eventually(lambda: api.server.getAPITokens() == [])
