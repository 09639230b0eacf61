"""What the numbers were measured on."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from agent import __version__

PROGRAMS = (
    "rsync",
    "ssh",
    "rclone",
    "xrdcp",
    "globus-url-copy",
    "lsyncd",
    "syncthing",
    "iperf3",
    "aria2c",
    "tar",
    "cp",
)
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")


def shape(*folders: Path) -> dict[str, str]:
    """The machine in words: cores, memory, kernel, file systems, programs, load, date."""
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) / (1 << 20)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "LaneSync": f"{__version__} {_commit()}".strip(),
        "cores": f"{os.cpu_count()} ({_processor()})",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "file systems": ", ".join(file_system(folder) for folder in folders),
        "Python": f"{platform.python_version()} ({_builder()})",
        "programs": "; ".join(f"{program} {version(program)}" for program in PROGRAMS),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def _commit() -> str:
    """Of this checkout, when it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"({done.stdout.strip()})" if done.returncode == 0 else ""


def _builder() -> str:
    """Who built the interpreter: those of distributions are optimised by a profile, others often are not."""
    return "the distribution's" if sys.base_prefix == "/usr" else "built from source"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def file_system(folder: Path) -> str:
    """Type of the file system that holds `folder`."""
    best, kind = "", "unknown"
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            _, point, found, *_ = line.split()
            inside = str(folder) == point or str(folder).startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, found
    return kind


@cache
def version(program: str) -> str:
    """The number of its version; "missing" when it is not installed."""
    if shutil.which(program) is None:
        return "missing"
    for option in ("--version", "-version", "-V"):
        done = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=20)
        if found := _VERSION.search(done.stdout + done.stderr):
            return found[0]
    return "present"


def sync_file_system(folder: Path) -> None:
    """Have everything that was written to the file system of `folder` on storage."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(fd)
