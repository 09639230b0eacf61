"""YAML text -> plain data with the position of every key and value.

Built on the parser's event stream, so that depth and alias expansion are bounded before anything grows, and
every mistake of a document is found, not only the first. Deliberate differences from YAML 1.1: numbers are
decimal only (no sexagesimal, octal or underscores), dates are text, keys are always text, merge keys and
custom tags are refused. Messages never quote values: a value may be a misplaced secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.specs.errors import SECRET_KEYS

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_DEPTH = 50
MAX_ALIAS_NODES = 10_000
MAX_NODES = 200_000

Report = Callable[[int, int, str], None]
"""Called with (line, column, message); both count from 1."""

_BOOLEANS = {
    **{word: True for base in ("true", "yes", "on") for word in (base, base.title(), base.upper())},
    **{word: False for base in ("false", "no", "off") for word in (base, base.title(), base.upper())},
}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
)
_BEGINS_NUMBER = frozenset("+-.0123456789")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = (None, "!", _TAG + "str")


@dataclass(slots=True)
class Node:
    """One value: `data` is plain Python; the rest says where it came from. An alias is its anchor's node."""

    data: Any
    line: int
    column: int
    raw: str | None = None  # text of an unquoted scalar
    children: dict[str, Node] | list[Node] | None = None
    keys: dict[str, tuple[int, int]] = field(default_factory=lambda: _NO_KEYS)
    nodes: int = 1  # with everything below, aliases expanded


_NO_KEYS: dict[str, tuple[int, int]] = {}
"""Of all that is no mapping."""


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    node: Node
    anchor: str | None
    is_map: bool
    key: str | None = None
    key_place: tuple[int, int] = (0, 0)
    skip_value: bool = False
    is_key: bool = False  # a collection where a key should be: read, reported and dropped


class _GiveUpError(Exception):
    """The rest of the file is not read; the error is reported already."""


def documents(data: bytes, report: Report) -> Iterator[tuple[Node, bool]]:
    """Each document that is not empty, and whether it is whole (False: an error within was reported).

    Documents before a syntax error are handed out; nothing after it is.
    """
    text = _decode(data, report)
    if text is None:
        return
    composer = _Composer(report)
    takers = composer.takers()
    try:
        loader = Loader(text)
        while (kind := type(event := loader.get_event())) is not yaml.StreamEndEvent:
            if (take := takers.get(kind)) is not None:
                take(event)
            elif (
                kind is yaml.DocumentEndEvent
                and (root := composer.root) is not None
                and root.data is not None
            ):
                yield root, composer.whole
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        report(line, column, f"not valid YAML: {_wording(error, text, line)}")
    except yaml.YAMLError:
        report(1, 1, "not valid YAML")
    except _GiveUpError:
        return


def _decode(data: bytes, report: Report) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        report(1, 1, "is not UTF-8 but UTF-16; save the file as UTF-8")
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line_start = before.rfind(b"\n") + 1
        report(
            before.count(b"\n") + 1,
            len(before[line_start:].decode("utf-8", "replace")) + 1,
            f"byte 0x{data[error.start]:02x} is not valid UTF-8; save the file as UTF-8",
        )
        return None
    found = _CONTROL.search(text)
    if found:
        line_start = text.rfind("\n", 0, found.start()) + 1
        line = text.count("\n", 0, found.start()) + 1
        message = f"control character 0x{ord(found[0]):02x} is not allowed; is this a text file?"
        report(line, found.start() - line_start + 1, message)
        return None
    return text


_PROBLEMS = (
    (
        "found undefined alias",
        "an alias (`*name`) without its anchor (`&name`); put text that begins with * in quotes",
    ),
    ("cannot start any token", "a character that cannot begin a value here; put the value in quotes"),
    (
        "mapping values are not allowed",
        "a colon where none can stand; indent the line, or put the value in quotes",
    ),
    ("could not find expected ':'", "a key without a colon"),
    ("did not find expected key", "a key was expected; check indentation and brackets"),
    ("did not find expected ',' or", "a bracket is not closed, or a comma is missing"),
    ("did not find expected '-' indicator", "a list entry was expected; check the indentation"),
    ("did not find expected node content", "a value was expected"),
    ("did not find expected <document start>", "this does not belong to the document; check the indentation"),
    ("unexpected end of stream", "the text ends in the middle of a quoted value"),
    (
        "unknown escape character",
        "an unknown escape in double quotes; write \\\\ for a backslash, or use single quotes",
    ),
    (
        "undefined tag handle",
        "custom tags (`!name`) are not supported; put text that begins with ! in quotes",
    ),
    ("found duplicate", "a directive is there twice"),
)


def _wording(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    """Our own words: the parser's may quote what it read."""
    lines = text.split("\n", line)
    if len(lines) >= line and lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())].count(
        "\t"
    ):
        return "a tab in the indentation; indent with spaces"
    problem = error.problem or ""
    return next((words for start, words in _PROBLEMS if start in problem), "it cannot be read from here on")


