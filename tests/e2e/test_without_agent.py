"""Commands on the state of an agent that does not run."""

from __future__ import annotations

from pathlib import Path

from agents import fill, world


def test_what_a_single_run_held_is_approved_before_the_next(tmp_path: Path) -> None:
    """`run --once` that is blocked by deletions says what to do, and doing that lets the next one through."""
    with world(tmp_path) as w:
        fill(w.source, 20)
        w.write(w.mapping(more="prune: true\ndeletions: {maxCount: 5}"))
        assert w.once().returncode == 0
        for number in range(10):
            (w.source / "d000" / f"f{number:05d}.bin").unlink()
        held = w.once()
        assert held.returncode == 4
        assert "lanesync approve Mapping/dailies" in held.stdout
        approved = w.call("approve", "Mapping/dailies")
        assert approved.returncode == 0, approved.stderr
        assert w.once().returncode == 0
        assert w.same()
        again = w.call("approve", "Mapping/dailies")
        assert again.returncode == 1
        assert "nothing is held" in again.stderr


def test_a_revision_that_loses_everything_is_approved_before_the_next_run(tmp_path: Path) -> None:
    """The revision that the last run held, and nothing when none was."""
    with world(tmp_path) as w:
        fill(w.source, 3)
        w.write(w.mapping())
        assert w.once().returncode == 0
        assert "no revision is held" in w.call("approve", "revision").stderr
        (w.specs / "specs.yaml").unlink()
        assert w.once().returncode == 4
        assert w.call("approve", "revision").returncode == 0
        gone = w.once()
        assert gone.returncode == 0, gone.stdout


def test_status_after_a_kill_is_what_the_agent_last_knew(tmp_path: Path) -> None:
    """Not that no agent has ever run."""
    with world(tmp_path) as w:
        fill(w.source, 3)
        w.write(w.mapping())
        w.start()
        w.in_sync()
        w.kill()
        status = w.call("status")
        assert "no agent is running; this is what the last one knew" in status.stdout, status.stderr
