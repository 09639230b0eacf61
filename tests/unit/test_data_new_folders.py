"""Directories that a pack brings get their names with their files, or give way to what is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xxhash

from agent.jetstream import constants
from agent.server.confine import Directories
from agent.server.data import newfolders, pack
from agent.server.data.directio import DirectIO
from agent.server.data.newfiles import write_new
from agent.server.data.pack import EXECUTABLE, OUTCOME, PackedFile
from agent.server.data.publish import Policy
from agent.server.data.received import ReceivedTransfer
from agent.server.data.syncer import Syncer
from agent.server.data.wire import Header, Kind
from agent.server.data.writing import Writer
from agent.server.results import Outcome

UID = "0123456789abcdef" * 2


class _Answers:
    """In the place of a stream."""

    def __init__(self) -> None:
        self.done: dict[int, int] = {}
        self.failed: dict[int, str] = {}

    def send(self, header: Header, payload: bytes = b"") -> None:
        assert header.kind == Kind.DONE
        self.done |= dict(OUTCOME.iter_unpack(payload))

    def send_json(self, header: Header, value: dict[str, list[tuple[int, str]]]) -> None:
        self.failed |= dict(value["files"])


class _World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.transfer = ReceivedTransfer(UID, os.fsencode(root))
        self.answers = _Answers()
        self.syncer = Syncer(os.fsencode(root))
        self.writer = Writer(self.answers, Directories(os.fsencode(root)), self.syncer, DirectIO())  # type: ignore[arg-type]

    @property
    def staging(self) -> Path:
        return self.root / ".lanesync" / UID

    def send(self, *files: PackedFile) -> None:
        payload = pack.encode(list(files))
        header = Header(Kind.PACK, digest=xxhash.xxh3_64_intdigest(payload))
        self.writer.pack(self.transfer, header, memoryview(payload))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[_World]:
    made = _World(tmp_path)
    yield made
    made.syncer.stop()
    made.transfer.staging.close()


def _file(seq: int, path: bytes, content: bytes = b"content", flags: int = 0) -> PackedFile:
    return PackedFile(seq, flags, path, 10**18 + seq, content)


def _renames(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What gets its name by a rename of a file from here on."""
    seen: list[bytes] = []
    rename = os.rename

    def noted(old: bytes, new: bytes, **where: int) -> None:
        seen.append(new)
        rename(old, new, **where)

    monkeypatch.setattr(os, "rename", noted)
    return seen