class _Composer:
    """Turns parser events into nodes, one document at a time."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._alias_nodes = 0  # of the whole file, so that many documents cannot add up to much
        self._start()

    def _start(self) -> None:
        self.whole = True
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self.root: Node | None = None
        self._count = 0

    def takers(self) -> dict[type[Any], Callable[[Any], None]]:
        """What takes which event. All else says nothing, but that a document ends: then `root` is it."""
        return {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._collection,
            yaml.SequenceStartEvent: self._collection,
            yaml.MappingEndEvent: self._end_collection,
            yaml.SequenceEndEvent: self._end_collection,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._begin,
        }

    def _begin(self, _event: Any) -> None:
        self._start()

    def _error(self, event: Any, message: str) -> None:
        self.whole = False
        self._report(event.start_mark.line + 1, event.start_mark.column + 1, message)

    def _count_one(self, event: Any) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            self._error(event, f"more than {MAX_NODES:,} values in one document; split it")
            raise _GiveUpError

    def _node(self, event: Any, data: Any, raw: str | None = None) -> Node:
        self._count_one(event)
        mark = event.start_mark
        return Node(data, mark.line + 1, mark.column + 1, raw, None, _NO_KEYS)

    def _scalar(self, event: Any) -> None:
        is_key, data, raw = self._at_key(), event.value, None
        if event.tag not in _TEXT_TAGS:
            self._error(
                event, "custom tags (`!name`) are not supported; put text that begins with ! in quotes"
            )
        elif "\0" in data:
            self._error(event, "a NUL character is not allowed")
        elif not is_key and event.implicit[0]:
            raw, data = data, self._plain(event, data)
        if is_key and not event.anchor:  # a quarter of a million in ten thousand objects
            self._count_one(event)
            self._key(data, event)
            return
        node = self._node(event, data, raw)
        if event.anchor:
            self._anchors[event.anchor] = node
        if is_key:
            self._key(data, event)
        else:
            self._attach(node)

    def _plain(self, event: Any, value: str) -> Any:
        if value in _NULLS:
            return None
        if value in _BOOLEANS:
            return _BOOLEANS[value]
        if value[0] not in _BEGINS_NUMBER:
            return value
        if _INTEGER.match(value):
            if len(value) > 30:
                self._error(event, "the number is too long")
                return 0
            return int(value)
        if _FLOAT.match(value):
            return float(re.sub(r"\.(?=[a-zA-Z])", "", value))
        return value

    def _collection(self, event: Any) -> None:
        is_map = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + "map" if is_map else _TAG + "seq"):
            self._error(
                event, "custom tags (`!name`) are not supported; put text that begins with ! in quotes"
            )
        if len(self._stack) == MAX_DEPTH:
            self._error(event, f"nested more than {MAX_DEPTH} deep; nothing after this is read")
            raise _GiveUpError
        node = self._node(event, {} if is_map else [])
        node.children = {} if is_map else []
        if is_map:
            node.keys = {}
        if event.anchor:
            self._anchors[event.anchor] = None  # None while open: an alias to it would be recursive
        is_key = self._at_key()
        if is_key:
            self._error(event, "a key must be text; is a `{{ … }}` template not filled in?")
            self._stack[-1].key, self._stack[-1].skip_value = "", True
        self._stack.append(_Open(node, event.anchor, is_map, is_key=is_key))

    def _end_collection(self, _event: Any) -> None:
        closed = self._stack.pop()
        if closed.anchor:
            self._anchors[closed.anchor] = closed.node
        if not closed.is_key:
            self._attach(closed.node)

    def _at_key(self) -> bool:
        """Whether the next node is a key of the mapping that is open."""
        if not self._stack:
            return False
        top = self._stack[-1]
        return top.is_map and top.key is None

    def _alias(self, event: Any) -> None:
        target = self._anchors.get(event.anchor, ...)
        if target is ... or target is None:
            what = (
                "refers to a value that it is itself part of" if target is None else "has no anchor before it"
            )
            self._error(event, f"the alias {what}; put text that begins with * in quotes")
            target = self._node(event, None)
        elif self._alias_nodes + target.nodes > MAX_ALIAS_NODES:
            expands = f"makes the aliases of the file expand to more than {MAX_ALIAS_NODES:,} values"
            self._error(event, f"alias *{event.anchor} {expands}; write them out; nothing after this is read")
            raise _GiveUpError
        else:
            self._alias_nodes += target.nodes
        is_key = self._at_key()
        if is_key and not isinstance(target.data, str):
            self._error(event, "a key must be text, not an alias")
            target = self._node(event, "")
        if is_key:
            self._key(target.data, event)
        else:
            self._attach(target)

    def _key(self, key: str, event: Any) -> None:
        top, mark = self._stack[-1], event.start_mark
        top.key, top.key_place, top.skip_value = key, (mark.line + 1, mark.column + 1), False
        if key in top.node.data:
            first = top.node.keys[key]
            secret = any(level.key in SECRET_KEYS for level in self._stack[:-1])
            name = "a key" if secret else f"the key `{key[:60]}`"
            self._error(event, f"{name} is there twice; the first is in line {first[0]}")
            top.skip_value = True
        elif key == "<<":
            self._error(event, "merge keys (`<<`) are not supported; write the fields out")
            top.skip_value = True

    def _attach(self, node: Node) -> None:
        """Put a finished value into the collection that is open, or make it the root."""
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        parent = top.node
        if isinstance(parent.children, dict):
            key, top.key = top.key or "", None
            if top.skip_value:
                return
            parent.data[key] = node.data
            parent.children[key] = node
            parent.keys[key] = top.key_place
        elif isinstance(parent.children, list):
            parent.data.append(node.data)
            parent.children.append(node)
        parent.nodes += node.nodes
