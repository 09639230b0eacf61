"""Source trees that are the same every time, and telling whether a copy equals one."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import xxhash

BLOCK = 1 << 20
FILES_PER_DIRECTORY = 100
Fingerprint = dict[str, tuple[int, str]]  # relative path -> (size, xxh3 of the content)


class WrongCopyError(Exception):
    """The destination does not hold what the source holds."""


def make_file(path: Path, size: int) -> None:
    """A file of `size` bytes that neither compresses nor repeats within 64 MiB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pool = random.Random(1).randbytes(64 * BLOCK)
    with open(path, "wb") as file:
        for start in range(0, size, len(pool)):
            file.write(start.to_bytes(8, "little"))
            file.write(memoryview(pool)[8 : min(len(pool), size - start)])
        file.truncate(size)


def make_tree(root: Path, files: int, seed: int = 1, largest: int = 16 << 10) -> None:
    """`files` files of 1 KiB to `largest` bytes, a hundred in a directory."""
    chance = random.Random(seed)
    pool = chance.randbytes(BLOCK)
    for number in range(files):
        folder = root / f"d{number // FILES_PER_DIRECTORY:04}"
        if number % FILES_PER_DIRECTORY == 0:
            folder.mkdir(parents=True)
        size = chance.randint(1 << 10, largest)
        start = chance.randrange(BLOCK - size)
        (folder / f"f{number:06}.bin").write_bytes(pool[start : start + size])


def files_of(root: Path) -> Iterator[str]:
    """Paths of all files below `root`, relative to it."""
    for folder, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root)


def fingerprint(root: Path) -> Fingerprint:
    """Size and digest of every file below `root` (a directory)."""
    return {name: digest(root / name) for name in files_of(root)}


def digest(path: Path) -> tuple[int, str]:
    """Size and xxh3 of the content of a file."""
    digest, size = xxhash.xxh3_128(), 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def digest_of(content: bytes) -> tuple[int, str]:
    """What `digest` says of a file with this content."""
    return len(content), xxhash.xxh3_128_hexdigest(content)


def check(copy: Path, wanted: Fingerprint) -> None:
    """WrongCopyError unless `copy` holds exactly these files with exactly this content."""
    found = fingerprint(copy)
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise WrongCopyError(f"{copy}: {len(wrong)} of {len(wanted)} files differ, the first is {wrong[0]}")


def last_published(copy: Path) -> float:
    """When the last file at or below `copy` got its final name, in seconds since 1970: a rename sets the
    change time of what it renames, a file or a whole directory, so that nobody need look meanwhile."""
    paths = [copy] if copy.is_file() else [copy / name for name in files_of(copy)]
    paths += [folder for folder in {path.parent for path in paths} if folder.is_relative_to(copy)]
    return max(os.stat(path).st_ctime_ns for path in paths) / 1e9
