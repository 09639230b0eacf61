"""The watcher in trouble: roots that come and go, lost events, limits, a reader that dies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.watching import QUICK, Told, watch

from agent.model.condition import Reason
from agent.source.inotify import EventReader, InotifyEvent
from agent.source.mounts import Mount, MountTable
from agent.source.root import Root
from agent.source.watch import Watcher, WatchState


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
    assert told.until(lambda: told.whole >= 1)  # that it went; without the wait this may be told or not
    before = told.whole
    root.mkdir()
    assert told.until(lambda: told.whole > before)
    (root / "file").write_text("x")
    assert told.until(lambda: "file" in told.paths)
    (tmp_path / "before" / "stale").write_text("x")
    (root / "last").write_text("x")
    assert told.until(lambda: "last" in told.paths)
    assert "stale" not in told.paths


def test_a_root_replaced_in_one_step_is_watched_again(
    watcher: Watcher, root: Path, tmp_path: Path, told: Told
) -> None:
    """A directory renamed over the root is told whole once it is watched; the root never seems missing."""
    watch(watcher, root, told)
    (tmp_path / "next").mkdir()
    (tmp_path / "next").rename(root)
    assert told.until(lambda: told.whole >= 1)
    (root / "file").write_text("x")
    assert told.until(lambda: "file" in told.paths)
    assert Reason.SOURCE_SUSPECT not in told.reasons


def test_a_removed_root_is_reported_and_waited_for(watcher: Watcher, root: Path, told: Told) -> None:
    """Its end is told once, so that a look at it is taken at once, and its return is told whole."""
    watch(watcher, root, told)
    root.rmdir()
    assert told.until(lambda: Reason.SOURCE_SUSPECT in told.reasons)
    assert told.until(lambda: told.whole >= 1)
    before = told.whole
    root.mkdir()
    assert told.until(lambda: told.whole > before and told.reasons[-1] is None)


def test_the_longer_comparing_roots_takes_the_less_often_it_is_done(
    root: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comparison is a day away; what the kernel tells of a root is as quick as ever."""
    monkeypatch.setattr("agent.source.watch.COMPARE_SHARE", 1e-9)
    compared = threading.Event()
    monkeypatch.setattr(Root, "well", lambda *_: compared.set() or True)
    watcher = Watcher(timing=QUICK)
    try:
        watch(watcher, root, told)
        assert compared.wait(60)
        compared.clear()
        (root / "file").write_text("x")
        assert told.until(lambda: "file" in told.paths)
        root.rename(tmp_path / "moved")
        assert told.until(lambda: told.whole >= 1)
        assert not compared.is_set()
    finally:
        watcher.stop()


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
from agent.source.root import Root
from agent.source.watch import Watcher
root = Path(sys.argv[1])
told = []
watcher = Watcher(timing=Timing(check=0.05, poll=0.1))
watcher.subscribe(str(root), lambda r, d: told.append(d))
print(watcher.state(str(root)).reason, watcher.state(str(root)).message)
deadline = time.monotonic() + 60
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

    class Nfs(MountTable):
        def around(self, path: str) -> tuple[Mount, ...]:
            return (Mount(1, "/", "nfs4"),)

    watcher = Watcher(on_state=told.on_state, timing=QUICK, mount_table=Nfs())
    try:
        watch(watcher, root, told)
        (root / "file").write_text("x")
        assert told.until(lambda: "file" in told.paths)
        assert told.until(lambda: told.whole >= 2)
        assert told.reasons == [Reason.NETWORK_FILE_SYSTEM]
        assert told.states[0].message.endswith("also scanning every 200ms")
    finally:
        watcher.stop()
