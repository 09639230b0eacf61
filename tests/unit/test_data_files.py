"""Names, ranges, reading and publishing: the parts of the data path that touch files."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jetstream import constants
from agent.server.confine import Directories, FileError, split
from agent.server.data import reading, staging
from agent.server.data.publish import Policy, Staged, publish
from agent.server.data.ranges import RangeSet
from agent.server.results import Outcome

UID = "0123456789abcdef" * 2
SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(SPANS, st.integers(0, 60), st.integers(0, 60))
def test_range_sets_behave_like_sets_of_bytes(spans: list[tuple[int, int]], start: int, end: int) -> None:
    """Adding, covering and what is missing agree with a plain set of offsets, sorted and apart."""
    ranges, model = RangeSet(), set()
    for low, high in spans:
        ranges.add(low, high)
        model |= set(range(low, high))
    assert ranges.covers(start, end) == (set(range(start, end)) <= model)
    missing = {at for low, high in ranges.missing(start, end) for at in range(low, high)}
    assert missing == set(range(start, end)) - model
    found = ranges.ranges()
    assert all(one[1] < two[0] for one, two in itertools.pairwise(found))
    assert {at for low, high in found for at in range(low, high)} == model


@given(st.binary(max_size=60))
def test_split_never_leads_out(path: bytes) -> None:
    """Whatever a path holds, its components are plain names, or it is refused."""
    try:
        parts = split(path)
    except FileError:
        return
    assert all(part not in (b"", b".", b"..") and b"/" not in part and b"\0" not in part for part in parts)
    assert b"/".join(parts) == b"/".join(part for part in path.split(b"/") if part)


@pytest.mark.parametrize(
    "path", [b"a/../b", b"..", b"/./a", b"a\0b", b"n" * 256, b"/.lanesync/x", b"a/" * 3000]
)
def test_names_that_are_refused(path: bytes) -> None:
    """Climbing, NUL, overlong and reserved names are refused by name."""
    with pytest.raises(FileError):
        split(path)


def test_directories_are_not_reached_through_links(tmp_path: Path) -> None:
    """A symbolic link in the place of a directory is an error, made before or after the first use."""
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    directories = Directories(os.fsencode(root))
    directories.get((b"a", b"b"))
    (root / "a" / "b").rmdir()
    (root / "a" / "b").symlink_to(outside)
    directories.forget((b"a", b"b"))
    with pytest.raises(FileError, match="symbolic link"):
        directories.get((b"a", b"b"))
    with pytest.raises(FileError):
        directories.get((b"a", b"b", b"c"))
    directories.clear()
    assert list(outside.iterdir()) == []


def staged(tmp_path: Path, content: bytes = b"new", mtime_ns: int = 1000) -> Staged:
    (tmp_path / "temporary").write_bytes(content)
    fd = os.open(tmp_path, os.O_RDONLY)
    return Staged(fd, b"temporary", fd, b"name", mtime_ns)


def test_never_replaces_only_with_what_is_there_already(tmp_path: Path) -> None:
    """Mode never: a new name is taken, another content is kept and the new one left as a part file, the same
    content counts as delivered."""
    never = Policy(constants.OVERWRITE_NEVER)
    assert publish(never, staged(tmp_path, b"first")) is Outcome.DELIVERED
    assert publish(never, staged(tmp_path, b"first")) is Outcome.DELIVERED
    assert sorted(os.listdir(tmp_path)) == ["name"]
    assert publish(never, staged(tmp_path, b"other")) is Outcome.SKIPPED
    assert (tmp_path / "name").read_bytes() == b"first"
    assert (tmp_path / "name.jetpart").read_bytes() == b"other"


def test_backup_keeps_the_last_other_content(tmp_path: Path) -> None:
    """Mode backup: what was there is kept, and sending the same again does not push it out."""
    backup = Policy(constants.OVERWRITE_BACKUP)
    (tmp_path / "name").write_bytes(b"old")
    for _ in range(2):
        assert publish(backup, staged(tmp_path, b"new")) is Outcome.DELIVERED
    assert (tmp_path / "name").read_bytes() == b"new" and (tmp_path / "name.jetbak").read_bytes() == b"old"
    publish(backup, staged(tmp_path, b"newer"))
    assert (tmp_path / "name.jetbak").read_bytes() == b"new"


def test_a_directory_is_never_replaced(tmp_path: Path) -> None:
    """A directory that has the file's name is an error in every mode that replaces."""
    (tmp_path / "name").mkdir()
    for mode in (constants.OVERWRITE_ALWAYS, constants.OVERWRITE_BACKUP):
        with pytest.raises(FileError, match="is a directory"):
            publish(Policy(mode), staged(tmp_path))


