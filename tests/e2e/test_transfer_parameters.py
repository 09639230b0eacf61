"""Every parameter of createTransfer does what it says, between two real servers."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from delivery import World, two_servers
from freeports import free_port
from servers import Server, eventually, start_server

from agent.jetstream import CommandError, constants
from agent.jetstream.constants import (
    OVERWRITE_NEVER,
    TRANSFER_FLAG_NONE,
    TRANSFER_FLAG_READ,
    TRANSFER_FLAG_WRITE,
    TRANSFER_FLAG_WRITE_MTIME,
    TRANSFER_FLAG_WRITE_ONLY_NEWER,
)

pytestmark = pytest.mark.e2e

SMALL, LARGE = 1000, 700_000  # in a pack, in chunks
READ_WRITE = TRANSFER_FLAG_READ | TRANSFER_FLAG_WRITE
SLOW = 8_000  # kbit/s


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with two_servers(tmp_path_factory.mktemp("servers")) as pair:
        yield pair


@pytest.fixture
def w(servers: tuple[Server, Server], tmp_path: Path) -> Iterator[World]:
    with servers[0].api() as api:
        yield World(*servers, api, tmp_path)


# --- transferFlags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [TRANSFER_FLAG_NONE, TRANSFER_FLAG_READ, TRANSFER_FLAG_WRITE])
def test_without_reading_or_writing_nothing_is_published(w: World, flags: int) -> None:
    """All bytes travel, and the transfer is complete, but no file appears, nothing is left, and what exists
    stays as it is."""
    small, large = w.source("small", os.urandom(SMALL)), w.source("large", os.urandom(LARGE))
    kept = w.existing("small", b"before")
    ended = w.send({"/small": str(small), "/large": str(large), "/d": {}}, transferFlags=flags)
    assert (ended["status"], ended["bytesSent"]) == ("complete", SMALL + LARGE), ended
    assert ended["transferFlags"] == flags and ended["blocksAcked"] == ended["totalBlocks"]
    assert os.listdir(w.root) == ["small"] and kept.read_bytes() == b"before"
    assert not (w.receiver.receive_root / ".lanesync").exists()


@pytest.mark.parametrize("flags", [TRANSFER_FLAG_NONE, TRANSFER_FLAG_WRITE])
def test_a_network_test_needs_no_sources(w: World, flags: int) -> None:
    """Without reading, files of a known size are sent as zeros, whether they exist or not."""
    absent = {"src": str(w.home / "absent")}
    sizes = {
        "/a": {**absent, "size": SMALL},
        "/b": {**absent, "size": 3_000_000},
        "/c": {**absent, "size": 0},
    }
    ended = w.send(sizes, transferFlags=flags)
    assert (ended["status"], ended["bytesSent"]) == ("complete", 3_000_000 + SMALL), ended
    unknown = {**absent, "flags": constants.FILETYPE_REGULAR_FILE}
    assert "absent does not exist" in w.send({"/a": unknown}, transferFlags=flags)["errorMessage"]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_modification_times_are_written_only_when_asked(w: World, size: int) -> None:
    """WRITE_MTIME gives the source's time; without it a file has the time of its arrival."""
    source = w.source("f", os.urandom(size))
    os.utime(source, ns=(0, 1_000_000_000))
    w.send({"/f": str(source)}, transferFlags=READ_WRITE | TRANSFER_FLAG_WRITE_MTIME)
    assert (w.root / "f").stat().st_mtime_ns == 1_000_000_000
    w.send({"/f": str(source)}, transferFlags=READ_WRITE)
    assert (w.root / "f").stat().st_mtime >= w.home.stat().st_mtime - 60


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("older_by", "resolution", "outcome"),
    [(-1, 0, "skipped"), (0, 0, "skipped"), (1, 0, "delivered"), (5, 5, "skipped"), (6, 5, "delivered")],
)
def test_only_newer_files_are_written(
    w: World, size: int, older_by: int, resolution: int, outcome: str
) -> None:
    """What is there is kept when it is newer, or equal within fileTimeResolutionMicroseconds."""
    source, kept = w.source("f", os.urandom(size)), w.existing("f", b"before")
    at = 1_700_000_000_000_000_000
    os.utime(source, ns=(at, at))
    os.utime(kept, ns=(at, at - older_by * 1000))
    ended = w.send(
        {"/f": str(source)},
        transferFlags=READ_WRITE | TRANSFER_FLAG_WRITE_ONLY_NEWER,
        fileTimeResolutionMicroseconds=resolution,
    )
    assert ended["status"] == "complete" and w.outcomes(ended) == {"f": outcome}
    assert (kept.read_bytes() == b"before") == (outcome == "skipped")
    assert ended["blocksAcked"] <= ended["blocksSent"]


