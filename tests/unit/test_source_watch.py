"""The watcher against a real kernel: what is told, how soon it is ready, and what happens when it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.model.change import FileKind, FileStat
from agent.model.condition import Reason
from agent.model.spec import Ready, Symlinks, Trigger
from agent.source.filters import Filter
from agent.source.inotify import EventReader, InotifyEvent
from agent.source.look import scan_paths
from agent.source.root import Timing
from agent.source.scan import scan_tree
from agent.source.watch import Dirty, Subscription, Watcher, WatchState

QUICK = Timing(check=0.05, identity=0.1, poll=0.2, degraded=0.5, rearm=0.0)
NEVER = 3600.0
LATER = Trigger(settle=NEVER)  # what is told at all was told at once


class Told:
    """Collects what the watcher tells; `until` polls with a deadline."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.dirty: list[Dirty] = []
        self.states: list[WatchState] = []

    def __call__(self, root: str, dirty: Dirty) -> None:
        with self.lock:
            self.dirty.append(dirty)
            self.lock.notify_all()

    def on_state(self, root: str, state: WatchState) -> None:
        with self.lock:
            self.states.append(state)
            self.lock.notify_all()

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> bool:
        with self.lock:
            return self.lock.wait_for(condition, seconds)

    @property
    def paths(self) -> set[str]:
        return {path for dirty in self.dirty for path in dirty.paths}

    @property
    def subtrees(self) -> set[str]:
        return {path for dirty in self.dirty for path in dirty.subtrees}

    @property
    def whole(self) -> int:
        return sum(dirty.whole for dirty in self.dirty)

    @property
    def reasons(self) -> list[Reason | None]:
        return [state.reason for state in self.states]


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


def watch(
    watcher: Watcher, root: Path, told: Told, trigger: Trigger = LATER, **options: object
) -> Subscription:
    return watcher.subscribe(str(root), told, trigger=trigger, **options)  # type: ignore[arg-type]


# -- ready at once


def test_a_closed_file_is_ready_at_once(watcher: Watcher, root: Path, told: Told) -> None:
    """The writer's close makes it ready, however long `settle` is; before that it waits."""
    subscription = watch(watcher, root, told)
    with open(root / "clip.mov", "w") as file:
        file.write("x")
        file.flush()
        deadline = time.monotonic() + 20
        while watcher.waiting(subscription) != ("clip.mov",):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        assert told.paths == set()
    assert told.until(lambda: told.paths == {"clip.mov"})
    assert watcher.waiting(subscription) == ()


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
    deadline = time.monotonic() + 20
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


# -- trouble


def test_a_missing_root_is_waited_for(watcher: Watcher, tmp_path: Path, told: Told) -> None:
    """The state says so; when it appears all of it is told, and then its changes."""
    late = tmp_path / "late"
    watch(watcher, late, told)
    assert watcher.state(str(late)).reason is Reason.SOURCE_SUSPECT
    assert told.until(lambda: told.reasons == [Reason.SOURCE_SUSPECT])
    late.mkdir()
    assert told.until(lambda: told.whole >= 1)
    assert told.until(lambda: told.reasons == [Reason.SOURCE_SUSPECT, None])
    (late / "file").write_text("x")
    assert told.until(lambda: "file" in told.paths)


def test_a_consumer_may_hold_its_own_lock_while_it_subscribes(tmp_path: Path, told: Told) -> None:
    """No callback runs in the thread that subscribes, not even for a root that is missing."""
    lock = threading.Lock()
    threads = []

    def on_state(root: str, state: WatchState) -> None:
        with lock:
            threads.append(threading.get_ident())
        told.on_state(root, state)

    watcher = Watcher(on_state=on_state, timing=QUICK)
    try:
        with lock:
            subscription = watch(watcher, tmp_path / "missing", told)
        assert told.until(lambda: told.reasons == [Reason.SOURCE_SUSPECT])
        assert threading.get_ident() not in threads
        with lock:
            watcher.unsubscribe(subscription)
    finally:
        watcher.stop()


