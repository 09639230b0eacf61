"""A line of a given delay, rate and loss between two network namespaces on this machine.

For where the kernel has no `netem`: a small program (link.c, compiled when it is first needed) carries the
packets between two tun devices. Needs root, `ip` and a C compiler.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("link.c")
NEAR, FAR = "10.77.0.1", "10.77.0.2"
MTU = 1500
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_numbers_of_lines = itertools.count(1)
WAITING = 10_000  # most packets that wait for the program when it does not get a processor at once
BUFFER = 64 << 20  # most that one socket may hold: several times what such a line carries, for everyone


@dataclass(frozen=True)
class Shape:
    """Of both directions: one-way delay, rate, share of packets lost at random, queue in front of it."""

    delay: float = 0.05  # seconds
    rate: float = 1e9  # bit/s
    loss: float = 0.0
    queue_bytes: int = 12_500_000
    seed: int = 1


@dataclass(frozen=True)
class Line:
    """Two namespaces with the line between them; `near` has the address NEAR, `far` FAR."""

    near: str
    far: str

    def inside(self, where: str, command: Sequence[str]) -> list[str]:
        """A command that runs in one of the namespaces."""
        return ["ip", "netns", "exec", where, *command]


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread, what it connects to and what it starts are in a namespace, as long as the block lasts;
    connections that were made there stay there."""
    with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{name}", "rb") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def missing() -> str:
    """What keeps a line from being made here; empty when nothing does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    absent = [program for program in ("ip", "gcc") if shutil.which(program) is None]
    return f"{' and '.join(absent)} is not installed" if absent else ""


@contextmanager
def line(shape: Shape) -> Iterator[Line]:
    """For as long as the block lasts. RuntimeError when it cannot be made."""
    if reason := missing():
        raise RuntimeError(reason)
    ident = f"{os.getpid()}-{next(_numbers_of_lines)}"
    made = Line(f"ls-near-{ident}", f"ls-far-{ident}")
    with ExitStack() as stack:
        for name in (made.near, made.far):
            _run("ip", "netns", "add", name)
            stack.callback(_run, "ip", "netns", "del", name)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lanesync-link-"))
        program = Path(folder) / "link"
        _run("gcc", "-O2", "-o", str(program), str(SOURCE))
        _devices(made)
        process = subprocess.Popen(
            [str(program), made.near, "tun0", made.far, "tun0", *_numbers(shape)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, process)
        if process.stdout is None or process.stdout.readline().strip() != "ready":
            raise RuntimeError("the link program did not start")
        yield made


def _numbers(shape: Shape) -> list[str]:
    values = (shape.delay * 1e6, shape.rate, shape.loss * 1e6, shape.queue_bytes, shape.seed)
    return [f"{value:.0f}" for value in values]


def _devices(made: Line) -> None:
    for name, own in ((made.near, NEAR), (made.far, FAR)):
        inside = ("ip", "-n", name)
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "tuntap", "add", "dev", "tun0", "mode", "tun")
        _run(*inside, "addr", "add", f"{own}/24", "dev", "tun0")
        _run(*inside, "link", "set", "tun0", "up", "mtu", str(MTU), "txqueuelen", str(WAITING))
        for option, most in (("tcp_wmem", BUFFER), ("tcp_rmem", BUFFER)):
            _run("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv4.{option}=4096 131072 {most}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.wait(10)
