"""Places in a document: the path of a field as text, and the node at a path."""

from __future__ import annotations

import re
from typing import Any

from agent.specs.errors import SECRET_KEYS
from agent.specs.yamltext import Node

Path = tuple[str | int, ...]


def path_text(path: Path) -> str:
    """("spec", "lanes", 2, "share") -> `spec.lanes[2].share`; keys that are paths go in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def at(root: Node, path: Path) -> Node:
    """The node at `path`, or the nearest one above it."""
    node = root
    for part in path:
        children: Any = node.children
        try:
            node = children[part]
        except (KeyError, IndexError, TypeError):
            break
    return node


def is_secret(path: Path) -> bool:
    return any(part in SECRET_KEYS for part in path)


def key_place(root: Node, path: Path) -> tuple[int, int] | None:
    if not path or isinstance(path[-1], int):
        return None
    return at(root, path[:-1]).keys.get(path[-1])
