"""Destination paths: `/a/b`, normalised, relative to what the receiver calls its root."""

from __future__ import annotations

from agent.model.spec import MappingSpec


def join(prefix: str, relative: str) -> str:
    """`/a` and `b/c` -> `/a/b/c`; an empty relative path is the prefix itself."""
    if relative in ("", "/"):
        return prefix
    return prefix.rstrip("/") + "/" + relative.lstrip("/")


def parent(path: str) -> str:
    """`/a/b` -> `/a`; the parent of `/a` is `/`."""
    return path.rpartition("/")[0] or "/"


def is_below(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or lies under it."""
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


def destination_prefixes(mapping: MappingSpec) -> tuple[str, ...]:
    """Where each entry of `paths` goes, in their order."""
    return tuple(join(mapping.destination_path, entry.destination) for entry in mapping.paths)
