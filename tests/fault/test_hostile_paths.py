"""Somebody at the receiver exchanges directories and files under a transfer: nothing gets outside."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from data_world import World, contents, wait_for, world

from agent.jetstream import constants
from agent.server.confine import FileError
from agent.server.data import staging
from agent.server.data.options import WorkerOptions
from agent.server.data.receiver import Receiver
from agent.server.ipc import Channel

pytestmark = pytest.mark.fault

KIB, MIB = 1 << 10, 1 << 20
MODES = [
    constants.OVERWRITE_ALWAYS,
    constants.OVERWRITE_BACKUP,
    constants.OVERWRITE_NEVER,
    constants.OVERWRITE_IN_PLACE_ALWAYS,
]


@pytest.fixture(scope="module")
def w(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        for number in range(60):
            (made.source / "d").mkdir(exist_ok=True)
            (made.source / "d" / f"small{number}").write_bytes(os.urandom(200))
        for number in range(4):
            (made.source / "d" / f"large{number}").write_bytes(os.urandom(MIB))
        assert made.receiver is not None and made.sender is not None
        pids = made.receiver.process.pid, made.sender.process.pid
        yield made
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        assert sorted(os.listdir(made.home)) == ["outside", "received", "source", "state"]


@pytest.fixture
def outside(w: World) -> Iterator[Path]:
    """A neighbour of the root. What is in it must be what was in it, to the byte and the time."""
    folder = w.home / "outside"
    (folder / "d").mkdir(parents=True, exist_ok=True)
    for name in ("small1", "large1", "small2.jetbak"):
        (folder / "d" / name).write_bytes(b"not yours")
    before, times = contents(folder), _times(folder)
    yield folder
    assert contents(folder) == before and _times(folder) == times


def _times(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in [folder, *folder.rglob("*")]:
        seen = path.lstat()
        found[str(path)] = (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_mode)
    return found


_numbers = iter(range(1, 10_000))


def send(w: World, **changes: Any) -> dict[str, Any]:
    ident = str(next(_numbers))
    w.start(ident, **changes)
    return dict(w.finish(ident)) | {"records": w.records.get(ident, {}), "errors": w.errors.get(ident, {})}


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[list[int]]:
    """`act` again and again, in a thread; how often is in the list."""
    over, rounds = threading.Event(), [0]

    def run() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                act()
            rounds[0] += 1
            over.wait(random.random() * 0.004)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield rounds
    finally:
        over.set()
        thread.join()


# --- races ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_directory_that_turns_into_a_link_under_a_transfer_leads_nowhere(
    w: World, outside: Path, mode: int
) -> None:
    """Renamed away, a link in its place, and back, hundreds of times: files arrive below the root or fail."""
    top = w.root / f"race{mode}"
    (top / "d").mkdir(parents=True)
    for number in range(0, 60, 2):
        (top / "d" / f"small{number}").write_bytes(b"old")

    def exchange() -> None:
        os.rename(top / "d", top / "away")
        os.symlink(outside / "d", top / "d")
        time.sleep(0.002)
        os.unlink(top / "d")
        os.rename(top / "away", top / "d")

    with meanwhile(exchange) as rounds:
        while rounds[0] < 100:
            found = send(w, destinationPath=f"/race{mode}", overwriteMode=mode)
            assert found["status"] in ("complete", "error")
            assert all("symbolic link" in text or "destination" in text for text in found["errors"].values())
    with contextlib.suppress(OSError):
        os.unlink(top / "d")
    with contextlib.suppress(OSError):
        os.rename(top / "away", top / "d")
    if mode in (constants.OVERWRITE_ALWAYS, constants.OVERWRITE_IN_PLACE_ALWAYS):
        assert send(w, destinationPath=f"/race{mode}", overwriteMode=mode)["status"] == "complete"
        for path in (w.source / "d").iterdir():
            assert (top / "d" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_turns_into_a_link_under_a_transfer_is_not_written_through(
    w: World, outside: Path, mode: int
) -> None:
    top = w.root / f"files{mode}" / "d"
    top.mkdir(parents=True)

    def plant() -> None:
        for name in ("small1", "large1", "small2.jetbak"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(top / name)
            os.symlink(outside / "d" / name, top / name)

    with meanwhile(plant) as rounds:
        while rounds[0] < 100:
            send(w, destinationPath=f"/files{mode}", overwriteMode=mode)
    assert w.receiver is not None and w.receiver.process.poll() is None


def test_links_that_are_planted_again_and_again_end_no_other_transfers_session(w: World) -> None:
    """What somebody does to one published file before it is synced is not taken for a failing disk."""
    top = w.root / "mine" / "d"
    top.mkdir(parents=True)
    sessions = len([state for state in w.states if state["state"] == "connected"])

    def plant() -> None:
        os.symlink("/nowhere", top / "planted")
        os.rename(top / "planted", top / "small3")
        os.mkfifo(top / "planted")
        os.rename(top / "planted", top / "small4")

    with meanwhile(plant) as rounds:
        while rounds[0] < 30:
            entries = [(f"/d/small{n}", str(w.source / "d" / f"small{n}"), 0, 200, False) for n in (3, 4)]
            assert send(w, entries=entries, destinationPath="/mine")["status"] == "complete"
    assert len([state for state in w.states if state["state"] == "connected"]) <= max(1, sessions)


# --- what lies in the way -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [7, 400 * KIB])
def test_pipes_sockets_devices_and_links_are_replaced_or_left_and_never_opened(
    w: World, outside: Path, mode: int, size: int
) -> None:
    """No transfer waits for a pipe's reader or writes to a device."""
    top = w.root / f"special{mode}-{size}"
    top.mkdir()
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        sock.bind(f"/proc/self/fd/{folder}/socket")  # its own path may be too long for one
        os.close(folder)
    os.symlink(outside / "d" / "small1", top / "link")
    os.symlink("link", top / "chain")
    names = ["pipe", "socket", "link", "chain"]
    try:
        os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        names.append("null")
    except PermissionError:
        pass
    content = os.urandom(size)
    (w.home / "source" / "content").write_bytes(content)
    entries = [(f"/{name}", str(w.source / "content"), 0, size, False) for name in names]
    found = send(w, entries=entries, destinationPath=f"/{top.name}", overwriteMode=mode)
    os.unlink(w.source / "content")
    assert found["status"] == "complete", found
    replaced = mode != constants.OVERWRITE_NEVER
    for name in names:
        is_file = stat.S_ISREG((top / name).lstat().st_mode)
        assert is_file == replaced, name
        assert not replaced or (top / name).read_bytes() == content