def test_newer_compares_times_with_a_tolerance(tmp_path: Path) -> None:
    """Only-newer writes when the source is newer by more than the resolution."""
    policy = Policy(only_newer=True, time_resolution_ns=500)
    (tmp_path / "name").write_bytes(b"old")
    os.utime(tmp_path / "name", ns=(1000, 1000))
    assert publish(policy, staged(tmp_path, mtime_ns=1500)) is Outcome.SKIPPED
    assert publish(policy, staged(tmp_path, mtime_ns=1501)) is Outcome.DELIVERED


def test_small_files_are_read_whole_or_refused(tmp_path: Path) -> None:
    """Content and identity belong together; missing, special and too large files are told apart."""
    path, view = os.fsencode(tmp_path / "f"), memoryview(bytearray(6))
    with pytest.raises(reading.VanishedError):
        reading.read_small(path, view)
    (tmp_path / "f").write_bytes(b"12345")
    identity = reading.read_small(path, view)
    found = (tmp_path / "f").stat()
    assert view[:5] == b"12345" and identity == (5, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    with pytest.raises(reading.TooLargeError):
        reading.read_small(path, view[:5])
    with pytest.raises(reading.UnreadableError, match="not a regular file"):
        reading.read_small(os.fsencode(tmp_path), view)
    with pytest.raises(reading.VanishedError):
        reading.read_small(path + b"/below", view)


def test_a_file_written_just_now_is_read_only_when_a_later_write_would_show(tmp_path: Path) -> None:
    """After the wait, a further write gives another identity."""
    path = tmp_path / "f"
    for number in range(20):
        path.write_bytes(b"%d" % number)
        identity = reading.read_small(os.fsencode(path), memoryview(bytearray(9)))
        path.write_bytes(b"%d" % (number + 1))
        with path.open() as file:
            assert not reading.unchanged(file.fileno(), identity)


def test_extents_cover_a_sparse_file_in_order(tmp_path: Path) -> None:
    """Holes and content alternate without gaps, and a plain file is one stretch."""
    with (tmp_path / "f").open("wb+") as file:
        file.truncate(10 << 20)
        file.seek(4 << 20)
        file.write(b"x" * 100_000)
        file.flush()
        found = reading.extents(file.fileno(), 10 << 20)
    assert found[0][0] == 0 and found[-1][1] == 10 << 20
    assert all(one[1] == two[0] for one, two in itertools.pairwise(found))
    assert any(hole for _, _, hole in found)
    assert any(not hole and start <= 4 << 20 < end for start, end, hole in found)
    assert reading.without([(0, 10, False), (10, 20, True)], [(5, 12), (15, 16)]) == [
        (5, 10, False),
        (10, 12, True),
        (15, 16, True),
    ]


def test_a_journal_survives_and_debris_does_not(tmp_path: Path) -> None:
    """What the journal names is found again with its ranges; other files in the staging place are removed."""
    root = os.fsencode(tmp_path)
    place = staging.Staging(root, UID)
    partial = staging.Partial(7, 3, (10, 1, 2, 3), ((0, 5), (7, 9)), staging.new_name(7))
    lost = staging.Partial(8, 1, (10, 1, 2, 3), (), staging.new_name(8))
    kept = partial.name.decode()
    folder = tmp_path / ".lanesync" / UID
    (folder / kept).write_bytes(b"0123456789")
    place.write_journal([partial, lost])
    (folder / "debris").write_bytes(b"x")
    (folder / staging.new_name(7).decode()).write_bytes(b"x")
    place.close()
    again = staging.Staging(root, UID)
    assert again.recover() == [partial]
    assert sorted(os.listdir(folder)) == [kept, "journal"]
    (folder / "journal").write_bytes(b"{damaged")
    assert again.recover() == []
    again.remove()
    assert os.listdir(tmp_path) == []


def test_abandoned_staging_is_removed_after_two_days(tmp_path: Path) -> None:
    """Staging of a transfer that nobody came back for goes; what is in use or young stays."""
    root = os.fsencode(tmp_path)
    for uid in ("a" * 32, "b" * 32):
        staging.Staging(root, uid).close()
    now = time.time()
    staging.remove_abandoned(root, set(), now)
    assert len(os.listdir(tmp_path / ".lanesync")) == 2
    staging.remove_abandoned(root, {"a" * 32}, now + staging.ABANDONED_SECONDS + 60)
    assert os.listdir(tmp_path / ".lanesync") == ["a" * 32]
