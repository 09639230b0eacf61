"""What the rates of a connection mean for the TCP sockets that belong to it.

The limits themselves are kept by `governor`; the kernel's pacing only makes a fixed rate smooth. Which
algorithm finds out how fast the network is, is a setting of each socket.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from agent.jetstream import constants
from agent.server.data import wire
from agent.server.data.wire import Json

if TYPE_CHECKING:
    from agent.server.data.secure import SecureSocket
    from agent.server.data.wire import Stream

SO_MAX_PACING_RATE = 47  # bytes/s; the socket module does not name it
UNPACED = 2**64 - 1
HEADROOM = 1.05  # for headers: the limit is kept elsewhere
BBR = "bbr"
ALGORITHMS = {constants.RATE_CONTROL_CUBIC: "cubic", constants.RATE_CONTROL_BBR: BBR}
_DEFAULT = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class Pace:
    """Rates (kbit/s, None = none) and rate control of one connection, as the sender worker is told."""

    connection: str = ""  # its id; what has the same shares the rates
    rate_min: float | None = None
    rate_max: float | None = None
    rate: float | None = None
    rate_control: bool = True
    rate_method: int = constants.RATE_CONTROL_BEST

    @property
    def fixed(self) -> float | None:
        """The rate at which is sent whatever the network says."""
        if self.rate_control:
            return None
        return self.rate_max if self.rate is None else self.rate

    @classmethod
    def parse(cls, value: Json) -> Pace:
        return cls(**{each.name: value[each.name] for each in fields(cls) if each.name in value})

    def told(self) -> Json:
        return asdict(self)


def apply(streams: Sequence[Stream], pace: Pace) -> tuple[str, str]:
    """Set up a session's sockets; (algorithm in force, what could not be done). OSError when the connection
    is gone."""
    problem = ""
    for stream in streams:
        sock = stream.sock
        fixed = UNPACED
        if pace.fixed is not None:
            fixed = max(1, int(pace.fixed * 125 * HEADROOM / len(streams)))
        sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("@Q", fixed))
        problem = choose(sock, pace.rate_method) or problem
    return in_force(streams[0].sock), problem


def choose(sock: socket.socket | SecureSocket, method: int) -> str:
    """Set the algorithm; empty, or why another one stays in force."""
    if method == constants.RATE_CONTROL_BEST:
        if wire.is_loopback(sock) or _set(sock, BBR):
            _set(sock, _kernel_default())
        return ""
    if method == constants.RATE_CONTROL_DEFAULT:
        return _set(sock, _kernel_default())
    return _set(sock, ALGORITHMS[method])


def unavailable(method: int) -> str:
    """Why this machine cannot do it, with what to do; empty when it can."""
    name = ALGORITHMS.get(method)
    if name is None:
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        return _set(sock, name)


def in_force(sock: socket.socket | SecureSocket) -> str:
    found: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME_BYTES)
    return found.rstrip(b"\0").decode("ascii", "replace")


def _set(sock: socket.socket | SecureSocket, name: str) -> str:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode("ascii"))
    except PermissionError:
        return (
            f"this server may not use the congestion control {name!r}; add {name} to the sysctl "
            "net.ipv4.tcp_allowed_congestion_control"
        )
    except FileNotFoundError:
        return (
            f"this machine does not have the congestion control {name!r}; load it with: modprobe tcp_{name}, "
            "and see it in the sysctl net.ipv4.tcp_available_congestion_control"
        )
    return ""


def _kernel_default() -> str:
    try:
        return _DEFAULT.read_text().strip()
    except OSError:
        return "cubic"
