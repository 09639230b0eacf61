"""Ports that a test may listen on later."""

from __future__ import annotations

import itertools
import os
import random
import socket
from pathlib import Path

FIRST = 10_000


def _below_ephemeral() -> int:
    """Above it the kernel gives ports to any connection that goes out, also between our look and the use."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768


_LAST = max(_below_ephemeral(), FIRST + 1000)
_CHANCE = random.Random(os.urandom(16))  # not the seed of a test: each process begins elsewhere
_NEXT = itertools.count(_CHANCE.randrange(_LAST - FIRST))


def free_port() -> int:
    """One that nobody listens on and that this process has not given before."""
    for offset in itertools.islice(_NEXT, _LAST - FIRST):
        port = FIRST + offset % (_LAST - FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port from {FIRST} to {_LAST}")