def test_files_of_a_new_directory_are_not_renamed_one_by_one(
    world: _World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are whole under their names, with times and modes, and nothing else is left."""
    renamed = _renames(monkeypatch)
    world.send(
        _file(0, b"new/a"),
        _file(1, b"new/b", b"", EXECUTABLE),
        _file(2, b"new/deeper/still/c"),
        _file(3, b"other/d"),
    )
    assert renamed == []
    assert world.answers.done == dict.fromkeys(range(4), Outcome.DELIVERED)
    assert (world.root / "new/deeper/still/c").read_bytes() == b"content"
    assert (world.root / "new/a").stat().st_mtime_ns == 10**18
    assert (world.root / "new/b").stat().st_mode & stat.S_IXUSR
    assert list(world.staging.iterdir()) == []


def test_a_new_directory_has_the_mode_that_it_would_have_in_its_place(world: _World) -> None:
    """The process's habits, not those of the staging directory."""
    os.mkdir(world.root / "made")
    world.send(_file(0, b"new/a"))
    assert (world.root / "new").stat().st_mode == (world.root / "made").stat().st_mode


def test_files_for_a_directory_that_is_there_replace_what_is_in_it(
    world: _World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one; what else is in it stays."""
    world.send(_file(0, b"dir/a", b"old"), _file(1, b"dir/b", b"stays"))
    renamed = _renames(monkeypatch)
    world.send(_file(2, b"dir/a", b"new"))
    assert renamed == [b"a"]
    assert (world.root / "dir/a").read_bytes() == b"new"
    assert (world.root / "dir/b").read_bytes() == b"stays"


@pytest.mark.parametrize("theirs", ["full", "empty"])
def test_a_directory_that_appears_meanwhile_stays_and_takes_the_files(
    world: _World, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """Another stream, or a user, was first: their directory keeps its content and its mode."""

    def racing(*arguments: object) -> None:
        if not (world.root / "new").exists():
            (world.root / "new").mkdir(mode=0o750)
            if theirs == "full":
                (world.root / "new/x").write_bytes(b"theirs")
        write_new(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(newfolders, "write_new", racing)
    world.send(_file(0, b"new/a"), _file(1, b"new/b"))
    assert world.answers.done == dict.fromkeys(range(2), Outcome.DELIVERED)
    names = {path.name for path in (world.root / "new").iterdir()}
    assert names == {"a", "b"} | ({"x"} if theirs == "full" else set())
    assert stat.S_IMODE((world.root / "new").stat().st_mode) == 0o750
    assert list(world.staging.iterdir()) == []


def test_something_else_with_the_name_of_the_directory_fails_the_files_and_stays(world: _World) -> None:
    (world.root / "new").write_bytes(b"a file")
    world.send(_file(0, b"new/a"), _file(1, b"b"))
    assert world.answers.done == {1: Outcome.DELIVERED}
    assert "new" in world.answers.failed[0]
    assert (world.root / "new").read_bytes() == b"a file"


def test_a_file_that_cannot_be_written_is_not_published_in_part(
    world: _World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its directory arrive."""

    def failing(policy: Policy, directory: int, name: bytes, file: PackedFile) -> None:
        write_new(policy, directory, name, file)
        if name == b"bad":
            raise OSError(5, "input/output error")

    monkeypatch.setattr(newfolders, "write_new", failing)
    world.send(_file(0, b"new/a"), _file(1, b"new/bad"), _file(2, b"new/c"))
    assert world.answers.done == {0: Outcome.DELIVERED, 2: Outcome.DELIVERED}
    assert list(world.answers.failed) == [1]
    assert {path.name for path in (world.root / "new").iterdir()} == {"a", "c"}
    assert list(world.staging.iterdir()) == []


def test_the_same_path_twice_in_one_pack_has_the_later_content(world: _World) -> None:
    world.send(_file(0, b"new/a", b"first"), _file(1, b"new/a", b"second"))
    assert world.answers.done == dict.fromkeys(range(2), Outcome.DELIVERED)
    assert (world.root / "new/a").read_bytes() == b"second"


def test_a_directory_inherits_the_group_as_in_its_place(world: _World) -> None:
    """What is made in a directory that hands on its group does so, too."""
    (world.root / "shared").mkdir()
    (world.root / "shared").chmod(0o2775)
    world.send(_file(0, b"shared/new/a"))
    assert (world.root / "shared/new").stat().st_mode & stat.S_ISGID


@pytest.mark.parametrize(
    "policy",
    [
        Policy(as_set=True),
        Policy(strict=True),
        Policy(read=False),
        Policy(write=False),
        Policy(only_newer=True),
        Policy(overwrite=constants.OVERWRITE_NEVER),
    ],
)
def test_what_is_published_in_another_way_makes_no_new_folder(
    world: _World, monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    """Sets, files that have to be on storage before their names, and what is not published."""
    monkeypatch.setattr(newfolders, "write_new", _never)
    world.transfer.policy = policy
    world.send(_file(0, b"new/a"))
    assert world.answers.done == {0: Outcome.DELIVERED}


def _never(*_: object) -> None:
    raise AssertionError("a file was written into a new folder")


def test_what_a_crash_left_of_a_new_directory_is_removed_and_nothing_of_others(
    world: _World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that does not look like ours, or holds directories, stays."""
    never: Callable[..., None] = lambda *_: None  # noqa: E731
    monkeypatch.setattr(newfolders.NewFolders, "settle", never)
    monkeypatch.setattr(newfolders.NewFolders, "abandon", never)
    world.send(_file(0, b"new/a"))
    assert [path.name.endswith(".new") for path in world.staging.iterdir()] == [True]
    (world.staging / "theirs").mkdir()
    (world.staging / "77.new" / "deep").mkdir(parents=True)
    world.transfer.staging.recover()
    assert {path.name for path in world.staging.iterdir()} == {"theirs", "77.new"}
