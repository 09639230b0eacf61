"""Where the paths of a user lead: sandboxes, each with one root or several named ones.

A path is virtual: it begins at the user's roots. One root named `/` holds everything; of several named roots
the first component of a path chooses one. An API token may begin further down (`below`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from agent.server.confine import STAGING, FileError, Parts, shown, split
from agent.server.errors import CommandError
from agent.server.params import to_path

WHOLE = b"/"
MAX_ROOTS = 64
MAX_USER = 255
_NO_USERS = ("", ".", "..")


@dataclass(frozen=True, slots=True)
class Root:
    name: bytes  # "/" or "/name"
    base: bytes  # absolute path of a directory on this machine


@dataclass(frozen=True, slots=True)
class Place:
    """A path below a root. `shown` is what its user calls it."""

    base: bytes
    parts: Parts
    shown: str

    @property
    def parent(self) -> Place:
        return Place(self.base, self.parts[:-1], self.shown)


@dataclass(frozen=True, slots=True)
class Roots:
    """What one user may reach."""

    roots: tuple[Root, ...]
    below: Parts = ()

    def resolve(self, path: bytes) -> Place | None:
        """Where a virtual path leads; None for the top of several named roots, which is no directory.
        FileError for one that leads nowhere."""
        parts = (*self.below, *split(path))
        name = "/" + "/".join(shown(part) for part in split(path))
        if len(self.roots) == 1 and self.roots[0].name == WHOLE:
            return Place(self.roots[0].base, _real(parts), name)
        if not parts:
            return None
        for root in self.roots:
            if root.name == b"/" + parts[0]:
                return Place(root.base, _real(parts[1:]), name)
        raise FileError(f"{name}: there is no root {shown(parts[0])}; lsRoots names those that there are")

    def source(self, path: bytes) -> tuple[bytes, bytes]:
        """(directory, path below it) of a source, whose links are for the caller. FileError."""
        place = self.resolve(path)
        if place is None:
            names = ", ".join(shown(root.name) for root in self.roots)
            raise FileError(f"a source begins with one of {names}")
        return place.base, b"/".join(place.parts)

    def names(self) -> list[str]:
        """The roots, as paths of their user."""
        if self.below or (len(self.roots) == 1 and self.roots[0].name == WHOLE):
            return ["/"]
        return sorted(os.fsdecode(root.name) for root in self.roots)

    def as_json(self) -> dict[str, Any]:
        return {
            "roots": [[os.fsdecode(root.name), os.fsdecode(root.base)] for root in self.roots],
            "below": [os.fsdecode(part) for part in self.below],
        }


def roots_from_json(value: dict[str, Any]) -> Roots:
    """KeyError, TypeError or ValueError when it is not what `as_json` makes."""
    roots = tuple(Root(os.fsencode(name), os.fsencode(base)) for name, base in value["roots"])
    return Roots(roots, tuple(os.fsencode(part) for part in value["below"]))


def _real(parts: Parts) -> Parts:
    """The path as the root itself sees it: what is reserved there stays so, however it is reached."""
    return split(b"/".join(parts))


# --- mappings as they are set ---------------------------------------------------------------------------

Mapping = dict[str, dict[str, str]]
"""Root's name -> {"type": "file", "path": template}."""


def parse_mapping(given: dict[str, Any]) -> Mapping:
    """A mapping as it is stored. CommandError says what is wrong with which root."""
    if not 0 < len(given) <= MAX_ROOTS:
        raise CommandError(
            f"a sandbox mapping has 1 to {MAX_ROOTS} roots; deleteSandboxMapping removes a mapping"
        )
    mapping = {_root_name(name): _sandbox(name, value) for name, value in given.items()}
    if len(mapping) != len(given):
        raise CommandError("two roots of the sandbox mapping have one name")
    if "/" in mapping and len(mapping) > 1:
        raise CommandError("the root '/' is the whole sandbox; give all roots names, or only this one")
    return mapping


def _root_name(name: str) -> str:
    try:
        parts = split(os.fsencode(to_path(name)))
    except (FileError, ValueError) as error:
        raise CommandError(f"{name[:80]!r} is not the name of a root: {error}") from None
    if len(parts) > 1:
        raise CommandError(f"{name[:80]!r} is not the name of a root; use '/' or one name such as '/media'")
    return "/" + (os.fsdecode(parts[0]) if parts else "")


def _sandbox(name: str, value: object) -> dict[str, str]:
    sandbox = value if isinstance(value, dict) else {"path": value}
    kind = sandbox.get("type", "file")
    if not isinstance(kind, str) or kind.lower() != "file":
        raise CommandError(
            f"root {name!r}: sandboxes of type {str(kind)[:40]!r} are not available; mount that storage as a "
            'directory and map it with {"type": "file", "path": "/…"}'
        )
    for field in sandbox:
        if field not in ("type", "path"):
            raise CommandError(f"root {name!r}: a file sandbox has no field {str(field)[:80]!r}")
    try:
        template = to_path(sandbox.get("path"))
    except ValueError as error:
        raise CommandError(f"root {name!r}: path must be {error}") from None
    check_template(template, f"root {name!r}: path")
    return {"type": "file", "path": template}


def check_template(template: str, what: str) -> None:
    """CommandError unless it is an absolute path in which only %u and %% stand for something."""
    if not template.startswith("/"):
        raise CommandError(f"{what} {template[:200]!r} must be absolute")
    if ".." in template.split("/"):
        raise CommandError(f"{what} {template[:200]!r} must not contain '..'")
    rest = template.replace("%%", "").replace("%u", "")
    if "%" in rest:
        letter = rest[rest.index("%") : rest.index("%") + 2]
        raise CommandError(
            f"{what} {template[:200]!r}: {letter} stands for nothing; use %u (user name) and %% (percent)"
        )


def expand(template: str, user: str) -> bytes:
    """The directory of a user. CommandError for a name that would be more than one component of a path."""
    if "%u" in template.replace("%%", ""):
        if user in _NO_USERS or "/" in user or "\0" in user or len(user) > MAX_USER:
            raise CommandError(f"user {user[:80]!r} can have no sandbox: the name is not that of a directory")
        if user == os.fsdecode(STAGING):
            raise CommandError(f"user {user!r} can have no sandbox: the name is reserved")
    expanded = "%".join(part.replace("%u", user) for part in template.split("%%"))
    return os.path.normpath(os.fsencode(expanded))
