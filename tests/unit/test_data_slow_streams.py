"""A stream that the line holds up: the others of its session go on with the same file."""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import xxhash

from agent.server.data import reading
from agent.server.data.digesting import ContentDigest
from agent.server.data.pump import Pump
from agent.server.data.widening import SMALLEST_PIECE
from agent.server.data.work import ChunkWork, LargeFile

SECONDS = 20


class HeldStream:
    """Sends content once it may."""

    sealed = True

    def __init__(self, number: int) -> None:
        self.number = number
        self.begun = threading.Event()
        self.may = threading.Event()

    def send(self, _header: object, _payload: object = b"") -> None:
        self.begun.set()
        assert self.may.wait(SECONDS)


def test_a_slow_stream_holds_up_no_other_of_many(tmp_path: Path) -> None:
    """It has a piece before theirs; when it is through at last, the digest is that of the whole."""
    content = os.urandom(3 * SMALLEST_PIECE)
    (tmp_path / "file").write_bytes(content)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    entry: Any = SimpleNamespace(src=b"file", seq=0)
    file = LargeFile(entry, fd, reading.identify(fd, b"file"), 1, deque(), digest=ContentDigest())
    link: Any = SimpleNamespace(changed=threading.Condition())
    session: Any = SimpleNamespace(piece=SMALLEST_PIECE, wide=True)
    counters = SimpleNamespace(bytes_sent=0, packets_sent=0)
    transfer: Any = SimpleNamespace(order=SimpleNamespace(reads=True), handle=1, counters=counters)
    file.announced.update(range(3))
    streams: list[Any] = [HeldStream(number) for number in range(3)]

    def carry(number: int) -> threading.Thread:
        start = number * SMALLEST_PIECE
        work = ChunkWork(file, start, start + SMALLEST_PIECE, hole=False)
        pump = Pump(link, session, streams[number])
        thread = threading.Thread(target=pump._transmit, args=(transfer, work), daemon=True)
        thread.start()
        return thread

    slow, other = carry(1), carry(2)
    streams[2].may.set()
    first = carry(0)
    streams[0].may.set()
    for thread in (first, other):
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert streams[1].begun.wait(SECONDS) and slow.is_alive()
    streams[1].may.set()
    slow.join(SECONDS)
    assert file.digest.value(len(content)) == xxhash.xxh3_64_intdigest(content)
    os.close(fd)