def test_a_replaced_root_is_watched_again(watcher: Watcher, root: Path, tmp_path: Path, told: Told) -> None:
    """Another directory under the same name is told whole, and what happens in it as well."""
    watch(watcher, root, told)
    root.rename(tmp_path / "before")
    root.mkdir()
    assert told.until(lambda: told.whole >= 1)
    (root / "file").write_text("x")
    assert told.until(lambda: "file" in told.paths)
    (tmp_path / "before" / "stale").write_text("x")
    (root / "last").write_text("x")
    assert told.until(lambda: "last" in told.paths)
    assert "stale" not in told.paths


def test_a_removed_root_is_reported_and_waited_for(watcher: Watcher, root: Path, told: Told) -> None:
    """Its return is told whole."""
    watch(watcher, root, told)
    root.rmdir()
    assert told.until(lambda: Reason.SOURCE_SUSPECT in told.reasons)
    root.mkdir()
    assert told.until(lambda: told.whole >= 1 and told.reasons[-1] is None)


def test_an_overflow_is_visible_and_covered_by_a_scan(root: Path, told: Told) -> None:
    """Lost events become `whole` and a state for a while; directories made meanwhile are watched."""
    stall = threading.Event()

    class SlowReader(EventReader):
        def handle_event(self, event: InotifyEvent) -> None:
            stall.wait(30)
            super().handle_event(event)

    watcher = Watcher(on_state=told.on_state, timing=QUICK, make_reader=SlowReader)
    try:
        watch(watcher, root, told)
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        if limit > 50_000:
            pytest.skip("the kernel's queue is too long to be filled here")
        for number in range(limit // 2 + 4000):
            os.close(os.open(root / f"f{number % 2000}", os.O_CREAT | os.O_WRONLY))
            os.chmod(root / f"f{number % 2000}", 0o600 + number % 2)
        (root / "new").mkdir()
        stall.set()
        assert told.until(lambda: Reason.QUEUE_OVERFLOW in told.reasons)
        assert told.until(lambda: told.whole >= 1)
        assert told.until(lambda: told.reasons[-1] is None)
        (root / "new" / "file").write_text("x")
        assert told.until(lambda: "new/file" in told.paths)
    finally:
        stall.set()
        watcher.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_died_is_replaced(root: Path, told: Told) -> None:
    """The state says so for a while, everything is told whole, and changes are told again."""

    class Mortal(EventReader):
        def handle_event(self, event: InotifyEvent) -> None:
            if event.name == b"poison":
                raise SystemExit
            super().handle_event(event)

    watcher = Watcher(on_state=told.on_state, timing=QUICK, make_reader=Mortal)
    try:
        watch(watcher, root, told)
        (root / "poison").write_text("x")
        assert told.until(lambda: Reason.WATCHER_DIED in told.reasons and told.whole >= 1)
        (root / "file").write_text("x")
        assert told.until(lambda: "file" in told.paths)
        assert told.until(lambda: told.reasons[-1] is None)
    finally:
        watcher.stop()


_LIMITED = """
import sys, time
from pathlib import Path
Path("/proc/sys/user/max_inotify_watches").write_text("3")
from agent.source.look import scan_paths
from agent.source.root import Timing
from agent.source.scan import scan_tree
from agent.source.watch import Watcher
root = Path(sys.argv[1])
told = []
watcher = Watcher(timing=Timing(check=0.05, poll=0.1))
watcher.subscribe(str(root), lambda r, d: told.append(d))
print(watcher.state(str(root)).reason, watcher.state(str(root)).message)
deadline = time.monotonic() + 20
while sum(d.whole for d in told) < 2:
    assert time.monotonic() < deadline
    time.sleep(0.01)
watcher.stop()
"""


def test_the_watch_limit_is_reported_with_its_remedy_and_polled(root: Path) -> None:
    """When the kernel refuses further watches, the exact sysctl line is given and the tree is scanned."""
    for number in range(10):
        (root / str(number)).mkdir()
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _LIMITED, str(root)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=os.getcwd()
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if "unshare" in done.stderr or "max_inotify_watches" in done.stderr:
        pytest.skip("user namespaces cannot be made here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("WatchLimit")
    assert "sudo sysctl -w fs.inotify.max_user_watches=" in done.stdout


def test_without_an_inotify_instance_everything_is_polled(root: Path, told: Told) -> None:
    """The instance limit is named, and the tree is scanned."""

    def refused() -> EventReader:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    watcher = Watcher(on_state=told.on_state, timing=QUICK, make_reader=refused)
    try:
        watch(watcher, root, told)
        assert told.until(lambda: told.whole >= 2)
        state = watcher.state(str(root))
        assert state.reason is Reason.WATCH_LIMIT
        assert "fs.inotify.max_user_instances=" in state.message
    finally:
        watcher.stop()


def test_network_file_systems_are_polled_too(root: Path, told: Told) -> None:
    """Changes made here are told at once, others by scans; the state says why."""
    watcher = Watcher(on_state=told.on_state, timing=QUICK, file_system_type=lambda _: "nfs4")
    try:
        watch(watcher, root, told)
        (root / "file").write_text("x")
        assert told.until(lambda: "file" in told.paths)
        assert told.until(lambda: told.whole >= 2)
        assert told.reasons == [Reason.POLLING]
    finally:
        watcher.stop()


class Mirror:
    """A consumer that keeps its own picture of the tree up to date by the hints alone."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.lock = threading.Lock()
        self.seen: dict[str, FileStat] = {}

    def __call__(self, root: str, dirty: Dirty) -> None:
        with self.lock:
            if dirty.whole:
                self.scan("")
            for subtree in dirty.subtrees:
                self.scan(subtree)
            for found in scan_paths(self.root, dirty.paths):
                if found.is_directory:
                    self.scan(found.path)
                elif found.stat is None:
                    self.drop(found.path)
                else:
                    self.put(found.path, found.stat)

    def scan(self, start: str) -> None:
        self.drop(start)
        if not os.path.isdir(os.path.join(self.root, start)):
            return
        for found in scan_paths(self.root, [start] if start else []):
            if found.stat is not None:
                self.put(found.path, found.stat)
        for listing in scan_tree(self.root, start=start):
            for name, stat in listing.entries.items():
                self.put(os.path.join(listing.directory, name), stat)

    def put(self, path: str, stat: FileStat) -> None:
        parent = path.rpartition("/")[0]
        while parent:  # what is above cannot be empty any more
            self.seen.pop(parent, None)
            parent = parent.rpartition("/")[0]
        self.seen[path] = stat

    def drop(self, path: str) -> None:
        below = path + "/" if path else ""
        self.seen = {p: s for p, s in self.seen.items() if p != path and not p.startswith(below)}

    def files(self) -> dict[str, FileStat]:
        with self.lock:
            return {p: s for p, s in self.seen.items() if s.kind is FileKind.FILE}


def disturb(root: Path, outside: Path, chance: random.Random) -> None:
    """One random change of a random place; impossible ones are no change."""
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
    folder, other = chance.choice(folders), chance.choice(folders)
    target = folder / chance.choice("abcd")
    spare = outside / str(chance.random())
    change = chance.choice(["write", "write", "mkdir", "remove", "move", "out", "in", "tree"])
    with contextlib.suppress(OSError, shutil.Error):
        if change == "write":
            target.write_text("x" * chance.randrange(50))
        elif change == "mkdir":
            (target / "n").mkdir(parents=True)
        elif change == "remove":
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        elif change == "move":
            target.rename(other / chance.choice("abcd"))
        elif change == "out":
            target.rename(spare)
        elif change == "in":
            chance.choice([*outside.iterdir(), target]).rename(target)
        else:
            (spare / "deep").mkdir(parents=True)
            (spare / "deep" / "f").write_text("x")
            shutil.copytree(spare, target)


@pytest.mark.parametrize("seed", range(6))
def test_hints_alone_keep_a_picture_true(root: Path, tmp_path: Path, seed: int) -> None:
    """After any storm of changes, a consumer that looked only where it was told sees what a scan sees."""
    outside = tmp_path / "outside"
    outside.mkdir()
    mirror = Mirror(root)
    watcher = Watcher()
    try:
        watcher.subscribe(str(root), mirror, trigger=Trigger(settle=0.05))
        chance = random.Random(seed)
        for _ in range(400):
            disturb(root, outside, chance)

        def truth() -> dict[str, FileStat]:
            return {
                os.path.join(listing.directory, name): stat
                for listing in scan_tree(str(root))
                for name, stat in listing.entries.items()
                if stat.kind is FileKind.FILE
            }

        deadline = time.monotonic() + 20
        while mirror.files() != truth():
            assert time.monotonic() < deadline, set(mirror.files().items()) ^ set(truth().items())
            time.sleep(0.02)
    finally:
        watcher.stop()


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
