"""Shared tokens of a real server: what they open, and what they do not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rawclient import explicit
from servers import start_server
from token_world import CONTENT, World, token_world

from agent.jetstream import APIInterface, AuthenticationError, CommandError, NotFoundError, constants
from agent.server import accounts
from agent.server.store.schema import DATABASE_NAME

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with token_world(tmp_path_factory.mktemp("tokens")) as made:
        yield made


@pytest.fixture
def anna(world: World) -> Iterator[APIInterface]:
    with world.user() as api:
        yield api


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
