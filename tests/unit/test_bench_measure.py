"""What the benchmarks make of their seconds, and of wrong copies."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from bench import chart, processes, report, trees
from bench.measure import Contender, Result, alternate, order, percentile
from bench.record import Record


def _result(**series: list[float]) -> Result:
    return Result("work", "Some <work> & more", baseline="ours", series=dict(series))


def test_everyone_runs_once_a_round_and_each_is_first_in_turn() -> None:
    """In every round each contender runs once; over as many rounds as contenders, each begins once."""
    rounds = [order(4, turn) for turn in range(4)]
    assert all(sorted(turn) == [0, 1, 2, 3] for turn in rounds)
    assert sorted(turn[0] for turn in rounds) == [0, 1, 2, 3]


def test_preparing_and_verifying_surround_every_run() -> None:
    """Each run is prepared before and verified after, and all its seconds are kept."""
    seen: list[str] = []
    seconds = iter((3.0, 1.0, 2.0))

    def run() -> dict[str, float]:
        seen.append("run")
        return {"ours": next(seconds)}

    contender = Contender(run, prepare=lambda: seen.append("prepare"), verify=lambda: seen.append("verify"))
    result = alternate(_result(), [contender], rounds=3)
    assert seen == ["prepare", "run", "verify"] * 3
    assert result.series == {"ours": [3.0, 1.0, 2.0]}
    assert result.median("ours") == 2.0


def test_a_wrong_copy_ends_the_benchmark() -> None:
    """A contender whose result is wrong gives no number."""

    def verify() -> None:
        raise trees.WrongCopyError("not the same")

    result = _result()
    with pytest.raises(trees.WrongCopyError):
        alternate(result, [Contender(lambda: {"ours": 1.0}, verify=verify)], rounds=2)
    assert result.series == {}


def test_ratios_are_against_the_median_of_the_baseline() -> None:
    """A ratio of 2 is twice the baseline's median time; without baseline there is none."""
    result = _result(ours=[1.0, 9.0, 2.0], theirs=[4.0, 4.0, 100.0])
    assert result.ratio("theirs") == 2.0
    assert result.ratio("ours") == 1.0
    assert _result(theirs=[1.0]).ratio("theirs") is None


def test_a_percentile_is_the_value_that_so_many_do_not_exceed() -> None:
    """At least so many percent are at or below it, and fewer are below."""
    values = [random.Random(3).random() for _ in range(57)]
    for percent in (1, 50, 95, 100):
        found = percentile(values, percent)
        assert sum(value <= found for value in values) >= len(values) * percent / 100
        assert sum(value < found for value in values) < len(values) * percent / 100


def test_who_is_slow_may_stand_back_after_some_rounds() -> None:
    """The others go on; the table says how many rounds each had."""
    contenders = [Contender(lambda: {"ours": 1.0}), Contender(lambda: {"slow": 9.0}, rounds=2)]
    result = alternate(_result(), contenders, rounds=4)
    assert (len(result.series["ours"]), len(result.series["slow"])) == (4, 2)


def test_processor_seconds_and_bytes_are_those_of_the_run_alone() -> None:
    """What a program of ours uses and sends while it runs, also one whose parent has ended."""
    processes.adopt()
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    orphan = f"import os\nif os.fork() == 0:\n    os.setsid()\n    {burn.replace(chr(10), chr(10) + '    ')}"

    def run() -> dict[str, float]:
        before = processes.cpu_seconds()
        subprocess.run([sys.executable, "-c", orphan], check=True)
        processes.wait_until(lambda: processes.cpu_seconds() > before + 0.29, "the orphan is counted")
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as one,
        ):
            other, _ = server.accept()
            with other:
                one.sendall(bytes(100_000))
                while len(other.recv(1 << 20, socket.MSG_PEEK)) < 100_000:
                    pass
        return {"ours": 1.0}

    result = alternate(_result(), [Contender(run)], rounds=1)
    assert 0.29 <= result.cpu["ours"][0] < 5.0
    assert result.wire["ours"][0] >= 100_000


def test_the_section_names_what_is_missing_and_shows_every_number() -> None:
    """Peers that are not installed are named; medians, ratios, processor seconds and all rounds are there."""
    result = _result(ours=[0.5, 0.25, 0.125], theirs=[1.0, 1.5, 2.0])
    result.missing.append("rsync")
    result.cpu["theirs"] = [0.5, 0.75, 4.0]
    machine = {"date": "today", "load": "0.25", "Python": "3.11.2"}
    text = "\n".join(report.section(Record("large", "quick", "python -m bench", machine, 60.0, [result])))
    assert "not measured: rsync" in text
    assert "| theirs | 1.500 s | 6.00 | 1.000 s | 2.000 s | 3 | 0.75 s |" in text
    assert "theirs: 1.000 1.500 2.000" in text
    assert "not the figures of record" in text


def test_the_chart_is_well_formed_and_has_a_bar_for_every_series() -> None:
    """Titles with markup characters do no harm, and lengths follow the medians."""
    result = Result("x", "a < b & c", "ours", series={"ours": [1.0], "theirs": [2.0], "nothing": []})
    svg = ET.fromstring(chart.draw([result]))
    bars = [float(rect.attrib["width"]) for rect in svg.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(bars) == 2
    assert bars[1] == pytest.approx(2 * bars[0])


def test_a_tree_is_the_same_every_time(tmp_path: Path) -> None:
    """Two trees of one size are equal; file sizes are 1 to 16 KiB."""
    trees.make_tree(tmp_path / "a", 230)
    trees.make_tree(tmp_path / "b", 230)
    wanted = trees.fingerprint(tmp_path / "a")
    trees.check(tmp_path / "b", wanted)
    assert len(wanted) == 230
    assert all(1 << 10 <= size <= 16 << 10 for size, _ in wanted.values())
    assert Counter(Path(name).parent for name in wanted).most_common(1)[0][1] == 100


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "extra"])
def test_a_copy_with_any_difference_is_refused(tmp_path: Path, damage: str) -> None:
    """One flipped byte, a short file, a missing one, one too many: each is named."""
    trees.make_tree(tmp_path, 3)
    wanted = trees.fingerprint(tmp_path)
    victim = tmp_path / sorted(wanted)[1]
    content = victim.read_bytes()
    if damage == "flip":
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    elif damage == "missing":
        victim.unlink()
    else:
        victim = victim.with_name("extra")
        victim.write_bytes(b"")
    with pytest.raises(trees.WrongCopyError, match=victim.name):
        trees.check(tmp_path, wanted)


def test_a_large_file_has_the_size_that_was_asked_for(tmp_path: Path) -> None:
    """Also when it is no multiple of the block."""
    trees.make_file(tmp_path / "x" / "large", (64 << 20) + 12345)
    assert (tmp_path / "x" / "large").stat().st_size == (64 << 20) + 12345
