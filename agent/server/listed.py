"""What a receiving server answers to listing, deleting and renaming, believed only where they make sense."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from agent.server.confine import FileError, split

KINDS = ("file", "directory", "link", "other")
_DIGEST = re.compile(r"(?:[0-9a-f]{16})?")
_MOST = 2**63


class File(NamedTuple):
    """As it is told to who asked. `digest`: xxh3_64 of the content, empty when it was not asked for or the
    destination could not read it; of what a link says, always."""

    path: str
    kind: str
    size: int
    mtimeNs: int
    executable: bool
    digest: str


class Page(NamedTuple):
    files: list[File]
    next: str | None


def page(answer: Mapping[str, Any], directory: bytes, after: bytes, limit: int) -> Page:
    """ValueError says what is wrong: a path outside of the directory, an order that does not go on, a value
    that cannot be."""
    rows, following = answer.get("results"), answer.get("next")
    if not isinstance(rows, list) or len(rows) > limit:
        raise ValueError(f"it is no list of at most {limit} files")
    whole = b"/" + b"/".join(part for part in directory.split(b"/") if part)
    files, last = [], after
    for row in rows:
        file, path = _file(row)
        if path != whole and not path.startswith(whole.rstrip(b"/") + b"/"):
            raise ValueError(f"{file.path[:200]!r} does not lie in {os.fsdecode(whole)!r}")
        if path <= last:
            raise ValueError(f"{file.path[:200]!r} does not come after {os.fsdecode(last)[:200]!r}")
        last = path
        files.append(file)
    if following is not None and (not isinstance(following, str) or not rows or _bytes(following) != last):
        raise ValueError("the next page does not begin where this one ends")
    return Page(files, following)


def changes(answer: Mapping[str, Any], asked: Collection[str], states: Collection[str]) -> list[list[str]]:
    """[path, state, message] for each path that was asked for. ValueError says what is wrong."""
    rows = answer.get("results")
    if not isinstance(rows, list) or len(rows) != len(asked):
        raise ValueError(f"it is no list of {len(asked)} results")
    known = frozenset(asked)
    for row in rows:
        if not isinstance(row, list) or len(row) != 3 or not all(isinstance(text, str) for text in row):
            raise ValueError("a result is malformed")
        if row[0] not in known or row[1] not in states:
            raise ValueError(f"a result is of what was not asked for: {row[0][:200]!r}, {row[1][:40]!r}")
        row[2] = row[2][:1000]
    return rows


def _file(row: object) -> tuple[File, bytes]:
    if not isinstance(row, list) or len(row) != len(File._fields):
        raise ValueError("an entry is malformed")
    file = File(*row)
    if not isinstance(file.path, str) or file.kind not in KINDS or not isinstance(file.digest, str):
        raise ValueError("an entry is malformed")
    path = _bytes(file.path)
    try:
        parts = split(path)
    except FileError as error:
        raise ValueError(str(error)) from None
    if path != b"/" + b"/".join(parts):
        raise ValueError(f"{file.path[:200]!r} is no path of a file")
    numbers = (file.size, 0), (file.mtimeNs, -_MOST)
    if any(type(number) is not int or not least <= number < _MOST for number, least in numbers):
        raise ValueError(f"{file.path[:200]!r} has a size or time that cannot be")
    if not isinstance(file.executable, bool) or _DIGEST.fullmatch(file.digest) is None:
        raise ValueError(f"{file.path[:200]!r} has a malformed digest or access")
    return file, path


def _bytes(path: str) -> bytes:
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError("a name cannot be carried by the file system") from None