@pytest.mark.parametrize("mode", [constants.OVERWRITE_ALWAYS, constants.OVERWRITE_BACKUP])
def test_another_hard_link_keeps_its_content_when_a_file_is_replaced(w: World, mode: int) -> None:
    """Only writing in place changes other names of a file, as its documentation says."""
    top = w.root / f"hard{mode}"
    top.mkdir()
    kept = w.root / f"kept{mode}"
    kept.write_bytes(b"kept")
    os.link(kept, top / "small1")
    entries = [("/small1", str(w.source / "d" / "small1"), 0, 200, False)]
    assert (
        send(w, entries=entries, destinationPath=f"/{top.name}", overwriteMode=mode)["status"] == "complete"
    )
    assert kept.read_bytes() == b"kept" and (top / "small1").stat().st_ino != kept.stat().st_ino


@pytest.mark.parametrize("size", [200, MIB])
def test_a_program_that_is_written_in_place_keeps_no_special_rights(w: World, size: int) -> None:
    """Who may replace its content is not who it ran as."""
    name = "small1" if size == 200 else "large1"
    top = w.root / f"special{size}"
    top.mkdir()
    (top / name).write_bytes(b"program")
    (top / name).chmod(0o6755)
    entries = [(f"/{name}", str(w.source / "d" / name), 0, size, False)]
    mode = constants.OVERWRITE_IN_PLACE_ALWAYS
    assert (
        send(w, entries=entries, destinationPath=f"/{top.name}", overwriteMode=mode)["status"] == "complete"
    )
    assert stat.S_IMODE((top / name).stat().st_mode) & 0o7000 == 0


# --- the directory of unfinished files ------------------------------------------------------------------


def test_a_link_in_the_place_of_unfinished_files_is_refused(w: World, tmp_path: Path) -> None:
    """Nothing is written, read or swept through it; without it transfers go on."""
    wait_for(lambda: not (w.root / ".lanesync").exists(), "no transfer is left")
    (tmp_path / ("ab" * 16)).mkdir()
    os.utime(tmp_path / ("ab" * 16), (1, 1))
    os.utime(tmp_path, (1, 1))
    before = _times(tmp_path)
    os.symlink(tmp_path, w.root / ".lanesync")
    found = send(w, destinationPath="/linked")
    assert found["status"] == "error" and "symbolic link" in found["message"]
    assert w.ask("discard", uids=["ab" * 16])["results"] == []
    with pytest.raises(FileError, match="symbolic link"):
        staging.remove_abandoned(os.fsencode(w.root), set())
    staging.remove_directory(os.fsencode(w.root), b"ab" * 16)
    assert _times(tmp_path) == before
    os.unlink(w.root / ".lanesync")
    assert send(w, destinationPath="/linked")["status"] == "complete"


def test_abandoned_files_go_though_some_cannot(tmp_path: Path) -> None:
    """A directory that somebody put among them stays; it stops neither the others nor a new transfer."""
    folder = tmp_path / ".lanesync"
    for name in ("a" * 32, "b" * 32, "c" * 32):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.part").write_bytes(b"x")
    (folder / ("a" * 32) / "directory").mkdir()
    for name in ("a" * 32, "b" * 32):
        os.utime(folder / name, (1, 1))
    staging.remove_abandoned(os.fsencode(tmp_path), {"c" * 32})
    assert sorted(os.listdir(folder)) == ["a" * 32, "c" * 32]
    assert os.listdir(folder / ("a" * 32)) == ["directory"]
    again = staging.Staging(os.fsencode(tmp_path), "a" * 32)
    assert again.recover() == []
    again.close()


def test_sweeping_goes_on_over_roots_that_cannot_be_read(tmp_path: Path) -> None:
    """A planted link in one root does not keep another from being swept."""
    one, other = tmp_path / "one", tmp_path / "other"
    (other / ".lanesync" / ("d" * 32)).mkdir(parents=True)
    os.utime(other / ".lanesync" / ("d" * 32), (1, 1))
    one.mkdir()
    os.symlink("/etc", one / ".lanesync")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        receiver = Receiver(
            WorkerOptions("receiver", -1, tmp_path / "state", 2, 2, "server", "uid"), Channel(theirs)
        )
        receiver._swept = {os.fsencode(one), os.fsencode(other)}
        receiver.sweep(0.0)
    assert not (other / ".lanesync" / ("d" * 32)).exists()
