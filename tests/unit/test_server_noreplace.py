"""Renaming never takes the place of anything, also where the kernel does not help."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.server import noreplace

Rename = Callable[[int, bytes, int, bytes], None]


@pytest.fixture(params=["kernel", "hard links", "look first"])
def rename(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rename:
    if request.param == "kernel":
        return noreplace.rename
    if request.param == "look first":

        def no_links(*_args: object, **_named: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)
    return noreplace.without_kernel


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[int, int]]:
    opened = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        opened.append(os.open(tmp_path / name, os.O_RDONLY))
    yield opened[0], opened[1]
    for fd in opened:
        os.close(fd)


def test_a_file_gets_its_new_name(tmp_path: Path, folders: tuple[int, int], rename: Rename) -> None:
    """It is the same file, and a link stays one."""
    (tmp_path / "old/a").write_text("a")
    (tmp_path / "old/link").symlink_to("/nowhere")
    inode = (tmp_path / "old/a").stat().st_ino
    rename(folders[0], b"a", folders[1], b"b")
    rename(folders[0], b"link", folders[1], b"link")
    assert os.listdir(tmp_path / "old") == []
    assert (tmp_path / "new/b").stat().st_ino == inode
    assert os.readlink(tmp_path / "new/link") == "/nowhere"


@pytest.mark.parametrize("there", ["file", "directory", "link"])
def test_what_is_there_stays(tmp_path: Path, folders: tuple[int, int], rename: Rename, there: str) -> None:
    """Files, directories, and links that lead nowhere."""
    (tmp_path / "old/a").write_text("a")
    taken = tmp_path / "new/b"
    if there == "file":
        taken.write_text("b")
    elif there == "directory":
        taken.mkdir()
    else:
        taken.symlink_to("/nowhere")
    with pytest.raises(FileExistsError):
        rename(folders[0], b"a", folders[1], b"b")
    assert (tmp_path / "old/a").read_text() == "a"
    assert there != "file" or taken.read_text() == "b"


def test_what_is_absent_is_told(folders: tuple[int, int], rename: Rename) -> None:
    """As the system tells it."""
    with pytest.raises(FileNotFoundError):
        rename(folders[0], b"never", folders[1], b"b")
