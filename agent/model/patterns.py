"""gitignore-style patterns, each matched in a time that grows with the path and not with its stars.

The library's regular expressions try every way to share a path out among the stars of a pattern: eight of
them and a name of sixty characters take a minute, and whoever writes a spec holds up every other mapping.
For a glob the first place where a piece fits is as good as any later one, so here each star but the last of a
segment, and each `**` but the last, keeps the first that it finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

MAX_LENGTH = 1000

_LEAD, _DEEP = "^(?:.+/)?", "(?:/.+)?"  # `**/` at the start, `/**` within; what people write holds no slash
_TAILS = ("(?:(?P<ps_d>/)|$)", "(?P<ps_d>/)", "/")
_STAR, _MARK = "[^/]*", "\0"


class _Pattern(GitIgnoreSpecPattern):
    __slots__ = ()

    @classmethod
    def pattern_to_regex(cls, pattern: Any) -> tuple[Any, bool | None]:
        regex, include = super().pattern_to_regex(pattern)
        return None if regex is None else linear(regex), include


@lru_cache(maxsize=1024)
def compiled(patterns: tuple[str, ...]) -> GitIgnoreSpec:
    """A matcher of all of them; later ones weigh more. Thousands of sources share a few lists."""
    return GitIgnoreSpec.from_lines(patterns, _Pattern, backend="simple")


@lru_cache(maxsize=4096)
def pattern_problem(pattern: str) -> str:
    """Why a pattern is broken or can match nothing, for a person; empty when it is fine."""
    if len(pattern) > MAX_LENGTH:
        return f"is {len(pattern)} characters long; at most {MAX_LENGTH}"
    if "\n" in pattern or "\0" in pattern:
        return "holds a line break or NUL; write one pattern an item"
    if ".." in pattern.removeprefix("!").split("/"):
        return "can match nothing: paths are below the source and hold no `..`"
    try:
        found: Sequence[Any] = list(compiled((pattern,)).patterns)
    except Exception:  # noqa: BLE001 - the library lets errors of its regular expressions through
        return "is not a gitignore-style pattern"
    if any(one.include is not None for one in found):
        return ""
    if pattern.lstrip().startswith("#"):
        return "matches nothing: it is a comment; write \\# for a name that begins with #"
    return "matches nothing; see gitignore(5)"


def linear(regex: str) -> str:
    """The library's expression for one pattern, without the ways that lead nowhere. A line break in a name is
    a character like any other."""
    lead = next(known for known in (_LEAD, "^", "") if regex.startswith(known))
    tail = next((known for known in _TAILS if regex.endswith(known)), "")
    body = regex[len(lead) : len(regex) - len(tail)]
    *blocks, last = (_block(text) for text in body.split(_DEEP))
    found = lead + last if not blocks else _first(lead, blocks[0])
    found += "".join(f"(?>(?:/.+?)??{block}(?=/))" for block in blocks[1:])
    found += _DEEP + last if blocks else ""
    return "(?s)" + found + tail.replace("$", r"\Z")


def _first(lead: str, block: str) -> str:
    return f"^(?>(?:.+?/)??{block}(?=/))" if lead == _LEAD else lead + block


def _block(text: str) -> str:
    """Segments between double stars."""
    plain = text.replace(_STAR, _MARK + "*").replace("[^/]", _MARK + "?")
    found = "/".join(_segment(segment) for segment in plain.split("/"))
    return found.replace(_MARK + "?", "[^/]")


def _segment(text: str) -> str:
    first, *rest = text.split(_MARK + "*")
    if not rest:
        return first
    middle = "".join(f"(?>{_STAR}?{piece})" for piece in rest[:-1] if piece)
    return first + middle + _STAR + rest[-1]
