"""Manifests of a real server: what createManifest takes, and what is told of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface, CommandError, constants
from agent.jetstream.constants import (
    FILETYPE_DIRECTORY,
    FILETYPE_REGULAR_FILE,
    MAX_MESSAGE_BYTES,
    SYMLINKS_COPY_CONTENTS,
    SYMLINKS_IGNORE,
)

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(tmp_path_factory.mktemp("manifests") / "server") as running:
        yield running


@pytest.fixture
def api(server: Server) -> Iterator[APIInterface]:
    with server.api() as connected:
        yield connected


def made(api: APIInterface, mappings: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return dict(api.send.waitForManifest(api.send.createManifest(mappings=mappings, **params)))


def files(api: APIInterface, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = api.send.getManifestFiles(manifest)["fileMappings"]
    return {entry["destPath"]: dict(entry) for entry in found}


def test_known_files_are_taken_without_looking_at_them(api: APIInterface) -> None:
    """With size or flags nothing is looked at; what is told is what was given."""
    nowhere = {"src": "/nowhere/at/all"}
    manifest = made(
        api,
        {
            "/sized": {**nowhere, "size": 100},
            "/run": {**nowhere, "size": 7, "access": "x"},
            "/unsized": {**nowhere, "flags": FILETYPE_REGULAR_FILE},
            "/dir": {**nowhere, "flags": FILETYPE_DIRECTORY, "size": 5},
            "/empty": nowhere,
        },
    )
    assert (manifest["status"], manifest["totalFiles"], manifest["totalSize"]) == ("complete", 5, 107)
    assert (manifest["processing"], manifest["errorMessage"]) == (False, "")
    found = files(api, manifest)
    assert {path: entry["fileSize"] for path, entry in found.items()} == {
        "/sized": 100,
        "/run": 7,
        "/unsized": 0,
        "/dir": 0,
        "/empty": 0,
    }
    assert {path for path, entry in found.items() if entry["executable"]} == {"/run"}
    assert {path for path, entry in found.items() if entry["isEmptyDir"]} == {"/dir", "/empty"}
    assert found["/run"].keys() == {
        *("destPath", "executable", "fileSize", "isEmptyDir", "modificationTime", "srcPath"),
    }


def test_entries_are_sent_by_one_call(api: APIInterface, server: Server, tmp_path: Path) -> None:
    """Manifest and transfer are made together, few or more than one part; they are as if made one by one."""
    for number in range(2_005):
        (tmp_path / str(number)).write_text(str(number))
    destination = api.send.createDestination("127.0.0.1", destinationPort=server.port)["destinationId"]
    for count in (1, 2_005):
        entries = {
            f"/{count}/{n}": {"src": str(tmp_path / str(n)), "size": len(str(n))} for n in range(count)
        }
        order = {"destinationId": destination, "priority": 7, "userData": {"a": "transfer"}}
        sent = api.lanesync.sendEntries(entries, order, {"a": "manifest"})
        assert (sent["priority"], sent["totalFiles"], sent["userData"]) == (7, count, {"a": "transfer"})
        assert api.send.waitForTransfer(sent)["status"] == "complete"
        manifest = api.send.getManifest(sent["manifestId"])
        assert (manifest["status"], manifest["userData"]) == ("complete", {"a": "manifest"})
        arrived = {f"/{count}/{path.name}" for path in (server.receive_root / str(count)).glob("*")}
        assert arrived == entries.keys()


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"destinationId": "999999"}, "999999"),
        ({"priorityLane": "Nowhere"}, "Nowhere"),
        ({"manifestId": "1"}, "manifestId"),
        ({"prority": 1}, "did you mean 'priority'"),
        ({"priority": "high"}, "priority must be"),
    ],
)
def test_entries_that_are_not_sent_leave_no_manifest(
    api: APIInterface, server: Server, order: dict[str, Any], why: str
) -> None:
    """What is refused says why, as createTransfer does, and leaves nothing."""
    destination = api.send.createDestination("127.0.0.1", destinationPort=server.port)["destinationId"]
    before = api.send.getManifests()
    with pytest.raises(CommandError, match=why):
        api.lanesync.sendEntries({"/x": {"src": "/x", "size": 1}}, {"destinationId": destination} | order)
    with pytest.raises(CommandError, match="two mappings"):
        twice = {"/x": {"src": "/x", "size": 1}, "//x": {"src": "/y", "size": 1}}
        api.lanesync.sendEntries(twice, {"destinationId": destination})
    with pytest.raises(CommandError, match="createManifest"):
        api.lanesync.sendEntries({"/x": str(server.receive_root)}, {"destinationId": destination})
    assert api.send.getManifests() == before


def test_executables_arrive_as_such(api: APIInterface, server: Server, tmp_path: Path) -> None:
    """`access` x sets the bit whatever the source has; a string mapping keeps the source's."""
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "large").write_bytes(bytes(600_000))
    plain = {"src": str(tmp_path / "plain"), "size": 10}
    large = {"src": str(tmp_path / "large"), "size": 600_000, "access": "x"}
    mappings = {"/a": {**plain, "access": "x"}, "/b": plain, "/c": str(tmp_path / "run"), "/d": large}
    destination = api.send.createDestination("127.0.0.1", destinationPort=server.port)
    transfer = api.send.createTransfer(destination, made(api, mappings), "/access")
    assert api.send.waitForTransfer(transfer)["status"] == "complete"
    root = server.receive_root / "access"
    modes = {name: os.access(root / name, os.X_OK) for name in "abcd"}
    assert modes == {"a": True, "b": False, "c": True, "d": True}