# --- counters --------------------------------------------------------------------------------------------


def test_counters_add_up(w: World) -> None:
    """Each block is sent and acknowledged once, packets go both ways, and a restart changes none of it."""
    tree = w.home / "tree"
    tree.mkdir()
    for number in range(50):
        (tree / str(number)).write_bytes(os.urandom(number * 100))
    (tree / "large").write_bytes(os.urandom(LARGE))
    ended = w.send({"/t": str(tree)})
    total = sum(path.stat().st_size for path in tree.iterdir())
    assert (ended["status"], ended["bytesSent"], ended["totalBytes"]) == ("complete", total, total)
    assert ended["blocksSent"] == ended["blocksAcked"] == ended["totalBlocks"] == -(-total // 256)
    assert (ended["blockSize"], ended["blocksRetransmitted"]) == (256, 0)
    assert ended["packetsSent"] >= 4 and ended["packetsRecv"] >= 2  # a pack, FILE, CHUNK, END; DONE twice
    assert ended["bytesRecv"] >= 32 * ended["packetsRecv"]
    w.sender.restart()
    with w.sender.api() as api:
        again = api.send.getTransfer(ended)
    assert {**again, "snapshotTime": 0} == {**ended, "snapshotTime": 0}


def test_what_a_break_costs_is_counted(w: World) -> None:
    """After kill -9 of the receiver, blocks that were sent again are counted, and acknowledged only once."""
    new = os.urandom(12_000_000)
    transfer = w.start(
        {"/f": str(w.source("f", new))}, sendRateMax=4 * SLOW, checkpointFrequencySeconds=0, transferLog=True
    )
    eventually(lambda: w.api.send.getTransfer(transfer)["bytesSent"] > 4_000_000)
    w.receiver.kill()
    w.receiver.start()
    w.api.send.setTransferSendRateMax(transfer, -1)
    ended = w.api.send.waitForTransfer(transfer)
    assert ended["status"] == "complete", ended
    assert ended["bytesSent"] > len(new)
    again = ended["bytesSent"] - len(new)
    assert again // 256 <= ended["blocksRetransmitted"] <= again // 256 + 64
    assert ended["blocksAcked"] == ended["totalBlocks"] <= ended["blocksSent"]
    checkpoints = [line for line in w.log(transfer) if line["event"] == "checkpoint"]
    assert len(checkpoints) <= 1, "only the last one, when they are disabled"
    assert ended["checkpointFrequencySeconds"] is None


# --- the rest --------------------------------------------------------------------------------------------


def test_a_transfer_log_tells_the_whole_story(w: World) -> None:
    """What was asked for, each file's outcome, checkpoints, and how it ended, in order, one JSON object a
    line; only for transfers that ask for it."""
    odd = os.fsdecode(b"f\xff")
    source = w.source(odd, b"x" * 100)
    missing = {"src": str(w.home / "gone"), "size": 4}
    ended = w.send({f"/{odd}": str(source), "/gone": missing}, transferLog=True, checkpointFrequencySeconds=1)
    lines = w.log(ended)
    assert [lines[0]["event"], lines[-1]["event"]] == ["created", "ended"]
    assert {line["transferId"] for line in lines} == {ended["transferId"]}
    times = [line["time"] for line in lines]
    assert times == sorted(times) and times[0] == ended["requestTime"] and times[-1] == ended["endTime"]
    files = {line["path"]: line for line in lines if line["event"] == "file"}
    assert files[f"/{w.name}/{odd}"]["outcome"] == "delivered" and files[f"/{w.name}/{odd}"]["size"] == 100
    assert files[f"/{w.name}/gone"]["outcome"] == "vanished" and "gone" in files[f"/{w.name}/gone"]["error"]
    assert (lines[-1]["status"], lines[-1]["bytesSent"]) == ("error", 100)
    silent = w.send({"/g": str(source)})
    assert not list((w.sender.state_dir.parent / "logs").glob(f"transfer-{silent['transferId']}-*"))


def test_checkpoints_are_taken_as_often_as_asked(w: World) -> None:
    """checkpointFrequencySeconds 1: several while a slow transfer runs, each with files that are durable."""
    tree = w.home / "tree"
    tree.mkdir()
    for number in range(60):
        (tree / str(number)).write_bytes(os.urandom(50_000))
    params = {"checkpointFrequencySeconds": 1, "sendRateMax": 8_000, "transferLog": True}
    ended = w.send({"/t": str(tree)}, **params)
    assert (ended["status"], ended["checkpointFrequencySeconds"]) == ("complete", 1)
    checkpoints = [line for line in w.log(ended) if line["event"] == "checkpoint"]
    done = [line["filesDone"] for line in checkpoints]
    assert len(checkpoints) >= 2 and done == sorted(done) and done[-1] == 60


def test_a_transfer_log_needs_a_folder(w: World) -> None:
    """A server without --log-transfer-dir refuses, naming the option."""
    manifest = w.api.send.createManifest(mappings={"/f": {"src": "/f", "size": 1}})
    with w.receiver.api() as api:
        made = api.send.waitForManifest(api.send.createManifest(mappings={"/f": {"src": "/f", "size": 1}}))
        destination = api.send.createDestination("127.0.0.1", destinationPort=w.sender.port)
        with pytest.raises(CommandError, match="--log-transfer-dir"):
            api.send.createTransfer(destination, made, transferLog=True)
    w.api.send.deleteManifest(manifest)


def test_a_transfer_without_connection_fails_after_its_time(w: World) -> None:
    """timeoutSeconds; 0 is no timeout."""
    nobody = w.api.send.createDestination("127.0.0.1", destinationPort=free_port(), exclusive=True)
    manifest = w.api.send.waitForManifest(
        w.api.send.createManifest(mappings={"/f": {"src": "/f", "size": 1}})
    )
    patient = w.api.send.createTransfer(nobody, manifest, timeoutSeconds=0)
    hasty = w.api.send.createTransfer(nobody, manifest, timeoutSeconds=0.3)
    ended = w.api.send.waitForTransfer(hasty)
    assert (
        ended["status"] == "error" and "no connection to the destination for 0.3 s" in ended["errorMessage"]
    )
    assert w.api.send.getTransfer(patient)["processing"]
    w.api.send.failTransfer(patient)


def test_defaults_of_a_destination_are_those_of_its_new_transfers(w: World) -> None:
    """Every field of updateTransferDefaults is shown and taken over; None leaves one as it is; what a
    transfer says itself goes first."""
    given = {
        "priority": 0,
        "transferFlags": TRANSFER_FLAG_READ,
        "checkpointFrequencySeconds": 7,
        "sendRateMax": 5000.0,
        "priorityLane": "Low",
        "overwriteMode": OVERWRITE_NEVER,
        "fileTimeResolutionMicroseconds": 9,
    }
    w.api.send.updateTransferDefaults(w.destination, **given)
    w.api.send.updateTransferDefaults(w.destination)
    shown = w.api.send.getDestination(w.destination)["transferDefaults"]
    assert shown.items() >= given.items()
    source = w.source("f", b"x")
    made = w.start({"/f": str(source)}, priority=constants.PRIORITY_MAX)
    taken = {"transferFlags", "checkpointFrequencySeconds", "sendRateMax", "priorityLane"}
    assert {name: made[name] for name in taken} == {name: given[name] for name in taken}
    assert made["priority"] == constants.PRIORITY_MAX
    assert w.api.send.waitForTransfer(made)["status"] == "complete" and not w.root.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"priority": -1}, "4294967295"),
        ({"priority": 2**32}, "4294967295"),
        ({"transferFlags": 256}, "TRANSFER_FLAG"),
        ({"overwriteMode": 6}, "OVERWRITE"),
        ({"minCipher": 4}, "MIN_CIPHER"),
        ({"checkpointFrequencySeconds": -1}, "checkpointFrequencySeconds must be"),
        ({"sendRateMax": 0}, "above 0"),
        ({"priorityLane": "Fast"}, "has no lane 'Fast'"),
        ({"fileTimeResolutionMicroseconds": -1}, "fileTimeResolutionMicroseconds must be"),
    ],
)
def test_wrong_values_are_refused_by_name(w: World, wrong: dict[str, Any], message: str) -> None:
    """By createTransfer and updateTransferDefaults alike, and nothing is changed."""
    before = w.api.send.getDestination(w.destination)["transferDefaults"]
    manifest = w.api.send.createManifest(mappings={"/f": {"src": "/f", "size": 1}})
    w.api.send.waitForManifest(manifest)
    with pytest.raises(CommandError, match=message):
        w.api.send.createTransfer(w.destination, manifest, **wrong)
    with pytest.raises(CommandError, match=message):
        w.api.send.updateTransferDefaults(w.destination, **wrong)
    assert w.api.send.getDestination(w.destination)["transferDefaults"] == before
    assert w.api.send.getTransfers(w.destination) == []


