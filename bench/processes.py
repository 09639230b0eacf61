"""Starting other programs, and ending what was started."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@contextmanager
def running(
    command: Sequence[str], log: Path, pass_fds: Sequence[int] = (), pipes: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A program for as long as the block lasts; ended by SIGTERM, by SIGKILL when that does not help."""
    pipe = subprocess.PIPE if pipes else None
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or file,
            stderr=file,
            pass_fds=pass_fds,
        )
    try:
        yield process
    finally:
        _end(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run(command: Sequence[str], log: Path) -> float:
    """Run to the end; returns seconds. RuntimeError with the end of its output when it fails."""
    with open(log, "ab") as file:
        start = time.monotonic()
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        ).returncode
        seconds = time.monotonic() - start
    if code != 0:
        raise RuntimeError(f"{' '.join(command[:4])} … ended with {code}:\n{tail(log)}")
    return seconds


def tail(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
        return file.read().decode(errors="replace")


def cpu_seconds() -> float:
    """What all programs that we started have used so far, with those that they started and waited for."""
    found: dict[int, tuple[int, int, int]] = {}  # process -> parent, ticks of its own, of those it waited for
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (
                    (entry / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
                )
            except OSError:
                continue  # it has ended
            own, waited = (sum(map(int, fields[at : at + 2])) for at in (11, 13))
            found[int(entry.name)] = int(fields[1]), own, waited
    ours, before = {os.getpid()}, 0
    while len(ours) > before:
        before = len(ours)
        ours |= {process for process, (parent, _, _) in found.items() if parent in ours}
    ticks = sum(own + waited for process, (_, own, waited) in found.items() if process in ours)
    return (ticks - found[os.getpid()][1]) / os.sysconf("SC_CLK_TCK")


def adopt() -> None:
    """Have processes whose parent ended become our children, so that what they use is counted with the rest.
    They are not waited for until we end."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def loopback_bytes() -> float:
    """What has passed over the loopback device of this machine so far, headers counted, everyone's."""
    with open("/proc/net/dev", encoding="ascii") as file:
        fields = next(line for line in file if line.lstrip().startswith("lo:")).split(":")[1].split()
    return float(fields[8])


def most_memory(pid: int) -> int:
    """Most bytes that a process has had in memory so far; 0 when it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def user() -> str:
    """The name of whom we run as."""
    return pwd.getpwuid(os.getuid()).pw_name


def free_port() -> int:
    """A port that nobody listened on a moment ago (for programs that cannot choose one themselves)."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until(true: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """TimeoutError when it is not true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
