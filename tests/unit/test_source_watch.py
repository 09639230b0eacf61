"""The watcher against a real kernel: what is told, and how soon it is ready."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit.watching import LATER, NEVER, QUICK, Told, watch

from agent.model.spec import Ready, Symlinks, Trigger
from agent.source.filters import Filter
from agent.source.watch import Dirty, Watcher


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watcher(told: Told) -> Iterator[Watcher]:
    made = Watcher(on_state=told.on_state, timing=QUICK)
    yield made
    made.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    return made


# -- ready at once


def test_a_closed_file_is_ready_at_once(watcher: Watcher, root: Path, told: Told) -> None:
    """The writer's close makes it ready, however long `settle` is; before that it waits."""
    subscription = watch(watcher, root, told)
    with open(root / "clip.mov", "w") as file:
        file.write("x")
        file.flush()
        deadline = time.monotonic() + 60
        while watcher.waiting(subscription) != ("clip.mov",):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        assert told.paths == set()
    assert told.until(lambda: told.paths == {"clip.mov"})
    assert watcher.waiting(subscription) == ()


def test_many_files_that_come_at_once_are_told_together(
    watcher: Watcher, root: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is told at once; those that follow while it is being acted on are not told one by one."""
    monkeypatch.setattr("agent.source.watch.GATHER_SECONDS", 2.0)
    watch(watcher, root, told)
    (root / "first").write_text("x")
    assert told.until(lambda: told.paths == {"first"})
    names = {f"{number:03}" for number in range(200)}
    for name in names:
        (root / name).write_text("x")
    assert told.until(lambda: told.paths == {"first"} | names)
    assert len(told.dirty) <= 4


@pytest.mark.parametrize("how", ["rename", "link", "symlink"])
def test_a_file_that_appears_whole_is_ready_at_once(
    watcher: Watcher, root: Path, tmp_path: Path, told: Told, how: str
) -> None:
    """A rename into the tree, a hard link and a symbolic link are not followed by a close."""
    outside = tmp_path / "outside"
    outside.write_text("x")
    watch(watcher, root, told)
    {"rename": os.rename, "link": os.link, "symlink": os.symlink}[how](outside, root / "clip")
    assert told.until(lambda: "clip" in told.paths)


def test_a_removal_is_told_at_once(watcher: Watcher, root: Path, tmp_path: Path, told: Told) -> None:
    """Neither a deletion nor a rename out of the tree is held back."""
    (root / "a").write_text("x")
    (root / "b").write_text("x")
    watch(watcher, root, told)
    (root / "a").unlink()
    (root / "b").rename(tmp_path / "b")
    assert told.until(lambda: told.paths == {"a", "b"})


def test_a_rename_inside_tells_both_names(watcher: Watcher, root: Path, told: Told) -> None:
    """The old name is gone and the new one is there."""
    (root / "old").write_text("x")
    watch(watcher, root, told)
    (root / "old").rename(root / "new")
    assert told.until(lambda: told.paths == {"old", "new"})


def test_names_that_are_not_utf8_are_told(watcher: Watcher, root: Path, told: Told) -> None:
    """Names are bytes; they come as surrogate escapes."""
    watch(watcher, root, told)
    (root / "caf\udce9").write_text("x")
    assert told.until(lambda: told.paths == {"caf\udce9"})


def test_what_does_not_get_closed_becomes_ready_by_settling(watcher: Watcher, root: Path, told: Told) -> None:
    """A file that stays open, and one whose mode changed, are told once unchanged for `settle`."""
    (root / "mode").write_text("x")
    watch(watcher, root, told, Trigger(settle=0.05))
    with open(root / "open", "w") as file:
        file.write("x")
        file.flush()
        (root / "mode").chmod(0o755)
        assert told.until(lambda: told.paths == {"mode", "open"})


def test_quiet_makes_closed_files_settle_too(watcher: Watcher, root: Path, told: Told) -> None:
    """With `ready: quiet` a close is only one more change."""
    subscription = watch(watcher, root, told, Trigger(ready=Ready.QUIET, settle=NEVER))
    (root / "a").write_text("x")
    deadline = time.monotonic() + 60
    while watcher.waiting(subscription) != ("a",):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert told.dirty == []


# -- directories


def test_new_directories_are_watched(watcher: Watcher, root: Path, told: Told) -> None:
    """A file closed deep inside directories made just before is told by its own name or by a directory's."""
    watch(watcher, root, told, Trigger(settle=0.05))
    deep = root / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    assert told.until(lambda: "a/b/c/file" in told.paths)
    told.dirty.clear()
    (deep / "later").write_text("x")
    assert told.until(lambda: "a/b/c/later" in told.paths)


def test_nothing_is_missed_while_directories_appear(watcher: Watcher, root: Path, told: Told) -> None:
    """Every file of many directories made and filled at full speed is told, by name or by a subtree."""
    watch(watcher, root, told, Trigger(settle=0.02))
    expected = set()
    for number in range(150):
        folder = root / f"d{number}" / "sub"
        folder.mkdir(parents=True)
        for name in "ab":
            (folder / name).write_text("x")
            expected.add(f"d{number}/sub/{name}")

    def complete() -> bool:
        covered = told.paths
        trees = told.subtrees
        return all(path in covered or any(path.startswith(tree + "/") for tree in trees) for path in expected)

    assert told.until(complete)


def test_an_empty_directory_is_told(watcher: Watcher, root: Path, told: Told) -> None:
    """It is something to deliver."""
    watch(watcher, root, told, Trigger(settle=0.05))
    (root / "empty").mkdir()
    assert told.until(lambda: "empty" in told.paths | told.subtrees)


def test_a_new_directory_is_not_told_before_its_files_are_ready(
    watcher: Watcher, root: Path, told: Told
) -> None:
    """A file still being written in a directory made just before is not told through the directory."""
    subscription = watch(watcher, root, told, Trigger(settle=1.0))
    (root / "new").mkdir()
    with open(root / "new" / "clip", "w") as file:
        deadline = time.monotonic() + 60
        while watcher.waiting(subscription) != ("new/clip",):
            file.write("x")
            file.flush()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        assert told.dirty == []
    assert told.until(lambda: told.paths == {"new/clip"})


def test_a_directory_that_moves_is_told_as_subtrees(
    watcher: Watcher, root: Path, tmp_path: Path, told: Told
) -> None:
    """In, inside and out; and it is watched where it is, and no more where it is not."""
    outside = tmp_path / "tree"
    (outside / "sub").mkdir(parents=True)
    watch(watcher, root, told)
    outside.rename(root / "one")
    assert told.until(lambda: told.subtrees == {"one"})
    (root / "one").rename(root / "two")
    assert told.until(lambda: told.subtrees == {"one", "two"})
    (root / "two" / "sub" / "file").write_text("x")
    assert told.until(lambda: told.paths == {"two/sub/file"})
    (root / "two").rename(outside)
    (outside / "sub" / "other").write_text("x")
    (root / "last").write_text("x")
    assert told.until(lambda: "last" in told.paths)
    assert told.paths == {"two/sub/file", "last"}


def test_a_linked_directory_is_watched_through_the_link(
    watcher: Watcher, root: Path, tmp_path: Path, told: Told
) -> None:
    """With copyContents its content belongs to the tree; a link back to the root does no harm."""
    target = tmp_path / "target"
    target.mkdir()
    (root / "link").symlink_to(target)
    (root / "loop").symlink_to(root)
    watch(watcher, root, told)
    (target / "file").write_text("x")
    assert told.until(lambda: "link/file" in told.paths)


def test_links_are_not_followed_when_ignored(
    watcher: Watcher, root: Path, tmp_path: Path, told: Told
) -> None:
    """What happens behind them is not told."""
    target = tmp_path / "target"
    target.mkdir()
    (root / "link").symlink_to(target)
    watch(watcher, root, told, symlinks=Symlinks.IGNORE)
    (target / "file").write_text("x")
    (root / "last").write_text("x")
    assert told.until(lambda: "last" in told.paths)
    assert told.paths == {"last"}


# -- filters and consumers


def test_what_is_excluded_is_not_told(watcher: Watcher, root: Path, told: Told) -> None:
    """The watcher leaves out what the scan leaves out, and sets no watch below excluded directories."""
    (root / "cache" / "deep").mkdir(parents=True)
    watch(watcher, root, told, filter_=Filter(exclude=["*.tmp", "cache/"]))
    (root / "a.tmp").write_text("x")
    (root / "cache" / "deep" / "b").write_text("x")
    (root / "last").write_text("x")
    assert told.until(lambda: "last" in told.paths)
    assert told.paths == {"last"}


def test_consumers_of_one_root_share_its_watches(watcher: Watcher, root: Path, told: Told) -> None:
    """Each is told by its own filter; one that leaves takes nothing from the others."""
    other = Told()
    only_mov = watch(watcher, root, told, filter_=Filter(include=["*.mov"]))
    watch(watcher, root, other)
    threads = threading.active_count()
    (root / "a.mov").write_text("x")
    (root / "a.txt").write_text("x")
    assert other.until(lambda: other.paths == {"a.mov", "a.txt"})
    assert told.until(lambda: told.paths == {"a.mov"})
    watcher.unsubscribe(only_mov)
    (root / "b.mov").write_text("x")
    assert other.until(lambda: "b.mov" in other.paths)
    assert told.paths == {"a.mov"}
    assert threading.active_count() == threads


def test_many_roots_need_no_further_threads(watcher: Watcher, tmp_path: Path, told: Told) -> None:
    """The same few threads serve any number of roots."""
    watcher.start()
    threads = threading.active_count()
    for number in range(50):
        (tmp_path / str(number)).mkdir()
        watch(watcher, tmp_path / str(number), told)
    (tmp_path / "49" / "file").write_text("x")
    assert told.until(lambda: told.paths == {"file"})
    assert threading.active_count() == threads


def test_a_root_may_be_one_file(watcher: Watcher, root: Path, told: Told) -> None:
    """Writing it and renaming over it are told as the root itself; its neighbours are not."""
    lut = root / "grade.cube"
    lut.write_text("1")
    watch(watcher, lut, told)
    (root / "neighbour").write_text("x")
    lut.write_text("2")
    assert told.until(lambda: told.paths == {""})
    told.dirty.clear()
    (root / "new").write_text("3")
    (root / "new").rename(lut)
    assert told.until(lambda: told.paths == {""})


def test_a_consumer_that_fails_does_not_stop_the_others(watcher: Watcher, root: Path, told: Told) -> None:
    """Telling goes on."""

    def broken(root: str, dirty: Dirty) -> None:
        raise RuntimeError("broken consumer")

    watcher.subscribe(str(root), broken, trigger=LATER)
    watch(watcher, root, told)
    for name in ("a", "b"):
        (root / name).write_text("x")
        assert told.until(lambda name=name: name in told.paths)  # type: ignore[misc]


def test_stopping_leaves_no_thread(root: Path, told: Told) -> None:
    """Neither the reader nor the watcher's own thread outlives `stop`, and it may be called twice."""
    before = threading.active_count()
    watcher = Watcher()
    watch(watcher, root, told)
    watcher.stop()
    watcher.stop()
    assert threading.active_count() == before


def test_reaction_time(
    watcher: Watcher, root: Path, told: Told, record_property: Callable[..., None]
) -> None:
    """Every one of many closes in a tree of 500 directories is told; how soon is reported, not judged."""
    for number in range(500):
        (root / f"d{number}").mkdir()
    watch(watcher, root, told)
    times = []
    for number in range(200):
        path = f"d{number}/clip.mov"
        (root / path).write_text("x")
        begun = time.perf_counter()
        assert told.until(lambda path=path: path in told.dirty[-1].paths if told.dirty else False)  # type: ignore[misc]
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    record_property("p50_ms", statistics.median(times))
    print(f"close -> told: p50 {times[100]:.2f} ms, p95 {times[190]:.2f} ms")