def test_the_deprecated_mapping_does_the_same(api: APIInterface, tmp_path: Path) -> None:
    """fileMappings maps a source to its destination; both may be given together."""
    (tmp_path / "f").write_text("12345")
    manifest = made(api, {"/g": {"src": "/g", "size": 1}}, fileMappings={str(tmp_path / "f"): "/to/f"})
    assert (manifest["totalFiles"], manifest["totalSize"]) == (2, 6)
    assert set(files(api, manifest)) == {"/to/f", "/g"}
    with pytest.raises(CommandError, match="two mappings have the destination path"):
        api.send.createManifest({str(tmp_path / "f"): "/to"}, {"/to": str(tmp_path)})


def test_links_are_followed_or_left_out(api: APIInterface, tmp_path: Path) -> None:
    """Contents by default, also of directories, and never in circles; or no links at all."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_text("x")
    (tmp_path / "dir").symlink_to("real")
    (tmp_path / "file").symlink_to("real/f")
    (tmp_path / "real" / "up").symlink_to("..")
    (tmp_path / "broken").symlink_to("nowhere")
    for options in ({}, {"symlinkOptions": SYMLINKS_COPY_CONTENTS}):
        manifest = made(api, {"/t": str(tmp_path)}, **options)
        assert manifest["status"] == "complete" and "left out" in manifest["errorMessage"]
        assert {"/t/real/f", "/t/dir/f", "/t/file"} <= set(files(api, manifest))
        assert "/t/broken" not in files(api, manifest)
    ignoring = made(api, {"/t": str(tmp_path)}, symlinkOptions=SYMLINKS_IGNORE)
    assert set(files(api, ignoring)) == {"/t/real/f"} and ignoring["errorMessage"] == ""
    with pytest.raises(CommandError, match="SYMLINKS_"):
        api.send.createManifest(mappings={"/t": str(tmp_path)}, symlinkOptions=7)


def test_a_source_that_does_not_exist_is_refused_at_the_call(api: APIInterface, tmp_path: Path) -> None:
    """Also with patterns, and a link to nowhere when links are followed."""
    (tmp_path / "broken").symlink_to("nowhere")
    gone = str(tmp_path / "gone")
    for source in (gone, {"src": gone, "include": ["*"]}, str(tmp_path / "broken")):
        with pytest.raises(CommandError, match="No such file or directory"):
            api.send.createManifest(mappings={"/x": source})
    assert made(api, {"/x": str(tmp_path / "broken")}, symlinkOptions=SYMLINKS_IGNORE)["totalFiles"] == 0


def test_patterns_choose_files(api: APIInterface, tmp_path: Path) -> None:
    """By ending and by pattern, as the documents show both."""
    for name in ("a.mp3", "b.png", "c.PNG", "sub/d.mp3", "sub/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    by_ending = made(api, {"/t": {"src": str(tmp_path), "exclude": [".png", ".txt"]}})
    assert set(files(api, by_ending)) == {"/t/a.mp3", "/t/c.PNG", "/t/sub/d.mp3"}
    documented = {"src": str(tmp_path), "exclude": ["*.png", "*.PNG"], "include": ["*.mp3"]}
    assert set(files(api, made(api, {"/t": documented}))) == {"/t/a.mp3", "/t/sub/d.mp3"}


def test_as_many_files_are_told_as_fit_a_message(api: APIInterface) -> None:
    """Without a limit a huge manifest is refused with the limit that fits; that limit then works, and one
    more does not."""
    count = 150_000
    manifest = made(api, {f"/d/{number:08}": {"src": "/its/source", "size": 1} for number in range(count)})
    assert manifest["totalFiles"] == count
    with pytest.raises(CommandError, match=r"ask for fewer, for example limit=\d+") as refused:
        api.send.getManifestFiles(manifest)
    limit = int(re.findall(r"limit=(\d+)", str(refused.value))[0])
    assert MAX_MESSAGE_BYTES / 200 < limit < count
    found = api.send.getManifestFiles(manifest, limit)["fileMappings"]
    assert len(found) == limit and found[-1]["destPath"] == f"/d/{limit - 1:08}"
    with pytest.raises(CommandError, match=f"limit={limit}"):
        api.send.getManifestFiles(manifest, limit + 1)
    api.send.deleteManifest(manifest)


def test_lists_are_cut_by_exclusive_cursors(api: APIInterface) -> None:
    """before, after and limit of manifests and transfers take ids and structures alike."""
    manifests = [made(api, {"/f": {"src": "/f", "size": 1}}) for _ in range(4)]
    ids = [found["manifestId"] for found in manifests]
    for first, last in ((manifests[0], manifests[3]), (int(ids[0]), ids[3])):
        assert [m["manifestId"] for m in api.send.getManifests(before=last, after=first)] == ids[1:3]
        assert [m["manifestId"] for m in api.send.getManifests(after=first, limit=1)] == ids[1:2]
    destination = api.send.createDestination("127.0.0.1", destinationPort=9, exclusive=True)
    transfers = [api.send.createTransfer(destination, manifest) for manifest in manifests]
    names = [found["transferId"] for found in transfers]
    for which in (destination, destination["destinationId"], int(destination["destinationId"])):
        assert [t["transferId"] for t in api.send.getTransfers(which)] == names
        found = api.send.getTransfers(which, before=transfers[3], after=names[0], limit=1)
        assert [t["transferId"] for t in found] == names[1:2]
    for transfer in transfers:
        api.send.failTransfer(transfer)
    api.send.deleteDestination(destination)


def test_a_manifest_may_be_deleted_while_it_is_sent(
    api: APIInterface, server: Server, tmp_path: Path
) -> None:
    """It is gone for everybody at once, its transfer goes on to the end and tells its files."""
    content = os.urandom(4_000_000)
    (tmp_path / "large").write_bytes(content)
    destination = api.send.createDestination("127.0.0.1", destinationPort=server.port, exclusive=True)
    manifest = made(api, {"/large": str(tmp_path / "large")})
    transfer = api.send.createTransfer(destination, manifest, "/deleted", sendRateMax=8000)
    eventually(lambda: api.send.getTransfer(transfer)["bytesSent"] > 0)
    api.send.deleteManifest(manifest)
    with pytest.raises(CommandError, match="was not found"):
        api.send.getManifest(manifest)
    with pytest.raises(CommandError, match="was not found"):
        api.send.createTransfer(destination, manifest)
    assert manifest["manifestId"] not in {m["manifestId"] for m in api.send.getManifests()}
    api.send.suspendTransfer(transfer)
    api.send.resumeTransfer(transfer)
    api.send.setTransferSendRateMax(transfer, constants.RATE_UNLIMITED)
    assert api.send.waitForTransfer(transfer)["status"] == "complete"
    assert (server.receive_root / "deleted" / "large").read_bytes() == content
    (result,) = api.lanesync.getTransferResults(transfer["transferId"])["files"]
    assert result["path"] == "/deleted/large"


@pytest.mark.parametrize("kind", ["text", "number", "structure"])
def test_ids_are_taken_in_every_form(api: APIInterface, kind: str) -> None:
    """As text, as a number or in a structure, by every method that takes one."""

    def given(structure: Any, name: str) -> Any:
        found = structure[name]
        return {"text": found, "number": int(found), "structure": dict(structure)}[kind]

    send = api.send
    destination = send.createDestination("127.0.0.1", destinationPort=9, exclusive=True)
    to, way = given(destination, "destinationId"), given(destination, "connectionId")
    manifest = made(api, {"/f": {"src": "/f", "size": 1}})
    what = given(manifest, "manifestId")
    transfer = send.createTransfer(to, what)
    it = given(transfer, "transferId")
    assert send.getDestination(to)["destinationId"] == destination["destinationId"]
    assert send.getConnection(way)["connectionId"] == destination["connectionId"]
    assert send.getManifest(what)["manifestId"] == send.waitForManifest(what)["manifestId"]
    assert send.getManifestFiles(what)["manifestId"] == manifest["manifestId"]
    send.updateTransferDefaults(to, priority=5)
    send.updateConnectionParamsAsync(way, sendRateMax=1000)
    send.setSendRateMax(to, 1000)
    send.setPriorityLanes(to, dict(constants.DEFAULT_PRIORITY_LANES))
    send.setTransferPriority(it, 3)
    send.setTransferSendRateMax(it, 100)
    send.updateObjectUserData(it, "key", "value")
    send.deleteObjectUserData(it, "key")
    assert send.getRequestResult(send.suspendTransferAsync(it))["transferId"] == transfer["transferId"]
    assert send.waitForTransfer(it)["status"] == "suspended"
    send.resumeTransfer(it)
    send.failTransfer(it)
    assert send.getTransfer(it)["status"] == "error"
    send.deleteTransfer(it)
    send.deleteManifest(what)
    send.deleteDestination(to)
