"""What becomes of a file that exists at the destination: the overwrite modes, between two real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from delivery import World, two_servers
from servers import Server, eventually

from agent.jetstream.constants import (
    OVERWRITE_ALWAYS,
    OVERWRITE_BACKUP,
    OVERWRITE_IN_PLACE_ALWAYS,
    OVERWRITE_IN_PLACE_NEVER,
    OVERWRITE_IN_PLACE_SAME_SIZE,
    OVERWRITE_NEVER,
)

pytestmark = pytest.mark.e2e

SMALL, LARGE = 1000, 700_000  # in a pack, in chunks
SLOW = 8_000  # kbit/s


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with two_servers(tmp_path_factory.mktemp("servers")) as pair:
        yield pair


@pytest.fixture
def w(servers: tuple[Server, Server], tmp_path: Path) -> Iterator[World]:
    with servers[0].api() as api:
        yield World(*servers, api, tmp_path)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("there", ["nothing", "same size", "other size", "empty"])
@pytest.mark.parametrize(
    "mode",
    [
        OVERWRITE_IN_PLACE_NEVER,
        OVERWRITE_IN_PLACE_ALWAYS,
        OVERWRITE_IN_PLACE_SAME_SIZE,
        OVERWRITE_NEVER,
        OVERWRITE_ALWAYS,
        OVERWRITE_BACKUP,
    ],
)
def test_overwrite_modes(w: World, mode: int, there: str, size: int) -> None:
    """Which content the name has afterwards, whether it is still the same file, and what lies beside it."""
    new = os.urandom(size)
    old = {"same size": os.urandom(size), "other size": b"another", "empty": b""}.get(there)
    inode = None
    if old is not None:
        path = w.existing("f", old)
        path.chmod(0o640)
        inode = path.stat().st_ino
    ended = w.send({"/f": str(w.source("f", new))}, overwriteMode=mode)
    assert ended["status"] == "complete", ended
    found = {name: (w.root / name).read_bytes() for name in os.listdir(w.root)}
    if old is not None and mode in (OVERWRITE_NEVER, OVERWRITE_IN_PLACE_NEVER):
        beside = {"f.jetpart": new} if mode == OVERWRITE_NEVER else {}
        assert found == {"f": old, **beside} and w.outcomes(ended) == {"f": "skipped"}
        return
    beside = {"f.jetbak": old} if mode == OVERWRITE_BACKUP and old is not None else {}
    assert found == {"f": new, **beside} and w.outcomes(ended) == {"f": "delivered"}
    fits = mode == OVERWRITE_IN_PLACE_ALWAYS or (
        mode == OVERWRITE_IN_PLACE_SAME_SIZE and there in ("same size", "empty")
    )
    if old is not None:
        assert ((w.root / "f").stat().st_ino == inode) == fits
    if old is not None and fits:
        assert (w.root / "f").stat().st_mode & 0o777 == 0o640


def test_in_place_never_leads_through_a_link(w: World) -> None:
    """A symbolic link is replaced; what it leads to is untouched."""
    outside = w.source("outside", b"x" * SMALL)
    w.root.mkdir(parents=True)
    (w.root / "f").symlink_to(outside)
    w.send({"/f": str(w.source("f", b"y" * SMALL))}, overwriteMode=OVERWRITE_IN_PLACE_ALWAYS)
    assert outside.read_bytes() == b"x" * SMALL
    assert (w.root / "f").read_bytes() == b"y" * SMALL and not (w.root / "f").is_symlink()


def test_holes_of_a_source_erase_what_is_there(w: World) -> None:
    """A sparse file written in place leaves nothing of the old content in its holes."""
    size = 4 << 20
    source = w.home / "sparse"
    with source.open("wb") as file:
        file.truncate(size)
        file.seek(2 << 20)
        file.write(b"island" * 1000)
    kept = w.existing("f", os.urandom(size + 999))
    ended = w.send({"/f": str(source)}, overwriteMode=OVERWRITE_IN_PLACE_ALWAYS)
    assert ended["status"] == "complete" and kept.read_bytes() == source.read_bytes()
    assert ended["blocksAcked"] <= ended["blocksSent"]


@pytest.mark.parametrize("touched", ["written", "replaced"])
def test_what_others_did_to_a_file_during_a_pause_does_not_outlast_it(w: World, touched: str) -> None:
    """A file that is written in place, and was changed while its transfer was suspended, holds the
    source's content in the end; what was sent before is sent again, and counted so."""
    new = os.urandom(12_000_000)
    kept = w.existing("f", os.urandom(len(new)))
    mode = OVERWRITE_IN_PLACE_ALWAYS
    transfer = w.start({"/f": str(w.source("f", new))}, overwriteMode=mode, sendRateMax=4 * SLOW)
    eventually(lambda: w.api.send.getTransfer(transfer)["bytesSent"] > 3_000_000)
    w.api.send.suspendTransfer(transfer)
    if touched == "replaced":
        kept.unlink()
    with kept.open("r+b" if kept.exists() else "wb") as file:
        file.write(b"mine" * 1000)
    w.api.send.setTransferSendRateMax(transfer, -1)
    w.api.send.resumeTransfer(transfer)
    ended = w.api.send.waitForTransfer(transfer)
    assert ended["status"] == "complete", ended
    assert kept.read_bytes() == new
    assert ended["bytesSent"] > len(new) + 3_000_000 and ended["blocksRetransmitted"] * 256 > 3_000_000


@pytest.mark.parametrize("break_", ["suspend", "kill the receiver"])
def test_a_file_in_place_goes_on_after_a_break(w: World, break_: str) -> None:
    """What was written and confirmed is not sent again; in the end the content is whole, in the same file."""
    new = os.urandom(12_000_000)
    kept = w.existing("f", os.urandom(len(new)))
    inode = kept.stat().st_ino
    transfer = w.start(
        {"/f": str(w.source("f", new))},
        overwriteMode=OVERWRITE_IN_PLACE_SAME_SIZE,
        sendRateMax=4 * SLOW,
        checkpointFrequencySeconds=1,
    )
    eventually(lambda: w.api.send.getTransfer(transfer)["bytesSent"] > 5_000_000)
    if break_ == "suspend":
        w.api.send.suspendTransfer(transfer)
        assert kept.stat().st_ino == inode and kept.read_bytes() != new
        w.api.send.resumeTransfer(transfer)
    else:
        w.receiver.kill()
        w.receiver.start()
    w.api.send.setTransferSendRateMax(transfer, -1)
    ended = w.api.send.waitForTransfer(transfer)
    assert ended["status"] == "complete", ended
    assert kept.read_bytes() == new and kept.stat().st_ino == inode
    if break_ == "suspend":
        assert (ended["bytesSent"], ended["blocksRetransmitted"]) == (len(new), 0)
    else:
        assert ended["bytesSent"] < 2 * len(new)
