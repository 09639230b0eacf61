"""Which blocks of a large file differ from an older version, and what is sent of it, decided without I/O."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server.confine import Directories
from agent.server.counters import Counters
from agent.server.data import delta, delta_receiving, delta_sending
from agent.server.data.delta_sending import MAX_UNANSWERED, SKIP, TRIAL, Comparing, worth_asking
from agent.server.data.manifest import Entry
from agent.server.data.ranges import RangeSet
from agent.server.data.reading import Identity
from agent.server.data.received import ReceivedFile
from agent.server.data.wire import CHUNK_SIZE, DELTA_BLOCK, LIMITS, MAX_WANTED, Header, Kind, WireError
from agent.server.data.work import LargeFile

MIB = 1 << 20

pieces = st.builds(
    lambda blocks, cut: b"".join(bytes([block]) * DELTA_BLOCK for block in blocks)[: -cut or None],
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.integers(0, DELTA_BLOCK - 1),
)
"""Content of a few blocks, the last one short, with blocks that are often the same."""


@given(pieces, pieces, st.integers(0, 2**64 - 1))
def test_the_older_version_with_what_is_wanted_gives_the_new_one(new: bytes, old: bytes, seed: int) -> None:
    """Whatever was changed, appended or cut off."""
    old = old[: len(new)]
    wanted = delta.differing(delta.sums(new, seed), delta.sums(old, seed), len(new))
    made = bytearray(len(new))
    for start, end in delta.between(wanted, len(new)):
        assert end <= len(old), "nothing is taken from beyond its end"
        made[start:end] = old[start:end]
    for start, end in wanted:
        made[start:end] = new[start:end]
    assert made == new


@given(pieces, st.integers(0, 7))
def test_no_more_is_wanted_than_the_block_that_was_changed(new: bytes, block: int) -> None:
    at = block * DELTA_BLOCK % len(new) // DELTA_BLOCK * DELTA_BLOCK
    old = bytearray(new)
    old[at] ^= 1
    wanted = delta.differing(delta.sums(new, 1), delta.sums(old, 1), len(new))
    assert wanted == [(at, min(len(new), at + DELTA_BLOCK))]


@given(st.sets(st.integers(0, CHUNK_SIZE // DELTA_BLOCK - 1)), st.integers(0, DELTA_BLOCK - 1))
def test_what_is_wanted_survives_its_frame_however_much_it_is(changed: set[int], cut: int) -> None:
    """In ascending ranges, joined where they are near each other, in bounds, and never too many."""
    size = CHUNK_SIZE - cut
    blocks = CHUNK_SIZE // DELTA_BLOCK
    theirs = b"".join(number.to_bytes(8, "big") for number in range(blocks))
    ours = b"".join((number + (number in changed) * 1000).to_bytes(8, "big") for number in range(blocks))
    wanted = delta.differing(theirs, ours, size)
    payload = delta.encode_wanted(wanted)
    assert len(payload) <= LIMITS[Kind.WANT] and len(wanted) <= MAX_WANTED
    assert delta.decode_wanted(payload, size) == wanted
    covered = RangeSet(wanted)
    assert all(covered.covers(at * DELTA_BLOCK, min(size, (at + 1) * DELTA_BLOCK)) for at in changed)


def test_another_seed_gives_other_digests() -> None:
    """So that nobody can prepare two blocks that look alike."""
    assert delta.sums(b"x" * DELTA_BLOCK, 1) != delta.sums(b"x" * DELTA_BLOCK, 2)


def test_a_whole_piece_fits_into_its_frame() -> None:
    payload = delta.encode_sums(bytes(CHUNK_SIZE), 1)
    assert len(payload) == LIMITS[Kind.SUMS]
    assert delta.decode_sums(payload) == (CHUNK_SIZE, delta.sums(bytes(CHUNK_SIZE), 1))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0",
        b"\0\0\x10\0",
        b"\0\0\x10\0" + bytes(7),
        b"\0\0\x10\1" + bytes(8),
        b"\xff\xff\xff\xff" + bytes(2048),
    ],
)
def test_digests_that_do_not_fit_their_content_are_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        delta.decode_sums(payload)


@pytest.mark.parametrize(
    "ranges", [[(0, 0)], [(5, 4)], [(0, 101)], [(0, 10), (10, 20)], [(20, 30), (0, 10)], [(0, 10), (5, 20)]]
)
def test_what_no_receiver_can_want_is_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="WANT"):
        delta.decode_wanted(delta.encode_wanted(ranges), 100)
    with pytest.raises(ValueError, match="malformed"):
        delta.decode_wanted(b"123", 100)


def test_peers_that_do_not_compare_are_not_asked() -> None:
    """Nor over a line where digests are not sealed, nor for small files."""
    large, able = Identity(delta.MIN_SIZE, 1, 2, 3), frozenset(("delta", "sealed"))
    assert worth_asking(able, large, sealed=True)
    assert not worth_asking(able, large, sealed=False)
    assert not worth_asking(able, large._replace(size=delta.MIN_SIZE - 1), sealed=True)
    for feature in able:
        assert not worth_asking(able - {feature}, large, sealed=True)


def file_of(size: int, base: int) -> LargeFile:
    entry = Entry(1, b"/f", b"/src", 0, size, False, None)
    file = LargeFile(entry, -1, Identity(size, 1, 2, 3), 1, deque([(0, size, False)]))
    file.ask()
    assert not file.ready, "nothing is sent before the receiver has said what it has"
    file.parked, file.comparing = False, Comparing(base)
    return file


def test_content_beyond_the_end_of_the_older_version_is_sent_as_it_is() -> None:
    file = file_of(3 * MIB, MIB)
    works = [file.claim(MIB) for _ in range(3)]
    assert [(work.start, work.compare) for work in works] == [(0, True), (MIB, False), (2 * MIB, False)]
    assert works[0].cost < 4096 and works[1].cost == MIB
    assert works[0].turn == MIB, "among the lanes it counts as what it takes to compare"


def test_a_piece_is_no_larger_than_what_may_cross_the_wire() -> None:
    """Digests of as much content as the grant carries, in whole blocks, one at least."""
    file = file_of(64 * MIB, 64 * MIB)
    assert file.claim(8).end == DELTA_BLOCK
    work = file.claim(80)
    assert (work.start, work.end) == (DELTA_BLOCK, 11 * DELTA_BLOCK)
    assert file.claim(1).end == 12 * DELTA_BLOCK
    assert file.claim(MIB).end == 12 * DELTA_BLOCK + CHUNK_SIZE


def test_what_is_wanted_goes_before_what_is_to_be_compared() -> None:
    """So the receiver has few gaps to remember. It is cut as it is granted."""
    file = file_of(8 * MIB, 8 * MIB)
    file.claim(MIB)
    file.wanted.append((0, 3 * DELTA_BLOCK))
    work = file.claim(2 * DELTA_BLOCK)
    assert (work.start, work.end, work.compare, work.again) == (0, 2 * DELTA_BLOCK, False, True)
    work = file.claim(MIB)
    assert (work.start, work.end, work.again) == (2 * DELTA_BLOCK, 3 * DELTA_BLOCK, True)
    assert file.claim(MIB).compare


def test_only_so_many_pieces_are_unanswered() -> None:
    size = (MAX_UNANSWERED + 9) * MIB
    file = file_of(size, size)
    claimed = [file.claim(MIB) for _ in range(MAX_UNANSWERED)]
    assert not file.ready
    file.wanted.append((0, 1))
    assert file.ready, "what is wanted does not wait"
    file.claim(1)
    assert file.comparing is not None and file.comparing.answered(claimed[0].start) == MIB and file.ready
    with pytest.raises(KeyError):
        file.comparing.answered(claimed[0].start)


def compared(size: int, differs: object) -> int:
    """How much of a file of `size` is compared when `differs` says what each piece answers."""
    file, total = file_of(size, size), 0
    assert file.comparing is not None and callable(differs)
    while file.ready:
        work = file.claim(MIB)
        if work.compare:
            total += work.end - work.start
            piece = file.comparing.answered(work.start)
            file.comparing.found(piece, piece if differs(work.start) else 0)
    return total


def test_comparing_ends_early_where_all_is_different() -> None:
    """And is tried again ever more rarely."""
    size = 4096 * MIB
    assert TRIAL <= compared(size, lambda _start: True) <= size // 30
    assert compared(size, lambda _start: False) == size


def test_a_stretch_that_differs_does_not_end_it_for_good() -> None:
    size = 4096 * MIB
    assert compared(size, lambda start: start < TRIAL) == size - SKIP


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 50)), max_size=60), st.integers(1, 20))
def test_the_largest_ranges_are_kept(spans: list[tuple[int, int]], count: int) -> None:
    ranges = RangeSet([(start, start + size) for start, size in spans])
    every, kept = ranges.ranges(), ranges.largest(count)
    assert kept == sorted(kept) and len(kept) == min(count, len(every)) and set(kept) <= set(every)
    sizes = sorted((end - start for start, end in every), reverse=True)
    assert sorted((end - start for start, end in kept), reverse=True) == sizes[:count]


def answer(kind: Kind, offset: int, generation: int = 1, seq: int = 1) -> Header:
    return Header(kind, 0, generation, 1, seq, 0, offset)


def asked() -> tuple[Any, LargeFile]:
    """A transfer of one file of two MiB that waits for what the receiver has of it."""
    file = file_of(2 * MIB, 0)
    file.parked, file.comparing = True, None
    return SimpleNamespace(files={1: file}, counters=Counters()), file


def test_what_the_receiver_has_is_counted_and_the_rest_is_sent() -> None:
    transfer, file = asked()
    delta_sending.based(transfer, answer(Kind.BASE, 2 * MIB))
    file.claim(MIB)
    wanted = memoryview(delta.encode_wanted([(0, DELTA_BLOCK)]))
    delta_sending.wanted(transfer, answer(Kind.WANT, 0), wanted)
    assert transfer.counters.bytes_matched == MIB - DELTA_BLOCK and file.naks == 1
    assert file.left == MIB + DELTA_BLOCK and list(file.wanted) == [(0, DELTA_BLOCK)]
    with pytest.raises(KeyError):
        delta_sending.wanted(transfer, answer(Kind.WANT, 0), wanted)
    with pytest.raises(KeyError):
        delta_sending.wanted(transfer, answer(Kind.WANT, MIB), wanted)


def test_without_an_older_version_all_is_sent() -> None:
    transfer, file = asked()
    delta_sending.based(transfer, answer(Kind.BASE, 0))
    assert file.ready and not file.claim(MIB).compare


def test_answers_about_another_attempt_are_passed_over() -> None:
    """As are those that come twice, or for what was not asked."""
    transfer, file = asked()
    delta_sending.based(transfer, answer(Kind.BASE, 5 * MIB, generation=2))
    delta_sending.based(transfer, answer(Kind.BASE, 5 * MIB, seq=3))
    delta_sending.wanted(transfer, answer(Kind.WANT, 0), memoryview(b""))
    assert file.parked
    delta_sending.based(transfer, answer(Kind.BASE, 0))
    delta_sending.based(transfer, answer(Kind.BASE, 5 * MIB))
    assert file.comparing is None


def find(file: ReceivedFile, root: Path, name: bytes, folder: tuple[bytes, ...] = ()) -> None:
    directories = Directories(os.fsencode(root))
    delta_receiving.find(file, directories, folder, name)
    directories.clear()


def test_what_was_compared_is_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older version may become another at any instant."""
    old = os.urandom(8 * DELTA_BLOCK)
    (tmp_path / "old").write_bytes(old)
    file = ReceivedFile(1, 1, (len(old), 1, 1, 1), b"/old", 0)
    file.seed = 7
    find(file, tmp_path, b"old")
    assert file.base_size == len(old)
    read = os.preadv

    def read_and_spoil(*arguments: Any) -> int:
        got = read(*arguments)
        (tmp_path / "old").write_bytes(bytes(len(old)))
        return got

    monkeypatch.setattr(delta_receiving.os, "preadv", read_and_spoil)
    new = b"x" * DELTA_BLOCK + old[DELTA_BLOCK:]
    made = os.open(tmp_path / "made", os.O_RDWR | os.O_CREAT)
    wanted = delta_receiving.Comparer().copy(file, made, 0, len(old), delta.sums(new, 7))
    assert wanted == [(0, DELTA_BLOCK)] and os.pread(made, len(old), 0)[DELTA_BLOCK:] == old[DELTA_BLOCK:]
    os.close(made)
    file.close()


