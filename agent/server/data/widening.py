"""When a session gets more streams.

A congestion control that takes each lost packet for congestion (cubic) is slow on a long line that loses some
for other reasons: at 100 ms and 1 % one stream carries some 2 Mbit/s, whatever the line could. Many streams
carry as many times that. BBR does not need it, nor does a line without loss, where two streams are fair to
others; so streams are added only when loss is seen, and only for as long as the session lasts.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.server.data.wire import CHUNK_SIZE

if TYPE_CHECKING:
    from agent.server.data.secure import SecureSocket

MOST = 64
FACTOR = 4  # 2, 8, 32, 64
EVERY = 2.0  # seconds between looks
LONG_LINE = 0.01  # seconds of round trip; on a shorter one a stream recovers quickly
LOSS = 0.0005  # of the packets sent
BUSY = 0.6  # of the time: there was something to send
SMALLEST_PIECE = 32 * 1024
NOTSENT = 1 << 20  # bytes that all streams together may leave unsent in the kernel …
SMALLEST_UNSENT = (
    64 * 1024
)  # … but each some round trips of what it carries: the kernel asks for more at half of it

_TCP_INFO = struct.Struct("=8x24I")  # up to tcpi_total_retrans; then 64-bit numbers, aligned
_RTT, _RETRANSMITTED = 15, 23
_SEGMENTS, _BUSY_TIME = 156, 168  # tcpi_data_segs_out, tcpi_busy_time (microseconds), since Linux 4.10
_SIZE = 176


class Sample(NamedTuple):
    """One stream so far."""

    segments: int
    retransmitted: int
    busy: float  # seconds in which there was something to send
    round_trip: float  # seconds


def sample(sock: socket.socket | SecureSocket) -> Sample | None:
    """What the kernel counts; None where it does not. OSError when the connection is gone."""
    info: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _SIZE:
        return None
    numbers = _TCP_INFO.unpack_from(info)
    (segments,) = struct.unpack_from("=I", info, _SEGMENTS)
    (busy,) = struct.unpack_from("=Q", info, _BUSY_TIME)
    return Sample(segments, numbers[_RETRANSMITTED], busy / 1e6, numbers[_RTT] / 1e6)


def wanted(before: Sequence[Sample], now: Sequence[Sample], seconds: float) -> int:
    """How many streams there should be, given two looks at the same ones, so many seconds apart."""
    pairs = list(zip(before, now, strict=True))
    segments = sum(max(0, new.segments - old.segments) for old, new in pairs)
    lost = sum(max(0, new.retransmitted - old.retransmitted) for old, new in pairs)
    busy = sum(new.busy - old.busy for old, new in pairs) / max(seconds * len(pairs), 1e-9)
    far = min((new.round_trip for _, new in pairs), default=0.0) >= LONG_LINE
    if far and segments and busy >= BUSY and lost / segments >= LOSS:
        return min(MOST, len(pairs) * FACTOR)
    return len(pairs)


def piece(streams: int) -> int:
    """Most content of one frame. Each stream of many is slow: what it has begun must not keep what is more
    urgent waiting."""
    return CHUNK_SIZE if streams <= 2 else max(SMALLEST_PIECE, CHUNK_SIZE * 2 // streams)


def unsent(streams: int) -> int:
    """TCP_NOTSENT_LOWAT of each stream."""
    return max(SMALLEST_UNSENT, NOTSENT // streams)
