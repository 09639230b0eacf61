"""One commit's spec files as plain files in a directory, whole or not at all.

Objects are read one by one: no work tree, hence no filters, no line-end conversion, no attributes. Only
what the reader of specs looks at is written: *.yaml, *.yml and symbolic links, which it follows within the
directory alone. Links come last, and files are created exclusively: nothing is written through a link.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from agent.model.outcome import PermanentError
from agent.model.printable import printable
from agent.specs.files import MAX_FILE, MAX_FILES, MAX_TOTAL, SUFFIXES
from agent.specs.git.program import Git, GitError

MAX_LISTING = 64 << 20
MAX_LINK = 4096
MAX_PATH, MAX_NAME = 2048, 255  # bytes; leaves room for the directory that it is exported to
READ_SECONDS = 120.0
_NEW = ".new-"


class CommitRefusedError(PermanentError):
    """This commit cannot be what was meant; another one may."""


@dataclass(frozen=True, slots=True)
class _Entry:
    path: bytes
    object: str
    size: int
    link: bool


def export(git: Git, commit: str, subdir: str, directory: str) -> str:
    """Write the specs of `commit` below `subdir` to `directory`/COMMIT, replacing what is there; its path.

    GitError, CommitRefusedError, OSError.
    """
    entries = list(_entries(git, _tree(git, commit, subdir)))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    made = tempfile.mkdtemp(prefix=_NEW, dir=directory)
    try:
        root = os.path.join(made, subdir) if subdir else made
        os.makedirs(root, exist_ok=True)
        _write(os.fsencode(root), entries, git)
        target = os.path.join(directory, commit)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(made, target)
        _sync(directory)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return target


def remove_others(directory: str, keep: str) -> None:
    """Exports that are not in force any more, and what a crash left."""
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            if name != keep:
                shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


def _tree(git: Git, commit: str, subdir: str) -> str:
    name = f"{commit}:{subdir}" if subdir else f"{commit}^{{tree}}"
    try:
        found = git.run("rev-parse", "--verify", "--end-of-options", name).decode("ascii").strip()
        if git.run("cat-file", "-t", found).strip() == b"tree":
            return found
    except GitError:
        pass
    raise CommitRefusedError(f"commit {commit[:12]} has no directory {subdir or '/'}")


def _entries(git: Git, tree: str) -> Iterator[_Entry]:
    """What is to be written, bounded in number and size."""
    listing = git.run("ls-tree", "-r", "-z", "-l", tree, limit=MAX_LISTING, seconds=READ_SECONDS)
    number = total = 0
    for line in listing.split(b"\0"):
        facts, tab, path = line.partition(b"\t")
        mode, _kind, identity, size = facts.split() if tab else (b"", b"", b"", b"")
        link = mode == b"120000"
        if not (link or mode in (b"100644", b"100755", b"100664")):
            continue  # a submodule, or the end of the list
        if not link and not path.endswith(tuple(map(os.fsencode, SUFFIXES))):
            continue
        if not _harmless(path):
            continue
        if len(path) > MAX_PATH or any(len(part) > MAX_NAME for part in path.split(b"/")):
            raise CommitRefusedError(
                f"the name of {printable(os.fsdecode(path[:60]))}… is longer than {MAX_NAME} bytes, or its "
                f"path than {MAX_PATH}; shorten it, or name the directory that is meant with --subdir"
            )
        entry = _Entry(path, identity.decode("ascii"), int(size), link)
        number, total = number + 1, total + min(entry.size, MAX_FILE)
        if number > MAX_FILES or total > MAX_TOTAL:
            raise CommitRefusedError(
                f"more than {MAX_FILES:,} spec files, or more than {MAX_TOTAL >> 20} MiB of them; "
                "name the directory that is meant with --subdir"
            )
        yield entry


def _harmless(path: bytes) -> bool:
    """Hidden names are not read as specs; a name that leads elsewhere is none that git makes."""
    return not any(part in (b"", b".", b"..") or part.startswith(b".") for part in path.split(b"/"))


def _write(root: bytes, entries: list[_Entry], git: Git) -> None:
    small = [entry for entry in entries if entry.size <= (MAX_LINK if entry.link else MAX_FILE)]
    wanted = "".join(f"{entry.object}\n" for entry in small).encode("ascii")
    limit = MAX_TOTAL + len(small) * 200
    answer = memoryview(git.run("cat-file", "--batch", stdin=wanted, limit=limit, seconds=READ_SECONDS))
    at = 0
    contents: dict[bytes, bytes] = {}
    for entry in small:
        at = _line_end(answer, at)
        contents[entry.path] = bytes(answer[at : at + entry.size])
        at += entry.size + 1
    directories = {root, *(os.path.dirname(os.path.join(root, entry.path)) for entry in entries)}
    for made in directories:
        os.makedirs(made, exist_ok=True)
    for entry in sorted(entries, key=lambda e: e.link):
        path = os.path.join(root, entry.path)
        if entry.link:
            os.symlink(contents.get(entry.path, b"/nowhere"), path)
        else:
            _write_file(path, contents.get(entry.path), entry.size)
    for made in directories:
        _sync(os.fsdecode(made))


def _line_end(answer: memoryview, at: int) -> int:
    """Where the line that begins `at` has ended; the object's bytes begin there."""
    head = bytes(answer[at : at + 200])
    end = head.find(b"\n")
    if end < 0 or b" missing" in head[:end]:
        raise GitError("git cat-file: an object is missing")
    return at + end + 1


def _write_file(path: bytes, content: bytes | None, size: int) -> None:
    """One that is too large has its size alone, so that the reader of specs says what is wrong with it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        if content is None:
            file.truncate(size)
        else:
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
