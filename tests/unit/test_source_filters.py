"""Filters: which paths of a source tree count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.source.filters import Filter


def test_without_patterns_everything_but_our_own_folder_counts() -> None:
    """Temporary files of other programs are data until somebody excludes them."""
    everything = Filter()
    for path in ("a", "x.tmp", ".hidden", "dir/~lock", "a/.DS_Store"):
        assert everything.includes(path, False)
    assert not everything.includes(".lanesync/part", False)
    assert not everything.includes("deep/.lanesync/part", False)
    assert everything.prunes("deep/.lanesync")
    assert everything.includes(".lanesync", False)


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("*.tmp", "a/b/x.tmp", True),
        ("/top", "top", True),
        ("/top", "sub/top", False),
        ("cache/", "sub/cache/file", True),
        ("cache/", "sub/cache", False),
        ("a/**/z", "a/b/c/z", True),
        ("[0-9].raw", "5.raw", True),
        ("\\#x", "#x", True),
        ("café", "café", True),
    ],
)
def test_patterns_are_those_of_gitignore(pattern: str, path: str, excluded: bool) -> None:
    """Anchors, directories, double stars and classes mean what they mean in gitignore."""
    assert Filter(exclude=[pattern]).includes(path, False) is not excluded


def test_exclude_wins_over_include() -> None:
    """A file must be included and not excluded."""
    both = Filter(include=["*.mov"], exclude=["proxy/"])
    assert both.includes("a/x.mov", False)
    assert not both.includes("a/x.wav", False)
    assert not both.includes("proxy/x.mov", False)


def test_a_negated_pattern_brings_back() -> None:
    """Then no directory is pruned, since something inside may be wanted."""
    kept = Filter(exclude=["cache/", "!cache/keep"])
    assert kept.includes("cache/keep", False)
    assert not kept.includes("cache/other", False)
    assert not kept.prunes("cache")


@pytest.mark.parametrize("pattern", ["", "  ", "# note", "!", "[z-a]", "a\\", "/", "x" * 2000, "a\nb"])
def test_a_pattern_that_cannot_work_is_an_error(pattern: str) -> None:
    """It is named, instead of silently matching nothing."""
    with pytest.raises(ValueError, match="exclude: "):
        Filter(exclude=[pattern])


_PATTERNS = st.lists(st.sampled_from(["*.a", "d/", "/d", "!*.a", "d/**", "e", "!d/e"]), max_size=4)
_NAMES = st.lists(st.sampled_from(["d", "e", "x.a", ".lanesync", "\udcff"]), min_size=1, max_size=3)


@given(_PATTERNS, _NAMES, st.lists(st.sampled_from(["d", "e", "x.a"]), min_size=1, max_size=2))
def test_nothing_below_a_pruned_directory_counts(
    patterns: list[str], parts: list[str], below: list[str]
) -> None:
    """A scan that skips it, and a watcher that does not watch it, agree with a check of single paths."""
    made = Filter(exclude=patterns)
    directory = "/".join(parts)
    if made.prunes(directory):
        assert not made.includes(directory + "/" + "/".join(below), False)