def test_credentials_are_forgotten_with_the_end_and_never_shown(tmp_path: Path) -> None:
    """Password and token are in no structure, log or error; once the transfer is over they are nowhere in
    the server's state."""
    secrets = ("correct-horse-battery", "0123456789abcdef-token")
    with start_server(tmp_path / "sender", log_transfer_dir=tmp_path / "logs") as sender:
        with sender.api() as api:
            nobody = api.send.createDestination("127.0.0.1", destinationPort=free_port())
            manifest = api.send.createManifest(mappings={"/f": {"src": "/f", "size": 1}})
            api.send.waitForManifest(manifest)
            by_name = api.send.createTransfer(
                nobody, manifest, userName="jsmith", password=secrets[0], transferLog=True
            )
            by_token = api.send.createTransfer(nobody, manifest, token=secrets[1], transferLog=True)
            both = {"userName": "jsmith", "token": secrets[1]}
            with pytest.raises(CommandError, match="exclude each other") as refused:
                api.send.createTransfer(nobody, manifest, **both)
            told = [str(refused.value), json.dumps([by_name, by_token, api.send.getTransfers()])]
        sender.restart()
        with sender.api() as api:
            stored = [_stored(sender, made) for made in (by_name, by_token)]
            assert [(user, bool(one), bool(other)) for user, one, other in stored] == [
                ("jsmith", True, False),
                (None, False, True),
            ]
            assert not any(secret in str(stored) for secret in secrets)
            api.send.failTransfer(by_name)
            api.send.failTransfer(by_token, "enough")
            assert _stored(sender, by_name) == ("jsmith", None, None)
            told.append(json.dumps(api.send.getTransfers()))
    told.append(sender.log())
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    for secret in secrets:
        assert not any(secret in text for text in told)
        assert not [path.name for path in kept if secret.encode() in path.read_bytes()]


def test_credentials_travel_encrypted_or_not_at_all(w: World) -> None:
    """To another host minCipher 0 is refused with credentials; by default it is encrypted."""
    far = w.api.send.createDestination("192.0.2.1", exclusive=True)
    manifest = w.api.send.createManifest(mappings={"/f": {"src": "/f", "size": 1}})
    w.api.send.waitForManifest(manifest)
    for secret in ({"userName": "jsmith", "password": "secret"}, {"token": "abcdef"}):
        with pytest.raises(CommandError, match="in the clear"):
            w.api.send.createTransfer(far, manifest, minCipher=0, **secret)
        for allowed in ({"minCipher": 2}, {}):
            w.api.send.failTransfer(w.api.send.createTransfer(far, manifest, **secret, **allowed))
    w.api.send.deleteDestination(far)


def _stored(server: Server, transfer: Any) -> tuple[Any, ...]:
    path = f"file:{server.state_dir / 'server.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as database:
        query = "SELECT user_name, password, token FROM transfers WHERE id=?"
        found: tuple[Any, ...] = database.execute(query, (int(transfer["transferId"]),)).fetchone()
    return found
