"""How many streams of a session are in use.

A congestion control that takes each lost packet for congestion (cubic) is slow on a long line that loses some
for other reasons: at 100 ms and 1 % one stream carries some 1.5 Mbit/s, whatever the line could. Many streams
carry as many times that. BBR does not need it, nor does a line without loss, where two streams are fair to
others. So there are more only while packets are lost although nothing waits in the line's queues, and fewer
again as soon as that is over.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from agent.server.data.wire import CHUNK_SIZE

if TYPE_CHECKING:
    from agent.server.data.secure import SecureSocket

MOST = 128
FACTOR = 8  # 2, 16, 128
EVERY = 0.5  # seconds between looks
LONG_LINE = 0.01  # seconds of round trip; on a shorter one a stream recovers quickly
LOSS = 0.0005  # of the packets sent
LITTLE_LOSS = LOSS / 4  # at which many streams have nothing to make up for
CROWDED = 1.5  # times the shortest round trip: queues are full, and loss is what they have no room for
BUSY, LITTLE_BUSY = 0.6, 0.3  # of the time: there was something to send
SMALLEST_PIECE = 32 * 1024
NOTSENT = 1 << 20  # bytes that all streams together may leave unsent in the kernel …
SMALLEST_UNSENT = 32 * 1024  # … but each what it carries until its thread has its turn

_TCP_INFO = struct.Struct("=8x24I")  # up to tcpi_total_retrans; then 64-bit numbers, aligned
_RTT, _RETRANSMITTED = 15, 23
_MIN_RTT = 148  # tcpi_min_rtt (microseconds), since Linux 4.6
_SEGMENTS, _BUSY_TIME = 156, 168  # tcpi_data_segs_out, tcpi_busy_time (microseconds), since Linux 4.10
_NEEDLESS = 216  # tcpi_dsack_dups, since Linux 4.19
_SIZE = 220


class Sample(NamedTuple):
    """One stream so far."""

    segments: int
    lost: int  # sent again, and not only because an answer was late
    busy: float  # seconds in which there was something to send
    round_trip: float  # seconds
    shortest: float  # round trip, ever


def sample(sock: socket.socket | SecureSocket) -> Sample | None:
    """What the kernel counts; None where it does not. OSError when the connection is gone."""
    info: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _SIZE:
        return None
    numbers = _TCP_INFO.unpack_from(info)
    (shortest,) = struct.unpack_from("=I", info, _MIN_RTT)
    (segments,) = struct.unpack_from("=I", info, _SEGMENTS)
    (busy,) = struct.unpack_from("=Q", info, _BUSY_TIME)
    (needless,) = struct.unpack_from("=I", info, _NEEDLESS)
    lost = numbers[_RETRANSMITTED] - needless
    return Sample(segments, lost, busy / 1e6, numbers[_RTT] / 1e6, shortest / 1e6)


def wanted(before: Sequence[Sample], now: Sequence[Sample], seconds: float, least: int) -> int:
    """How many streams should be in use, given two looks at those that are, so many seconds apart. `before`
    may lack the latest of them. `least`: as many as the session began with."""
    count, pairs = len(now), list(zip(before, now, strict=False))
    segments = sum(max(0, new.segments - old.segments) for old, new in pairs)
    lost = sum(max(0, new.lost - old.lost) for old, new in pairs)
    busy = sum(new.busy - old.busy for old, new in pairs) / max(seconds * len(pairs), 1e-9)
    fewer = max(least, count // 2)
    if busy < LITTLE_BUSY or lost < LITTLE_LOSS * segments or crowded(now):
        return fewer
    far = min(new.round_trip for new in now) >= LONG_LINE
    more = far and busy >= BUSY and lost >= LOSS * segments
    return max(count, min(MOST, count * FACTOR)) if more else count


def crowded(now: Sequence[Sample]) -> bool:
    """Whether packets wait in the line's queues."""
    return median(each.round_trip for each in now) >= CROWDED * min(each.shortest for each in now)


def piece(streams: int) -> int:
    """Most content of one frame. Each stream of many is slow: what it has begun must not keep what is more
    urgent waiting."""
    return CHUNK_SIZE if streams <= 2 else max(SMALLEST_PIECE, CHUNK_SIZE * 2 // streams)


def unsent(streams: int) -> int:
    """TCP_NOTSENT_LOWAT of each stream."""
    return max(SMALLEST_UNSENT, NOTSENT // streams)
