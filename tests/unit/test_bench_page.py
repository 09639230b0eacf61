"""The page of the benchmarks: what is promised and seen, and sections that are replaced one by one."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import catalogue, chart, lanes, promises, record, report, wan
from bench.lanes import Found
from bench.measure import RATE, Result
from bench.ours import PUBLISHED
from bench.record import Record
from bench.wan_peers import IPERF, IPERF_8, LANESYNC

MACHINE = {"date": "2026-01-02 03:04 UTC", "cores": "2", "load": "0.10", "Python": "3.11.2"}


def _record(workload: str, *results: Result, scale: str = "record") -> Record:
    return Record(workload, scale, f"python -m bench {workload} --record", MACHINE, 61.0, list(results))


def _burst(ours: float, theirs: float) -> Record:
    series = {"LaneSync, lanesync run": [ours], "lsyncd with rsync, delay 0": [theirs]}
    return _record("burst", Result("burst", "A burst", "LaneSync, lanesync run", series=series))


def _line_of(records: record.Records, words: str) -> str:
    (line,) = [line for line in promises.table(records) if words in line]
    return line


def test_a_promise_is_met_or_not_by_the_numbers_alone() -> None:
    """Ahead is met, behind is not, and what was not measured is said to be so."""
    words = "ahead of lsyncd with rsync"
    assert "1.50 ×: 2.000 s, lsyncd with rsync, delay 0 3.000 s | ✓ met |" in _line_of(
        {"burst": _burst(2.0, 3.0)}, words
    )
    assert "0.50 ×: 2.000 s, lsyncd with rsync, delay 0 1.000 s | ✗ **not met** |" in _line_of(
        {"burst": _burst(2.0, 1.0)}, words
    )
    assert _line_of({}, words).endswith("not measured |")


def test_figures_of_small_sizes_are_not_passed_off_as_those_of_record() -> None:
    """The mark says at which sizes."""
    small = Record("burst", "quick", "python -m bench burst", MACHINE, 1.0, _burst(2.0, 3.0).results)
    assert "✓ met, at quick sizes" in _line_of({"burst": small}, "ahead of lsyncd")


def test_the_best_of_several_peers_is_the_one_to_beat() -> None:
    """Being ahead of all but one is not enough."""
    result = Result("large", "x", PUBLISHED, series={PUBLISHED: [2.0], "scp": [9.0], "xrdcp": [1.0]})
    line = _line_of({"large": _record("large", result)}, "ahead of every file peer")
    assert "0.50 ×: 2.000 s, xrdcp 1.000 s | ✗ **not met**" in line


def test_rates_are_better_when_they_are_higher() -> None:
    """0.95 of the better one of two iperf3."""
    series = {LANESYNC: [95.0], IPERF: [90.0], IPERF_8: [100.0]}
    result = Result(wan.table(wan.BBR, 0.01), "x", LANESYNC, series=series, unit=RATE)
    assert result.ratio(IPERF_8) == 0.95
    assert "0.95 ×: 95.0 Mbit/s, iperf3, 8 streams 100 Mbit/s | ✓ met" in _line_of(
        {"wan-bbr": _record("wan-bbr", result)}, " 1 % lost, BBR]"
    )
    result.series[IPERF_8] = [101.0]
    assert "**not met**" in _line_of({"wan-bbr": _record("wan-bbr", result)}, " 1 % lost, BBR]")


def test_every_promise_is_about_a_workload_that_exists() -> None:
    """And is found nowhere in tables that are empty."""
    names = {workload.name for workload in catalogue.WORKLOADS}
    for promise in promises.PROMISES:
        assert promise.workload in names
        assert promise.look({}) is None


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Also its timeline; records come in the order of the workloads."""
    result = Result("lanes-fast", "x", lanes.ALONE, series={lanes.ALONE: [1.5]}, unit=RATE)
    result.timeline, result.shares = [(0.0, {"High": 1}), (0.5, {"High": 7})], {"High": 1.0}
    written = {"burst": _burst(1.0, 2.0), "lanes": _record("lanes", result)}
    for one in reversed(written.values()):
        record.save(tmp_path, one)
    assert record.load(tmp_path) == written
    assert list(record.load(tmp_path)) == ["burst", "lanes"]


