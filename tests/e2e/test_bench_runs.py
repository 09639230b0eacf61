"""The benchmarks run, on a small scale: the command, and the workloads that start programs of others."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench import burst, changed, peers, small, trees, wan_peers
from bench.link import Shape
from bench.measure import Result
from bench.ours import PUBLISHED
from bench.workload import TINY

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)


def test_a_workload_alone_writes_its_section_and_its_raw_data(tmp_path: Path) -> None:
    """Nothing is left in the folder where it measured."""
    page, scratch = tmp_path / "page.md", tmp_path / "scratch"
    scratch.mkdir()
    done = _bench("delta", "--tiny", "--output", str(page), "--directory", str(scratch))
    assert done.returncode == 0, done.stderr
    assert "delta: about" in done.stderr
    told = json.loads((tmp_path / "benchmarks" / "delta.json").read_text())
    assert PUBLISHED in told["results"][0]["series"]
    assert "at tiny sizes" in page.read_text()
    assert (tmp_path / "images" / "bench-delta.svg").is_file()
    assert list(scratch.iterdir()) == []


def test_a_name_that_nobody_has_is_refused_before_anything_runs() -> None:
    """With a list of those that there are."""
    done = _bench("smoll")
    assert done.returncode == 2
    assert "no workload is named smoll; there are large, delta" in done.stderr


def test_changed_files_arrive_from_everyone(tmp_path: Path) -> None:
    """It compares every copy with its source itself."""
    result = changed.run(tmp_path, replace(TINY, changed_files=150))
    assert len(result.series[changed.APPLY]) == len(result.series[changed.ASKED]) == 1
    assert ("rsync" in result.missing) != (changed.RSYNC in result.series)


def test_a_tree_of_small_files_arrives_from_everyone(tmp_path: Path) -> None:
    """Plain and encrypted; each with the processor seconds of both ends."""
    tmp_path.chmod(0o755)
    result = small.run(tmp_path, replace(TINY, small_files=30), name="small-disk")
    assert {PUBLISHED, f"{PUBLISHED} (encrypted)", small.TAR} <= set(result.series)
    assert set(result.cpu) <= set(result.series)


def test_a_burst_arrives_from_everyone_who_watches(tmp_path: Path) -> None:
    """Who is not installed is said to be missing."""
    result: Result = burst.run(tmp_path, replace(TINY, burst_files=20))
    for name, programs in ((burst.LSYNCD, ("lsyncd", "rsync")), (burst.SYNCTHING, ("syncthing",))):
        assert (name in result.series) == all(peers.present(one) for one in programs)
    assert 0 < result.median(burst.WRITING) < result.median(burst.AGENT)


@pytest.mark.skipif(bool(wan_peers.missing()), reason=wan_peers.missing() or "a line can be made")
@pytest.mark.parametrize("name", {**wan_peers.CONTENDERS, **wan_peers.SMALL_FILES})
def test_a_long_line_is_crossed_by_everyone(tmp_path: Path, name: str) -> None:
    """And what arrives is whole, else there is no rate."""
    movers = {**wan_peers.CONTENDERS, **wan_peers.SMALL_FILES}
    if not wan_peers.usable(name):
        pytest.skip(f"what {name} wants is not installed")
    trees.make_file(tmp_path / "large" / "file", 1 << 20)
    with ExitStack() as stack:
        shape = Shape(delay=0.002, rate=1e9)
        source = tmp_path / "large" / "file"
        world = stack.enter_context(wan_peers.hosts(shape, tmp_path, source, 20.0, cubic=False))
        if name.startswith("iperf3"):
            world = replace(world, seconds=1.0)
        assert movers[name](world, stack)() > 1.0
