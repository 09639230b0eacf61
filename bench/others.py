"""More programs that LaneSync is compared with: rclone, xrootd and GridFTP."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import processes
from bench.peers import present

NOBODY = "nobody"
Send = Callable[[str, str], float]
"""(source, name of a directory at the destination) -> seconds."""


@contextmanager
def rclone(work: Path, folder: Path) -> Iterator[Send | None]:
    """`rclone copy` to `rclone serve webdav` below `folder`; None when there is none. For large files:
    between two requests it rests, which makes it slow with small ones."""
    if not present("rclone"):
        yield None
        return
    work.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    port, log, config = processes.free_port(), work / "rclone.log", work / "rclone.conf"
    config.write_text(
        f"[bench]\ntype = webdav\nurl = http://127.0.0.1:{port}\nvendor = rclone\n", encoding="ascii"
    )
    options = ["--config", str(config), "--log-level", "ERROR"]
    server = ["rclone", "serve", "webdav", str(folder), "--addr", f"127.0.0.1:{port}", *options]

    def send(source: str, name: str) -> float:
        return processes.run(["rclone", "copy", source, f"bench:{name}", *options], log)

    with processes.running(server, log):
        processes.wait_until(lambda: processes.listens(port), "rclone listens")
        yield send


@contextmanager
def xrootd(work: Path, folder: Path) -> Iterator[Send | None]:
    """`xrdcp` to a server that writes below `folder`; None when there is none. It does not serve as root:
    then it is somebody else's, who owns the folder for as long."""
    if not (present("xrootd") and present("xrdcp")):
        yield None
        return
    work.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    port, log, config = processes.free_port(), work / "xrootd.log", work / "xrootd.cfg"
    config.write_text(
        f"all.role server\nxrd.port {port}\nall.export {folder}\n"
        f"all.adminpath {work}/admin\nall.pidpath {work}/pid\n",
        encoding="ascii",
    )

    def send(source: str, name: str) -> float:
        target = f"root://127.0.0.1:{port}/{folder}/{name}/"
        return processes.run(["xrdcp", "--nopbar", "--silent", "--recursive", source, target], log)

    command = ["xrootd", "-I", "v4", "-c", str(config), "-l", str(work / "server.log")]
    if os.getuid() == 0:
        command += ["-R", NOBODY]
        for path in (work, folder):
            shutil.chown(path, NOBODY)
    with processes.running(command, log):
        processes.wait_until(lambda: processes.listens(port), "xrootd listens")
        yield send


@contextmanager
def gridftp(work: Path, folder: Path) -> Iterator[Send | None]:
    """`globus-url-copy` with two streams to an anonymous server; None when there is none."""
    program = "globus-gridftp-server"
    if not (present(program) and present("globus-url-copy")):
        yield None
        return
    work.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    port, log = processes.free_port(), work / "gridftp.log"
    options = ["-control-interface", "127.0.0.1", "-data-interface", "127.0.0.1", "-p", str(port)]
    command = [program, "-aa", "-anonymous-user", processes.user(), "-allow-root", *options]

    def send(source: str, name: str) -> float:
        target = f"ftp://127.0.0.1:{port}{folder}/{name}/"
        return processes.run(
            ["globus-url-copy", "-q", "-cd", "-r", "-p", "2", f"file://{source}", target], log
        )

    with processes.running(command, log):
        processes.wait_until(lambda: processes.listens(port), "the GridFTP server listens")
        yield send
