"""One process owns a state directory: who comes second is told who was first, and the dead own nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.state.lock import LOCK_NAME, Owner, StateLock, StateLockedError, holder

OWNER = """
import sys
from agent.state.lock import StateLock
lock = StateLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    """The error names the process that holds the directory."""
    with (
        StateLock(str(tmp_path)),
        pytest.raises(StateLockedError, match=f"process {os.getpid()}, since 2") as refused,
    ):
        StateLock(str(tmp_path))
    assert refused.value.pid == os.getpid()
    assert holder(str(tmp_path)) is None
    StateLock(str(tmp_path)).release()


def test_the_lock_is_held_until_the_last_child_is_gone(tmp_path: Path) -> None:
    """A child that inherited the descriptor keeps the directory after its parent let go."""
    lock = StateLock(str(tmp_path))
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=[lock.fileno()],
    )
    lock.release()
    try:
        assert holder(str(tmp_path)) == os.getpid()
        with pytest.raises(StateLockedError):
            StateLock(str(tmp_path))
    finally:
        child.communicate(b"")
    StateLock(str(tmp_path), wait=5).release()


@pytest.mark.parametrize(
    ("runs", "waited", "told"), [(True, 2.0, "is using it"), (False, 10.0, "are still ending")]
)
def test_an_owner_that_runs_is_not_waited_for_as_the_children_of_one_that_is_gone(
    tmp_path: Path, runs: bool, waited: float, told: str
) -> None:
    """They end within moments; who runs refuses the next one soon."""
    with StateLock(str(tmp_path)) as held:
        if not runs:
            Path(held.path).write_bytes(Owner(os.getpid(), 1.0, 1).line())
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        with pytest.raises(StateLockedError, match=told):
            StateLock(str(tmp_path), wait=10.0, clock=lambda: now[0], sleep=sleep)
        assert now[0] == pytest.approx(waited, abs=0.1)


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    """What it wrote into the file stays there and says nothing any more."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None and owner.stdout.readline() == "held\n"
    with pytest.raises(StateLockedError) as refused:
        StateLock(str(tmp_path))
    assert refused.value.pid == owner.pid
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert Owner.parse((tmp_path / LOCK_NAME).read_bytes()).pid == owner.pid
    assert holder(str(tmp_path)) is None
    with StateLock(str(tmp_path)):
        assert holder(str(tmp_path)) == os.getpid()


def test_a_process_that_has_the_pid_of_a_dead_owner_owns_nothing(tmp_path: Path) -> None:
    """The file names a process that runs, and nobody holds the lock: it is taken."""
    (tmp_path / LOCK_NAME).write_bytes(Owner(os.getppid(), 1_700_000_000.0, 1).line())
    assert holder(str(tmp_path)) is None
    StateLock(str(tmp_path)).release()


def test_a_process_that_has_the_pid_of_a_dead_owner_is_not_named(tmp_path: Path) -> None:
    """The owner's children still hold the lock: they are waited for, nobody is asked to stop a stranger."""
    lock = StateLock(str(tmp_path))
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=[lock.fileno()],
    )
    mine = Owner.parse((tmp_path / LOCK_NAME).read_bytes())
    assert mine.pid == os.getpid() and mine.began is not None and mine.alive
    (tmp_path / LOCK_NAME).write_bytes(Owner(mine.pid, mine.since, mine.began - 1).line())
    lock.release()
    try:
        with pytest.raises(StateLockedError, match="which is gone, are still ending"):
            StateLock(str(tmp_path))
    finally:
        child.communicate(b"")


@pytest.mark.parametrize(
    ("data", "owner"),
    [
        (b"4711\n", Owner(4711)),
        (b"4711 1700000000 99\n", Owner(4711, 1_700_000_000.0, 99)),
        (b"4711 1700000000 99 of a later version\n", Owner()),
        (b"", Owner()),
        (b"\xff\x00", Owner()),
    ],
)
def test_a_lock_file_of_any_version_is_read(data: bytes, owner: Owner) -> None:
    """What cannot be understood names nobody."""
    assert Owner.parse(data) == owner
