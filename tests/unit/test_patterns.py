"""Patterns mean what they mean in gitignore, and no pattern takes long over a name."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from agent.model.patterns import compiled, pattern_problem
from agent.source.filters import Filter

_PIECES = ["a", "b", "*", "**", "?", "/", "**/", "/**", "[ab]", "\\*", "ab", ".", "*a*"]
_PATTERNS = st.builds(
    lambda start, parts: start + "".join(parts),
    st.sampled_from(["", "/", "!", "**/"]),
    st.lists(st.sampled_from(_PIECES), min_size=1, max_size=9),
)
_PATHS = st.lists(st.text("ab*.", min_size=1, max_size=5), min_size=1, max_size=6).map("/".join)


def _library(pattern: str) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines([pattern], backend="simple")
    except ValueError:
        return None


@settings(max_examples=1500, deadline=None)
@given(_PATTERNS, st.lists(_PATHS, min_size=1, max_size=6), st.booleans())
@example("*a*b*", ["aab", "abab", "ba", "a/b"], False)
@example("**/a/**/b/**/ab", ["a/b/ab", "a/a/b/b/ab", "b/a/ab/b/ab", "a/ab"], True)
@example("a**b/*", ["ab/a", "aab/ab", "ab", "a/b/a"], False)
def test_what_matches_is_what_the_library_says(pattern: str, paths: list[str], directory: bool) -> None:
    """All that is left out is the search for other ways to say the same."""
    known = _library(pattern)
    if known is None:
        assert pattern_problem(pattern)
        return
    ours = compiled((pattern,))
    for path in paths:
        name = path + "/" if directory else path
        assert ours.check_file(name).include == known.check_file(name).include, (pattern, name)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "pattern", ["*a" * 50 + "b", "?*" * 20 + "z", "**/a/" * 100 + "b", "*a*/" * 60 + "b"]
)
@pytest.mark.parametrize("path", ["a" * 255 + "c", "/".join(["a"] * 500) + "/c"])
def test_many_stars_do_not_hold_up_the_agent(pattern: str, path: str) -> None:
    """One mapping's pattern would stand still with all of them: it would take years."""
    assert not compiled((pattern,)).match_file(path)


def test_a_line_break_in_a_name_hides_nothing_from_a_pattern() -> None:
    """Names may hold one, and a name that ends with one is another name."""
    kept = Filter(exclude=["*.tmp", "secret"])
    assert not kept.includes("a\nb/x.tmp", False)
    assert not kept.includes("a\nb/secret", False)
    assert kept.includes("secret\n", False)


@pytest.mark.parametrize("pattern", ["../../etc/*", "!../x", "a/../b", "/.."])
def test_a_way_out_of_the_source_can_match_nothing(pattern: str) -> None:
    """It is said, instead of leaving out or delivering nothing without a word."""
    assert "hold no `..`" in pattern_problem(pattern)
    assert pattern_problem("..a/b..") == ""
