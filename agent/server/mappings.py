"""What `createManifest` is asked for: mappings parsed and checked, without any I/O."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from agent.jetstream import constants
from agent.server.errors import CommandError
from agent.server.params import integer, to_path
from agent.server.store.manifests import KIND_EMPTY_DIRECTORY, KIND_FILE, KIND_LINK, Entry

MAX_MAPPINGS = 200_000
MAX_PATTERNS = 1000
_FIELDS = ("src", "size", "flags", "access", "exclude", "include")
_TYPES = (constants.FILETYPE_DIRECTORY, constants.FILETYPE_REGULAR_FILE, constants.FILETYPE_SYMLINK)
_size = integer(0, 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Root:
    """A source that is looked at: a file, or a directory with all below it."""

    dest: str
    src: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    executable: bool = False  # every file is, whatever its own permissions say


def parse(file_mappings: dict[str, Any] | None, mappings: dict[str, Any] | None) -> list[Entry | Root]:
    """Entries are explicit and need no I/O, roots do. CommandError says which mapping is wrong and why."""
    if mappings is None and file_mappings is None:
        raise CommandError("createManifest needs mappings: destination path to source path")
    given = list((mappings or {}).items())
    for source, dest in (file_mappings or {}).items():
        if not isinstance(dest, str):
            raise CommandError(f"fileMappings: the destination of {source[:200]!r} must be a string")
        given.append((dest, source))
    if not given:
        raise CommandError("createManifest: the mappings are empty")
    if len(given) > MAX_MAPPINGS:
        raise CommandError(f"createManifest: {len(given)} mappings, at most {MAX_MAPPINGS} are taken at once")
    parsed: list[Entry | Root] = []
    seen: set[str] = set()
    for dest, source in given:
        item = _parse_one(dest, source)
        if item.dest in seen:
            raise CommandError(f"createManifest: two mappings have the destination path {item.dest!r}")
        seen.add(item.dest)
        parsed.append(item)
    return parsed


def distinct(items: list[Entry | Root], found: Iterable[Entry]) -> Iterator[Entry]:
    """`found`, which the items make. CommandError for a file whose destination path is there already: a
    directory may hold what another mapping puts into it. Memory: the paths below such mappings."""
    inner = _inside(items)
    if not inner:
        yield from found
        return
    seen: dict[str, Entry] = {}
    for entry in found:
        if not inner.isdisjoint((entry.dest, *_parents(entry.dest))):
            other = seen.setdefault(entry.dest, entry)
            if other is not entry and KIND_FILE in (other.kind, entry.kind):
                raise CommandError(
                    f"two sources have the destination path {entry.dest!r}: {other.src!r} and {entry.src!r}"
                )
        yield entry


def _inside(items: list[Entry | Root]) -> frozenset[str]:
    """Destination paths that lie below the one of a source that is walked."""
    walked = {item.dest for item in items if isinstance(item, Root)}
    if not walked:
        return frozenset()
    return frozenset(item.dest for item in items if not walked.isdisjoint(_parents(item.dest)))


def _parents(path: str) -> Iterator[str]:
    """`/a/b` -> `/a`, `/`."""
    while path != "/":
        path = posixpath.dirname(path)
        yield path


def normalise(path: str) -> str:
    """`a//b/` -> `/a/b`. CommandError for `..` components."""
    if ".." in path.split("/"):
        raise CommandError(f"destination path {path[:200]!r} must not contain '..'")
    return posixpath.normpath("/" + path.lstrip("/"))


def _parse_one(dest: str, source: object) -> Entry | Root:
    try:
        dest = normalise(to_path(dest))
        if isinstance(source, dict):
            return _parse_object(dest, source)
        return Root(dest, _source(source))
    except ValueError as error:
        raise CommandError(f"createManifest: the source or path of {dest[:200]!r} must be {error}") from None


def _source(value: object) -> str:
    path = to_path(value)
    if not path.startswith("/"):
        raise ValueError("an absolute path")
    return path


def _parse_object(dest: str, given: dict[str, Any]) -> Entry | Root:
    unknown = [name for name in given if name not in _FIELDS]
    if unknown:
        raise CommandError(
            f"createManifest: mapping {dest!r} has an unknown field {unknown[0][:80]!r}; "
            f"known are {', '.join(_FIELDS)}"
        )
    size, flags = given.get("size"), given.get("flags")
    include, exclude = (_patterns(dest, name, given.get(name)) for name in ("include", "exclude"))
    access = given.get("access")
    if access not in (None, "", "x"):
        raise CommandError(f"createManifest: mapping {dest!r}: access must be 'x' (executable) or absent")
    executable = access == "x"
    if flags not in (None, *_TYPES):
        raise CommandError(
            f"createManifest: mapping {dest!r}: flags must be 2 (FILETYPE_DIRECTORY), 4 "
            "(FILETYPE_REGULAR_FILE) or 8 (FILETYPE_SYMLINK)"
        )
    if given.get("include") is not None or given.get("exclude") is not None:  # also empty ones
        single = (constants.FILETYPE_REGULAR_FILE, constants.FILETYPE_SYMLINK)
        if flags in single or (size is not None and flags is None):
            raise CommandError(
                f"createManifest: mapping {dest!r}: include and exclude choose files of a directory, a "
                "single file (size, or flags=FILETYPE_REGULAR_FILE) has none to choose from"
            )
        return Root(dest, _source(given.get("src")), include, exclude, executable)
    if flags == constants.FILETYPE_DIRECTORY or (size is None and flags is None):
        source = "" if given.get("src") is None else to_path(given["src"])
        return Entry(dest, source, KIND_EMPTY_DIRECTORY, 0, executable=False)
    if dest == "/":
        raise CommandError("createManifest: a file's destination path must name the file")
    known = -1 if size is None else _size(size)
    if flags == constants.FILETYPE_SYMLINK:
        return Entry(dest, _source(given.get("src")), KIND_LINK, known, executable=False)
    return Entry(dest, _source(given.get("src")), KIND_FILE, known, executable=executable)


def _patterns(dest: str, name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if (
        isinstance(value, list)
        and len(value) <= MAX_PATTERNS
        and all(isinstance(item, str) for item in value)
    ):
        return tuple(value)
    raise CommandError(
        f"createManifest: mapping {dest!r}: {name} must be a list of at most {MAX_PATTERNS} patterns"
    )
