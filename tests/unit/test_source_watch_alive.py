"""Does the watch still tell? Proofs that events arrive, roots that come late, what is not watched at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.watching import QUICK, Told, watch

from agent.model.condition import Reason
from agent.source import watch as watch_module
from agent.source.filters import Filter
from agent.source.inotify import EventReader, InotifyEvent
from agent.source.root import Timing
from agent.source.watch import Watcher

PATIENT = Timing(check=3600.0, identity=3600.0, poll=3600.0, rearm=0.0)
"""Nothing is looked at unless an event asks for it."""


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    return made


@pytest.fixture
def patient(told: Told) -> Iterator[Watcher]:
    made = Watcher(on_state=told.on_state, timing=PATIENT)
    yield made
    made.stop()


# -- the canary


def test_a_reader_that_hears_nothing_is_replaced(tmp_path: Path, root: Path, told: Told) -> None:
    """Its thread lives and the kernel is content, but no event arrives: that is told, and ends."""
    deaf = threading.Event()

    class Deaf(EventReader):
        def handle_event(self, event: InotifyEvent) -> None:
            if not deaf.is_set():
                super().handle_event(event)

    watcher = Watcher(
        on_state=told.on_state, timing=QUICK, make_reader=Deaf, canary=str(tmp_path / "state" / "watch")
    )
    try:
        watch(watcher, root, told)
        deaf.set()
        (root / "unheard").write_text("x")
        assert told.until(lambda: Reason.WATCHER_DIED in told.reasons and told.whole >= 1)
        assert "no file event has arrived for" in told.states[0].message
        deaf.clear()
        assert told.until(lambda: told.reasons[-1] is None)
        (root / "heard").write_text("x")
        assert told.until(lambda: "heard" in told.paths)
    finally:
        watcher.stop()


def test_a_reader_that_hangs_is_left_behind(
    tmp_path: Path, root: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a call to a file server that does not answer never returns."""
    monkeypatch.setattr(watch_module, "JOIN_SECONDS", 0.05)
    never = threading.Event()

    class Hanging(EventReader):
        def handle_event(self, event: InotifyEvent) -> None:
            if event.name == b"hang":
                never.wait(60)
            super().handle_event(event)

    watcher = Watcher(
        on_state=told.on_state, timing=QUICK, make_reader=Hanging, canary=str(tmp_path / "watch")
    )
    try:
        watch(watcher, root, told)
        (root / "hang").write_text("x")
        assert told.until(lambda: Reason.WATCHER_DIED in told.reasons and told.whole >= 1)
        (root / "file").write_text("x")
        assert told.until(lambda: "file" in told.paths)
    finally:
        never.set()
        watcher.stop()


def test_the_proof_disturbs_nobody(tmp_path: Path, root: Path, told: Told) -> None:
    """Several proofs later nothing was told, and nothing was written into the source."""
    heard = threading.Semaphore(0)

    class Counting(EventReader):
        def handle_event(self, event: InotifyEvent) -> None:
            super().handle_event(event)
            if event.name == b"canary":
                heard.release()

    watcher = Watcher(
        on_state=told.on_state, timing=QUICK, make_reader=Counting, canary=str(tmp_path / "watch")
    )
    try:
        watch(watcher, root, told)
        for _ in range(4):
            assert heard.acquire(timeout=60)
        assert (told.dirty, told.states, list(root.iterdir())) == ([], [], [])
    finally:
        watcher.stop()


def test_a_canary_that_cannot_be_kept_proves_nothing(tmp_path: Path, root: Path, told: Told) -> None:
    """Changes are told all the same."""
    (tmp_path / "watch").write_text("a file, where a directory should be")
    watcher = Watcher(on_state=told.on_state, timing=QUICK, canary=str(tmp_path / "watch"))
    try:
        watch(watcher, root, told)
        (root / "file").write_text("x")
        assert told.until(lambda: "file" in told.paths)
        assert told.states == []
    finally:
        watcher.stop()


# -- roots that come late


@pytest.mark.parametrize("how", ["made", "moved"])
def test_a_root_is_armed_the_moment_it_appears(
    patient: Watcher, tmp_path: Path, told: Told, how: str
) -> None:
    """However many directories above it are missing, too; no timer has a part in it."""
    late = tmp_path / "mnt" / "card" / "A001"
    watch(patient, late, told)
    assert told.until(lambda: told.reasons == [Reason.SOURCE_SUSPECT])
    if how == "made":
        late.mkdir(parents=True)
    else:
        (tmp_path / "elsewhere" / "A001").mkdir(parents=True)
        (tmp_path / "mnt").mkdir()
        (tmp_path / "elsewhere").rename(tmp_path / "mnt" / "card")
    assert told.until(lambda: told.whole >= 1 and told.reasons[-1] is None)
    (late / "file").write_text("x")
    assert told.until(lambda: "file" in told.paths)


def test_a_root_that_goes_and_comes_again_and_again_is_watched(
    patient: Watcher, tmp_path: Path, root: Path, told: Told
) -> None:
    """Removed, made anew, moved away and back: the last one is watched."""
    watch(patient, root, told)
    for _ in range(3):
        seen = told.whole
        root.rename(tmp_path / "away")
        assert told.until(lambda seen=seen: told.whole > seen)  # type: ignore[misc]
        assert told.until(lambda: told.reasons[-1] is Reason.SOURCE_SUSPECT)
        (tmp_path / "away").rename(root)
        assert told.until(lambda: told.reasons[-1] is None)
        assert told.until(lambda seen=seen: told.whole >= seen + 2)  # type: ignore[misc]  # gone, and back
    (root / "file").write_text("x")
    assert told.until(lambda: "file" in told.paths)


def test_waiting_for_a_root_costs_one_watch(patient: Watcher, tmp_path: Path, told: Told) -> None:
    """What happens beside it is heard by nobody."""
    watch(patient, tmp_path / "a" / "b", told)
    assert told.until(lambda: told.reasons == [Reason.SOURCE_SUSPECT])
    for number in range(50):
        (tmp_path / str(number)).mkdir()
    assert patient._reader is not None
    assert len(patient._reader._watch_for_wd) == 1
    assert told.whole == 0


# -- what is watched


def test_excluded_subtrees_are_not_watched(patient: Watcher, root: Path, told: Told) -> None:
    """No watch of the kernel is spent on them; later ones are left out, too."""
    for name in ("keep/a", "cache/x/y/z", "cache/w"):
        (root / name).mkdir(parents=True)
    watch(patient, root, told, filter_=Filter(exclude=("cache/",)))
    assert patient.state(str(root)).directories == 3
    (root / "keep" / "cache" / "more").mkdir(parents=True)
    (root / "keep" / "b").mkdir()
    assert told.until(
        lambda: "keep/b" in told.paths | told.subtrees or patient.state(str(root)).directories == 4
    )
    assert patient.state(str(root)).directories == 4


def test_tens_of_thousands_of_directories_are_watched(patient: Watcher, root: Path, told: Told) -> None:
    """Each of them, through one instance."""
    for outer in range(100):
        (root / str(outer)).mkdir()
        for inner in range(100):
            os.mkdir(root / str(outer) / str(inner))
    watch(patient, root, told)
    assert patient.state(str(root)).directories == 10_101
    (root / "77" / "33" / "file").write_text("x")
    assert told.until(lambda: "77/33/file" in told.paths)
