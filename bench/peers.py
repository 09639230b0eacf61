"""The programs that LaneSync is compared with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes

_LOOPS = [sys.executable, "-m", "bench.loops"]


@dataclass(frozen=True)
class RsyncDaemon:
    """A daemon on loopback that writes below `folder`."""

    folder: Path
    port: int
    log: Path

    def send(self, source: str, name: str) -> float:
        """`rsync -a SOURCE` into the directory `name` of the folder; returns seconds."""
        target = f"rsync://127.0.0.1:{self.port}/bench/{name}/"
        return processes.run(["rsync", "-a", source, target], self.log)


@contextmanager
def rsync_daemon(work: Path, folder: Path) -> Iterator[RsyncDaemon | None]:
    """None when there is no rsync."""
    if not present("rsync"):
        yield None
        return
    work.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    port, log, config = processes.free_port(), work / "rsyncd.log", work / "rsyncd.conf"
    owner = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.getuid() == 0 else ""
    config.write_text(
        f"use chroot = no\nreverse lookup = no\n{owner}[bench]\npath = {folder}\nread only = no\n"
    )
    command = ["rsync", "--daemon", "--no-detach", f"--config={config}", f"--port={port}"]
    with processes.running([*command, "--address=127.0.0.1"], log):
        processes.wait_until(lambda: processes.listens(port), "the rsync daemon listens")
        yield RsyncDaemon(folder, port, log)


def present(program: str) -> bool:
    return shutil.which(program) is not None


def copy(source: str, target: Path, log: Path) -> float:
    """`cp -r`; returns seconds."""
    return processes.run(["cp", "-r", source, str(target)], log)


def sendfile_loop(source: Path, target: Path, log: Path) -> float:
    """Bare sendfile -> splice over one loopback connection between two processes that stand ready; returns
    seconds. No checksums, no names, no recovery: what the kernel gives to a single stream."""
    return _loop(("receive", target), ("send", source), log)


def tar_through_a_socket(source: Path, target: Path, log: Path) -> float:
    """`tar -c` into a loopback connection, `tar -x` out of it, likewise; seconds until the second has ended.
    What can hardly be undercut."""
    return _loop(("untar", target), ("tar", source), log)


def _loop(take: tuple[str, Path], give: tuple[str, Path], log: Path) -> float:
    with processes.running([*_LOOPS, take[0], str(take[1])], log, pipes=True) as taker:
        port = line_of(taker)
        with processes.running([*_LOOPS, give[0], str(give[1]), port], log, pipes=True) as giver:
            line_of(giver)
            assert giver.stdin is not None
            start = time.monotonic()
            giver.stdin.write(b"go\n")
            giver.stdin.flush()
            line_of(taker)
            return time.monotonic() - start


@contextmanager
def copy_loop(source: Path, target: Path, log: Path) -> Iterator[None]:
    """A bare watchdog + copy loop that keeps `target` like `source`, as long as the block lasts."""
    command = [sys.executable, "-m", "bench.loops", "watch", str(source), str(target)]
    with processes.running(command, log, pipes=True) as process:
        line_of(process)
        yield


@contextmanager
def lsyncd(source: Path, target: Path, log: Path) -> Iterator[None]:
    """lsyncd with delay 0, driving a local rsync."""
    command = ["lsyncd", "-nodaemon", "-delay", "0", "-rsync", str(source), str(target)]
    with processes.running(command, log):
        yield


def line_of(process: subprocess.Popen[bytes]) -> str:
    """The next line that a program of ours prints."""
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if not line:
        raise RuntimeError(f"{process.args!r} ended before it was ready")
    return line
