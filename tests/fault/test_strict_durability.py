"""`durability: strict`: the order of syncs and renames, as the kernel is asked for them."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_world import World, contents, wait_for, world

from agent.jetstream import constants

pytestmark = pytest.mark.fault
STRICT = constants.DEFAULT_TRANSFER_FLAGS | constants.TRANSFER_FLAG_STRICT
SYNCS = ("fsync", "fdatasync", "syncfs")
CALL = re.compile(r"^(\d+) +(\w+)\((.*?)(?: <unfinished \.\.\.>|\) += (-?\d+).*)$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>.*\) += (-?\d+)")


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


class Trace:
    """What a process asks of the kernel, in order: (call, arguments)."""

    def __init__(self, pid: int, log: Path) -> None:
        calls = "trace=fsync,fdatasync,syncfs,rename,renameat,renameat2"
        command = ["strace", "-f", "-y", "-s", "300", "-e", calls, "-o", str(log), "-p", str(pid)]
        self._log = log
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        if "attached" not in line:
            pytest.skip(f"no tracing here: {line.strip()}")

    def end(self) -> list[tuple[str, str]]:
        self._process.terminate()
        self._process.wait(60)
        return list(_calls(self._log.read_text().splitlines()))


def _calls(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Of what succeeded. What was interrupted by another thread counts where it can prove nothing that is
    not so: a sync at its end, a rename at its beginning."""
    begun: dict[str, str] = {}
    for line in lines:
        if (resumed := RESUMED.match(line)) is not None:
            thread, call, result = resumed.groups()
            if call in SYNCS and result == "0":
                yield call, begun.pop(thread)
        elif (match := CALL.match(line)) is not None:
            thread, call, arguments, result = match.groups()
            if result is None and call in SYNCS:
                begun[thread] = arguments
            elif result in (None, "0"):
                yield call, arguments


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("count", [5, 120])
def test_every_file_is_synced_before_its_rename_and_its_directory_after(w: World, count: int) -> None:
    """Few files are synced one by one, many by file system; either way before the first of them has its
    name; and the directory is synced before the sender hears of them."""
    for number in range(count):
        (w.source / f"f{number}").write_bytes(b"content %d" % number)
    (w.source / "large").write_bytes(random.Random(1).randbytes(3 << 20))
    assert w.receiver is not None
    trace = Trace(w.receiver.process.pid, w.home / "trace")
    w.start("1", flags=STRICT, checkpointSeconds=0)
    assert w.finish("1")["status"] == "complete"
    calls = trace.end()
    renames = [
        at for at, (call, what) in enumerate(calls) if call.startswith("rename") and '"journal' not in what
    ]
    assert len(renames) == count + 1
    for at in renames:
        temporary = re.findall(r'"([^"]+)"', calls[at][1])[0]
        before = [
            what
            for call, what in calls[:at]
            if call == "syncfs" or (call in SYNCS and f"/{temporary}>" in what)
        ]
        assert before, f"{temporary} has its name before it is on storage"
        after = [what for call, what in calls[at:] if call == "fsync" and what.endswith("/received/in>")]
        assert after, "its directory is synced afterwards"
    assert contents(w.source) == contents(w.root / "in")


def test_a_strict_transfer_survives_breaks_and_carries_everything(w: World) -> None:
    for number in range(300):
        folder = w.source / f"d{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(b"x" * number)
    (w.source / "empty").mkdir()
    (w.source / "large").write_bytes(random.Random(1).randbytes(5 << 20))
    w.start("1", flags=STRICT, rate=30_000.0)
    wait_for(lambda: w.bytes_sent.get("1", 0) > 1 << 20, "some of it is there")
    assert w.receiver is not None
    w.receiver.kill()
    w.start_receiver()
    assert w.finish("1")["status"] == "complete"
    assert contents(w.source) == contents(w.root / "in")


def test_strict_in_place_keeps_the_file(w: World) -> None:
    (w.root / "in").mkdir()
    (w.root / "in" / "same").write_bytes(b"old content")
    inode = (w.root / "in" / "same").stat().st_ino
    (w.source / "same").write_bytes(b"new content")
    w.start("1", flags=STRICT, overwriteMode=constants.OVERWRITE_IN_PLACE_SAME_SIZE)
    assert w.finish("1")["status"] == "complete"
    assert (w.root / "in" / "same").read_bytes() == b"new content"
    assert (w.root / "in" / "same").stat().st_ino == inode
