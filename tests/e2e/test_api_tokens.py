"""API tokens of a real server, and what both kinds of token have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rawclient import explicit
from servers import eventually, start_server
from token_world import CONTENT, World, token_world

from agent.jetstream import APIInterface, AuthenticationError, CommandError, NotFoundError, constants

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with token_world(tmp_path_factory.mktemp("tokens")) as made:
        yield made


@pytest.fixture
def anna(world: World) -> Iterator[APIInterface]:
    with world.user() as api:
        yield api


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
