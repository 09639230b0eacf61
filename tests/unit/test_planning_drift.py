"""A destination compared with the ledger: laws of the comparison, and what counts as a difference."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.change import FileKind, FileStat
from agent.model.known import Known, Origin
from agent.model.observed import FarFile
from agent.model.spec import DestinationSpec, MappingSpec, Overwrite, PathMapping, TransferDefaults
from agent.planning.drift import (
    NAMED,
    Merge,
    Pair,
    Rules,
    Tally,
    What,
    counts_text,
    difference,
    hold_back,
    is_foreign,
    kept_by,
    rules_of,
)

SECOND = 1_000_000_000
RULES = Rules(tolerance_ns=1000, times=True, executable=True)


def known(path: str, kind: FileKind = FileKind.FILE, size: int = 3, mtime: int = SECOND) -> Known:
    return Known(path, FileStat(kind, size, mtime, 5, 7, False))


def far(path: str, kind: FileKind = FileKind.FILE, size: int = 3, mtime: int = SECOND) -> FarFile:
    return FarFile(path, kind, size, mtime)


names = st.text(alphabet="ab-.0", min_size=1, max_size=2)
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)), st.booleans()
).map(lambda tree: {p: d for p, d in tree.items() if not any(q.startswith(p + "/") for q in tree)})
"""Path -> whether it is an empty directory; nothing lies below a file or an empty directory."""


def is_there(path: str, directory: bool, tree: dict[str, bool]) -> bool:
    return path in tree or (directory and any(other.startswith(path + "/") for other in tree))


@given(ours=trees, theirs=trees, pages=st.lists(st.integers(1, 3), max_size=8))
def test_what_is_missing_and_foreign_is_found_whatever_the_pages(
    ours: dict[str, bool], theirs: dict[str, bool], pages: list[int]
) -> None:
    """An empty directory that holds something meanwhile is there, however far its content comes behind it."""

    def kind(directory: bool) -> FileKind:
        return FileKind.EMPTY_DIRECTORY if directory else FileKind.FILE

    rows = [known(p, kind(ours[p])) for p in sorted(ours, key=os.fsencode)]
    files = [far(p, kind(theirs[p])) for p in sorted(theirs, key=os.fsencode)]
    merge, found = Merge(), []
    for size in pages:
        page, files = files[:size], files[size:]
        if not page:
            break
        last = os.fsencode(page[-1].path)
        found += merge.page([row for row in rows if os.fsencode(row.path) <= last], page)
        rows = [row for row in rows if os.fsencode(row.path) > last]
    found += [*merge.page(rows, files), *merge.end()]
    missing = {pair.path for pair in found if pair.far is None}
    assert missing == {p for p, directory in ours.items() if not is_there(p, directory, theirs)}
    assert {p.path for p in found if is_foreign(p)} == {p for p in theirs if p not in ours and not theirs[p]}
    assert {p.path for p in found if p.known and p.far} == set(ours) & set(theirs)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (far("/a"), ""),
        (far("/a", mtime=SECOND + 900), ""),
        (far("/a", size=4), "4 bytes instead of 3"),
        (far("/a", mtime=2 * SECOND), "modified there"),
        (far("/a", mtime=0), "has an older modification time"),
        (far("/a")._replace(executable=True), "has become executable"),
        (far("/a", FileKind.EMPTY_DIRECTORY), "was a file, is a directory"),
    ],
)
def test_what_counts_as_changed(there: FarFile, said: str) -> None:
    """Kind, size, time and the executable bit."""
    assert difference(known("/a"), there, RULES) == said


def test_only_what_was_told_to_the_destination_counts() -> None:
    """Times and modes that are not preserved differ from the start; a coarse clock has its tolerance."""
    spec = MappingSpec(
        "m", ("d",), (PathMapping("/", "/s"),), preserve_mtime=False, preserve_executable=False
    )
    place = DestinationSpec("d", "host")
    other = far("/a", mtime=7 * SECOND)._replace(executable=True)
    assert difference(known("/a"), other, rules_of(spec, place)) == ""
    coarse = replace(place, transfer_defaults=TransferDefaults(modification_time_tolerance=2.0))
    exact = replace(spec, preserve_mtime=True, preserve_executable=True)
    assert difference(known("/a"), far("/a", mtime=3 * SECOND), rules_of(exact, coarse)) == ""
    assert difference(known("/a"), far("/a", mtime=3 * SECOND), rules_of(exact, place)) != ""


def test_what_the_overwrite_mode_kept_is_no_difference() -> None:
    """It was somebody else's from the start."""
    kept = known("/a")._replace(origin=Origin.KEPT)
    assert difference(kept, far("/a", size=99), RULES) == ""


def test_what_sending_again_would_not_replace() -> None:
    """`never`, and `newer` unless what is there is older; something that is missing is always sent."""
    ours, newer, older = known("/a"), far("/a", mtime=2 * SECOND), far("/a", mtime=0)
    assert kept_by(Overwrite.NEVER, ours, older, RULES)
    assert kept_by(Overwrite.NEWER, ours, newer, RULES)
    assert not kept_by(Overwrite.NEWER, ours, older, RULES)
    assert not kept_by(Overwrite.ALWAYS, ours, newer, RULES)
    assert not kept_by(Overwrite.NEVER, ours, None, RULES)


def test_counts_are_whole_and_names_are_bounded() -> None:
    """However much somebody changed."""
    tally = Tally()
    for number in range(NAMED * 3):
        tally.add(What.MISSING, f"/{number}", corrected=number % 2 == 0)
    assert (tally.missing, tally.left, len(tally.named)) == (300, 150, NAMED)
    assert counts_text(1, 2000, 0, 1) == "1 file missing, 2,000 changed, 1 not from here"


def test_corrections_that_are_undone_again_and_again_become_rare() -> None:
    """The second one comes with the next look, later ones after twice the time each, at most a day."""
    waits = [hold_back(rounds, 3600.0, 1.0) for rounds in range(1, 12)]
    assert waits[0] == 1800.0
    assert waits == sorted(waits)
    assert waits[-1] == 86_400.0
    assert hold_back(1, 7 * 86_400.0, 0.0) < 7 * 86_400.0


def test_a_pair_is_named_by_either_side() -> None:
    assert Pair(None, far("/x")).path == Pair(known("/x"), None).path == "/x"
