"""Deleting one source file: that very version, and nothing that a link leads to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from agent.source.removing import StaysError, directory_of, place_of, remove
from agent.source.scan import file_stat


def gone(root: Path, relative: str, version: os.stat_result, digest: str = "") -> str:
    """Why it stays; empty when it was deleted."""
    try:
        with directory_of(str(root), relative) as (directory, name):
            remove(directory, name, file_stat(version), digest)
    except StaysError as error:
        return str(error)
    return ""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "root" / "a" / "b" / "f"
    made.parent.mkdir(parents=True)
    made.write_text("content")
    return made


def test_the_version_that_was_delivered_is_deleted(path: Path, tmp_path: Path) -> None:
    """Its directory stays."""
    assert gone(tmp_path / "root", "a/b/f", path.stat()) == ""
    assert not path.exists()
    assert path.parent.is_dir()


def test_another_version_stays(path: Path, tmp_path: Path) -> None:
    """Written in place with size and time as they were, or renamed into its place."""
    version = path.stat()
    with open(path, "r+") as file:
        file.write("CONTENT")
    os.utime(path, ns=(version.st_atime_ns, version.st_mtime_ns))
    assert "changed" in gone(tmp_path / "root", "a/b/f", version)
    version = path.stat()
    (other := tmp_path / "other").write_text("CONTENT")
    os.utime(other, ns=(version.st_atime_ns, version.st_mtime_ns))
    other.rename(path)
    assert "changed" in gone(tmp_path / "root", "a/b/f", version)
    assert path.exists()


def test_another_content_stays(path: Path, tmp_path: Path) -> None:
    """Where only that tells."""
    assert "content" in gone(tmp_path / "root", "a/b/f", path.stat(), "0123456789abcdef")
    assert gone(tmp_path / "root", "a/b/f", path.stat(), xxhash.xxh3_64(b"content").hexdigest()) == ""


@pytest.mark.parametrize("linked", ["a", "a/b", "a/b/f"])
def test_no_link_is_followed(path: Path, tmp_path: Path, linked: str) -> None:
    """Whichever part of the way it is; what it leads to stays."""
    root = tmp_path / "root"
    (root / linked).rename(tmp_path / "away")
    (root / linked).symlink_to(tmp_path / "away")
    assert gone(root, "a/b/f", path.stat()) == "a symbolic link leads there"
    assert path.read_text() == "content"


def test_what_somebody_writes_stays(path: Path, tmp_path: Path) -> None:
    """Another process has it open for writing, or mapped; readers are no obstacle."""
    code = (
        "import sys, mmap\n"
        "file = open(sys.argv[1], 'r+b'); held = mmap.mmap(file.fileno(), 0); file.close()\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        assert "open for writing" in gone(tmp_path / "root", "a/b/f", path.stat())
        writer.communicate(b"")
    with open(path, "rb"):
        assert gone(tmp_path / "root", "a/b/f", path.stat()) == ""


def test_a_writer_that_comes_meanwhile_ends_nobody(path: Path, tmp_path: Path) -> None:
    """The kernel tells of it by a signal, whose default would end the agent."""
    code = """
import fcntl, os, signal, subprocess, sys
sys.path.insert(0, sys.argv[2])
from agent.source.removing import _lease
fd = os.open(sys.argv[1], os.O_RDONLY)
assert _lease(fd)
writer = subprocess.Popen([sys.executable, "-c", "import sys; open(sys.argv[1], 'r+').close()", sys.argv[1]])
while fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK and writer.poll() is None:
    pass
os.close(fd)
assert writer.wait(30) == 0
"""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code, str(path), root], timeout=60, check=False)
    assert done.returncode == 0


def test_a_root_that_is_a_file_is_deleted_in_its_directory(path: Path, tmp_path: Path) -> None:
    """And the directory is told by where it lies, not by what led there."""
    (link := tmp_path / "link").symlink_to(path.parent)
    with directory_of(str(link / "f"), "") as (directory, name):
        assert (place_of(directory), name) == (str(path.parent.resolve()), "f")
    assert gone(link / "f", "", path.stat()) == ""
    assert not path.exists()
