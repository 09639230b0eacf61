"""Sentinels: what they make ready, that they go last, and how what waits for them is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.change import Change, ChangeKind, FileKind, FileStat
from agent.planning import sentinel
from agent.planning.sentinel import Unsealed, covered, last_of_all


def stat(ctime: int = 1) -> FileStat:
    return FileStat(FileKind.FILE, 1, 1, ctime, 1, False)


def change(path: str) -> Change:
    return Change(ChangeKind.CREATED, path, "/src" + path, stat(), "")


def test_only_what_is_not_newer_than_the_sentinel_is_ready() -> None:
    """The same moment counts as before: the sentinel was made after the file was closed."""
    assert covered(stat(5), 5) and covered(stat(4), 5)
    assert not covered(stat(6), 5)
    assert not covered(stat(1), None)


def test_a_sentinel_waits_for_everything_at_and_below_its_directory() -> None:
    """For what is to be sent, and for what is on its way or waits itself; not for its neighbours."""
    left, held = last_of_all([change("/a/.done"), change("/a/x/f"), change("/b/.done")], [], ".done")
    assert ([c.path for c in left], held) == (["/a/x/f", "/b/.done"], ["/a/.done"])
    left, held = last_of_all([change("/a/.done"), change("/ab/.done")], ["/a/x/y/z"], ".done")
    assert ([c.path for c in left], held) == (["/ab/.done"], ["/a/.done"])


def test_sentinels_go_from_the_inside_out() -> None:
    """One below another is part of what the other stands for."""
    left, held = last_of_all([change("/.done"), change("/a/.done"), change("/a/b/.done")], [], ".done")
    assert ([c.path for c in left], held) == (["/a/b/.done"], ["/.done", "/a/.done"])


def path_of(folders: list[str], name: str) -> str:
    return "/" + "/".join([*folders, name])


FOLDERS = st.lists(st.sampled_from(["a", "b"]), max_size=3)
TREES = st.sets(st.builds(path_of, FOLDERS, st.sampled_from(["f", ".done"])), max_size=12)


@given(TREES)
def test_rounds_of_sending_end_with_everything_sent_and_each_sentinel_after_its_files(
    paths: set[str],
) -> None:
    """Whatever the tree: no round is empty before the end."""
    left, sent = sorted(paths), []
    while left:
        going, held = last_of_all([change(p) for p in left], [], ".done")
        assert going, "nothing would ever go"
        for path in (c.path for c in going):
            if path.endswith("/.done"):
                below = path.removesuffix(".done")
                assert all(p in sent for p in paths if p.startswith(below) and p != path)
        sent += [c.path for c in going]
        left = held
    assert set(sent) == paths


def test_what_waits_is_counted_by_directory() -> None:
    """A later look at a directory replaces what was known of it and below; other directories stay."""
    known, found = Unsealed(), Unsealed()
    for path in ("/s/a/1", "/s/a/x/2", "/s/b/3"):
        known.add(path, 7_000_000_000)
    assert known.text(".done") == "3 files wait for .done in /s/a (and 2 more directories)"
    found.add("/s/a/1", 8_000_000_000)
    known.learn(found, ["/s/a"])
    assert known.paths == {"/s/a/1": 8_000_000_000, "/s/b/3": 7_000_000_000}
    assert known.oldest == 7.0
    known.learn(Unsealed(), None)
    assert known.count == 0


def test_many_that_wait_are_counted_without_being_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the number is not."""
    monkeypatch.setattr(sentinel, "NAMED", 3)
    many = Unsealed()
    for number in range(10):
        many.add(f"/s/{number}", number)
    assert (many.count, len(many.paths)) == (10, 3)
    assert many.text(".done") == "10 files wait for .done in /s"
