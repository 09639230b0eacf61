"""Large files are written around the page cache where the device is fast, and arrive the same either way."""

from __future__ import annotations

import mmap
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server.data import directio
from agent.server.data.directio import (
    ALIGNMENT,
    JUDGED,
    LEAST_PIECE,
    LEAST_SIZE,
    REST_SECONDS,
    SLOW,
    DirectIO,
    Pace,
)

MIB = 1 << 20


def _aligned(content: bytes) -> memoryview:
    room = mmap.mmap(-1, len(content))
    room[:] = content
    return memoryview(room)


def _new(folder: Path, direct: DirectIO, size: int = LEAST_SIZE) -> tuple[int, int]:
    """A file and its descriptor for direct I/O; the test is skipped where there is none."""
    fd = os.open(folder / "f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    parent = os.open(folder, os.O_RDONLY)
    other = direct.open(b"f", parent, size)
    os.close(parent)
    if directio.alignment(fd) == 0:
        assert other == -1
        pytest.skip("direct I/O is not to be had below the temporary directory")
    return fd, other


def _cached(fd: int, offset: int) -> bool:
    """Whether a page of a file is in memory."""
    try:
        return os.preadv(fd, [bytearray(ALIGNMENT)], offset, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False


def test_what_is_written_directly_is_not_in_the_page_cache(tmp_path: Path) -> None:
    content, direct = random.Random(1).randbytes(MIB), DirectIO()
    fd, other = _new(tmp_path, direct)
    assert direct.write(other, _aligned(content), 3 * MIB) == MIB
    assert not _cached(fd, 3 * MIB)
    os.pwrite(fd, b"the end", 4 * MIB)  # and that through the cache stands beside it
    assert os.pread(fd, MIB + 7, 3 * MIB) == content + b"the end"


@pytest.mark.parametrize(
    ("size", "offset"), [(LEAST_PIECE + 1, 0), (LEAST_PIECE, 512), (LEAST_PIECE - ALIGNMENT, 0), (0, 0)]
)
def test_pieces_that_are_short_or_not_aligned_are_left_to_the_page_cache(
    tmp_path: Path, size: int, offset: int
) -> None:
    direct = DirectIO()
    _, other = _new(tmp_path, direct)
    assert direct.write(other, memoryview(bytes(size)), offset) == 0


def test_memory_that_is_not_aligned_is_left_to_the_page_cache(tmp_path: Path) -> None:
    direct = DirectIO()
    _, other = _new(tmp_path, direct)
    content = _aligned(bytes(LEAST_PIECE + ALIGNMENT))
    assert direct.write(other, content[1 : LEAST_PIECE + 1], 0) in (0, LEAST_PIECE)


def test_a_file_without_such_a_descriptor_is_left_to_the_page_cache() -> None:
    assert DirectIO().write(-1, memoryview(bytes(MIB)), 0) == 0


def test_small_files_are_left_to_the_page_cache(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    parent = os.open(tmp_path, os.O_RDONLY)
    assert DirectIO().open(b"f", parent, LEAST_SIZE - 1) == -1


def test_file_systems_that_tell_no_alignment_are_written_through_the_page_cache() -> None:
    """Such as tmpfs, which has nothing but the page cache."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("there is no tmpfs")
    path = memory / f"lanesync-test-{os.getpid()}"
    path.write_bytes(b"")
    parent = os.open(memory, os.O_RDONLY)
    try:
        assert DirectIO().open(os.fsencode(path.name), parent, LEAST_SIZE) == -1
    finally:
        path.unlink()
        os.close(parent)


def test_a_full_device_is_an_error_and_not_a_reason_to_try_otherwise(tmp_path: Path) -> None:
    direct = DirectIO()
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        direct.write(full, _aligned(bytes(MIB)), 0)


def _write(pace: Pace, written: int, rate: float, now: float) -> float:
    pace.begin(written, now)
    now += written / rate
    pace.end(written, now)
    return now


def test_a_slow_device_rests_and_is_tried_again() -> None:
    pace = Pace()
    now = _write(pace, JUDGED, SLOW * 0.9, 100.0)
    assert pace.slow(now) and pace.slow(now + REST_SECONDS - 1)
    assert not pace.slow(now + REST_SECONDS)


@given(st.lists(st.floats(1.1, 50.0), min_size=1, max_size=200), st.floats(0, 10))
def test_a_fast_device_never_rests_however_seldom_it_is_written_to(rates: list[float], pause: float) -> None:
    pace, now = Pace(), 0.0
    for rate in rates:
        now = _write(pace, 4 * MIB, SLOW * rate, now) + pause
        assert not pace.slow(now)


@given(st.integers(1, 32))
def test_a_device_is_judged_by_all_who_write_to_it_at_once(streams: int) -> None:
    """Each of many takes longer, and all together are as fast as the device."""
    pace, now = Pace(), 0.0
    for _ in range(4 * JUDGED // (streams * MIB) + 1):
        for _ in range(streams):
            pace.begin(MIB, now)
        now += streams * MIB / (SLOW * 1.5)
        for _ in range(streams):
            pace.end(MIB, now)
        assert not pace.slow(now)


def test_a_few_bytes_judge_nobody() -> None:
    pace = Pace()
    assert not pace.slow(_write(pace, JUDGED - 1, SLOW / 100, 0.0))