def test_a_workload_that_runs_again_replaces_its_own_section_alone(tmp_path: Path) -> None:
    """The other one stays as it was, on the page and in its picture; a picture that nobody shows goes."""
    target = tmp_path / "page.md"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bench-gone.svg").write_text("<svg/>")
    reaction = Result("reaction", "A reaction", "lanesync run", series={"lanesync run": [0.0125]})
    for one in (_record("reaction", reaction), _burst(1.0, 2.0), _burst(4.0, 2.0)):
        record.save(report.data(target), one)
        report.write(target, record.load(report.data(target)))
    text = target.read_text(encoding="utf-8")
    assert text.count("## A reaction") == text.count("## A burst") == 1
    assert "| LaneSync, lanesync run | 4.000 s |" in text
    assert "| lanesync run | 12.5 ms |" in text
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "bench-burst.svg",
        "bench-reaction.svg",
    }


def test_the_page_links_nothing_that_is_not_there(tmp_path: Path) -> None:
    """Pictures, raw data and sections."""
    target = tmp_path / "page.md"
    record.save(report.data(target), _burst(1.0, 2.0))
    report.write(target, record.load(report.data(target)))
    text = target.read_text(encoding="utf-8")
    for link in [part.split(")")[0] for part in text.split("](")[1:]]:
        if link.startswith("#"):
            assert f'<a id="{link[1:]}"></a>' in text
        else:
            assert (tmp_path / link).is_file()


def test_workloads_are_chosen_by_how_their_names_begin() -> None:
    """All when none is named; an error that lists them for a name that nobody has."""
    assert [one.name for one in catalogue.chosen(["small"])] == ["small-memory", "small-disk"]
    assert catalogue.chosen([]) == list(catalogue.WORKLOADS)
    with pytest.raises(ValueError, match="no workload is named smoll; there are large,"):
        catalogue.chosen(["large", "smoll"])


def test_the_worst_window_is_found_wherever_it_is() -> None:
    """Lanes as asked, but for one second in which the first had all: 30 points of a fifth of a window."""
    counts: lanes.Counts = []
    moved = dict.fromkeys(lanes.SHARES, 0.0)
    for tick in range(200):
        counts.append((tick / 10, {lane: int(total) for lane, total in moved.items()}))
        shares = {"High": 1.0} if 100 <= tick < 110 else lanes.SHARES
        for lane in moved:
            moved[lane] += 1e6 * shares.get(lane, 0.0)
    assert Found(counts, [], 1.0, [0.1]).worst["High"] == pytest.approx(6.0, abs=0.2)


def test_a_chart_cuts_who_is_far_behind_and_says_how_far() -> None:
    """The others can be told apart; the label has the true figure."""
    series = {"LaneSync": [1.0], "theirs": [2.0], "slow": [500.0], "third": [1.5]}
    text = chart.draw([Result("x", "x", "LaneSync", series=series)])
    widths = [float(rect.attrib["width"]) for rect in ET.fromstring(text).iter() if rect.tag.endswith("rect")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.3)
    assert widths[0] > 50
    assert "500.000 s" in text
    assert "500.00 ×" in text


def test_a_chart_of_shares_fills_its_height(tmp_path: Path) -> None:
    """Lanes on top of each other, up to all that moved."""
    chance, moved = random.Random(5), {"a": 0, "b": 0}
    result = Result("x", "x & y", "b", series={"b": [1.0]}, shares={"a": 0.5, "b": 0.5})
    for second in range(6):
        result.timeline.append((float(second), dict(moved)))
        moved = {lane: total + chance.randrange(1, 99) for lane, total in moved.items()}
    drawn = ET.fromstring(chart.draw([result]))
    first, second_ = [one.attrib["points"].split() for one in drawn.iter() if one.tag.endswith("polygon")]
    assert len(first) == len(second_) == 12
    assert {point.split(",")[1] for point in second_[:6]} == {f"{chart.PLOT_TOP:.1f}"}
    assert second_[6:] == first[5::-1]