def test_a_directory_that_is_not_there_is_not_made_to_look_into_it(tmp_path: Path) -> None:
    """It is made with what it holds, or with its set. Nor is a link followed."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "f").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there")
    for folder, size in ((b"new", 0), (b"link", 0), (b"there", 3)):
        file = ReceivedFile(1, 1, (5, 1, 1, 1), b"/f", 0)
        find(file, tmp_path, b"f", (folder,))
        assert file.base_size == size
        file.close()
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "nothing"])
def test_only_regular_files_are_compared(tmp_path: Path, what: str) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("old")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    file = ReceivedFile(1, 1, (5, 1, 1, 1), b"/f", 0)
    find(file, tmp_path, what.encode())
    assert (file.base, file.base_size) == (-1, 0)


def test_what_cannot_be_read_of_the_older_version_is_asked_for(tmp_path: Path) -> None:
    """It has become shorter, or its disk has an error there."""
    content = os.urandom(3 * DELTA_BLOCK)
    (tmp_path / "old").write_bytes(content[: DELTA_BLOCK + 100])
    made = os.open(tmp_path / "made", os.O_RDWR | os.O_CREAT)
    file = ReceivedFile(1, 1, (len(content), 1, 1, 1), b"/f", 0)
    file.seed = 7
    comparer, theirs = delta_receiving.Comparer(), delta.sums(content, 7)
    file.base = os.open(tmp_path / "old", os.O_RDONLY)
    assert comparer.copy(file, made, 0, len(content), theirs) == [(DELTA_BLOCK, len(content))]
    file.close()
    file.base = os.open(tmp_path, os.O_RDONLY)  # reading this is an error
    assert comparer.copy(file, made, 0, len(content), theirs) == [(0, len(content))]
    os.close(file.base)
    os.close(made)
