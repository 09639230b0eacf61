"""The bare loops that the benchmarks compare with do the work they are timed for."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import eventually

from bench import peers, trees

pytestmark = pytest.mark.e2e


def _is_copy(target: Path, wanted: trees.Fingerprint) -> bool:
    try:
        return trees.fingerprint(target) == wanted
    except FileNotFoundError:
        return False  # a temporary file went away while we looked


def test_the_sendfile_loop_delivers_the_file(tmp_path: Path) -> None:
    """What arrives is what was sent."""
    source, target = tmp_path / "source" / "file", tmp_path / "target"
    trees.make_file(source, (3 << 20) + 17)
    target.mkdir()
    assert peers.sendfile_loop(source, target / "file", tmp_path / "log") > 0
    trees.check(target, trees.fingerprint(source.parent))


def test_the_copy_loop_copies_what_is_closed(tmp_path: Path) -> None:
    """A file that is written after the loop is ready appears in the copy, whole."""
    source, target = tmp_path / "source", tmp_path / "target"
    trees.make_tree(source, 3)
    wanted = trees.fingerprint(source)
    with peers.copy_loop(source, target, tmp_path / "log"):
        for name in wanted:
            (source / name).write_bytes((source / name).read_bytes())
        eventually(lambda: _is_copy(target, wanted), what="the copy is whole")


@pytest.mark.skipif(not peers.present("rsync"), reason="rsync is not installed here")
def test_the_rsync_daemon_takes_a_tree(tmp_path: Path) -> None:
    """A tree sent to it is in that directory."""
    trees.make_tree(tmp_path / "source", 5)
    with peers.rsync_daemon(tmp_path / "rsync", tmp_path / "target") as daemon:
        assert daemon is not None
        daemon.send(f"{tmp_path}/source/", "turn")
    trees.check(tmp_path / "target" / "turn", trees.fingerprint(tmp_path / "source"))
