"""What a document says of itself before its schema has been looked at: which object it is, and its labels."""

from __future__ import annotations

from agent.model.spec import Key, Kind
from agent.specs.build import destination_path
from agent.specs.check import is_name
from agent.specs.places import Path, at
from agent.specs.yamltext import Node


def labels_of(root: Node) -> dict[str, str] | None:
    """None when they cannot be read."""
    found = root.data["metadata"].get("labels", {})
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return None
    return found


_KINDS = frozenset(Kind)


def key_of(root: Node) -> Key | None:
    """Which object a document is about; None when that cannot be told: the name may be a slip."""
    data = root.data
    if not isinstance(data, dict) or not isinstance(data.get("metadata"), dict):
        return None
    kind, name = data.get("kind"), data["metadata"].get("name")
    if isinstance(kind, str) and kind in _KINDS and isinstance(name, str) and is_name(name):
        return Key(Kind(kind), name)
    return None


def place_of(root: Node, path: Path) -> tuple[Path, Node]:
    """Where a problem between objects stands in the document, which may write it in another form."""
    spec = at(root, ("spec",)).data
    if path[:2] == ("spec", "destinations") and "destinations" not in spec:
        path = ("spec", "destination")
    if path[:2] == ("spec", "paths"):
        written = next((key for key in spec["paths"] if destination_path(key)[0] == path[-1]), path[-1])
        path = ("spec", "paths", written)
        parent = at(root, path[:-1])
        line, column = parent.keys.get(str(written), (parent.line, parent.column))
        return path, Node(None, line, column)
    return path, at(root, path)
