"""The ledger in the order of full paths, where paths come from, and what looks at a destination found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.change import FileKind, FileStat
from agent.model.known import Origin
from agent.state import ordered
from agent.state.db import State, open_state

M, D = "dailies", "archive"


def stat(size: int = 1) -> FileStat:
    return FileStat(FileKind.FILE, size, 1_700_000_000_123_456_789, 1_700_000_000_987_654_321, 1, False)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = open_state(str(tmp_path))
    yield opened
    opened.close()


names = st.text(alphabet="ab-/.0é", min_size=1, max_size=3).filter(lambda n: "/" not in n)
some_paths = st.sets(st.lists(names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)))


def in_order(state: State, prefix: str = "/", after: str = "", until: str | None = None) -> list[str]:
    return [known.path for known in state.ordered.rows(M, D, prefix, after, until)]


@settings(max_examples=60, deadline=None)
@given(paths=some_paths, after=some_paths, prefix=st.sampled_from(["/", "/a", "/a/b", "/-"]))
def test_rows_come_in_the_byte_order_of_their_full_paths(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str], after: set[str], prefix: str
) -> None:
    """Whatever the directories are called, wherever the last page ended, however short the pages are."""
    state = open_state(str(tmp_path_factory.mktemp("ordered")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "_PAGE", 2)
        patch.setattr(ordered, "_PREFIXES", 2)
        state.ledger.record(M, D, [(path, stat(), "", 1) for path in paths], now=1.0)
        below = sorted(
            (p for p in paths if p == prefix or p.startswith(prefix.rstrip("/") + "/")), key=os.fsencode
        )
        for start in ["", *after, *paths]:
            wanted = [path for path in below if os.fsencode(path) > os.fsencode(start)]
            assert in_order(state, prefix, start) == wanted
            if wanted:
                assert (
                    in_order(state, prefix, start, wanted[len(wanted) // 2]) == wanted[: len(wanted) // 2 + 1]
                )
    state.close()


def test_a_row_says_where_it_comes_from(state: State) -> None:
    """Delivered, kept as it was, or adopted; a later delivery makes it ours."""
    state.ledger.record(M, D, [("/a", stat(), "", 1)], 1.0, Origin.KEPT)
    state.ledger.record(M, D, [("/b", stat(), "", 0)], 1.0, Origin.ADOPTED)
    state.ledger.record(M, D, [("/c", stat(), "77", 2)], 1.0)
    found = {known.path: known for known in state.ordered.rows(M, D, "/")}
    assert [found[p].origin for p in ("/a", "/b", "/c")] == [Origin.KEPT, Origin.ADOPTED, Origin.DELIVERED]
    assert found["/c"].digest == "77"
    assert state.ledger.kept(M, D, ["/a", "/b", "/c", "/d"]) == {"/a"}
    state.ledger.record(M, D, [("/a", stat(), "", 3)], 2.0)
    assert state.ledger.kept(M, D, ["/a"]) == frozenset()


def test_a_digest_that_was_learned_later_asks_for_no_new_scan(state: State) -> None:
    """Nothing changed but what we know of it."""
    state.ledger.record(M, D, [("/d/a", stat(), "", 1)], 1.0)
    state.ledger.set_digests(M, D, {"/d": b"listing"})
    state.ledger.verified(M, D, {"/d/a": "00ff", "/not/there": "11"})
    assert state.ledger.digest(M, D, "/d/a") == "00ff"
    assert state.ledger.digest_of(M, D, "/d") == b"listing"
    state.ledger.record(M, D, [("/d/a", stat(7), "", 2)], 2.0)
    assert state.ledger.digest_of(M, D, "/d") is None


def test_all_of_a_delivery_is_handed_over_at_once(state: State) -> None:
    """With digests and origins, unless the heir has something of its own."""
    state.ledger.record(M, D, [("/a", stat(), "55", 1)], 1.0)
    state.looks.set_adopted(M, D, 1.0)
    assert state.ledger.hand_over(M, "heir", D)
    assert state.ledger.digest("heir", D, "/a") == "55"
    assert state.ledger.count(M, D) == 0
    assert state.looks.adopted("heir", D)
    state.ledger.record(M, D, [("/b", stat(), "", 1)], 1.0)
    assert not state.ledger.hand_over(M, "heir", D)
    assert state.ledger.count(M, D) == 1


def test_what_a_look_found_goes_with_the_ledger(state: State) -> None:
    """A destination that is dropped is looked at anew."""
    state.looks.set_adopted(M, D, 1.0)
    state.looks.put(M, D, "drift", {"missing": 1}, 2.0)
    assert state.looks.get(M, D, "drift") == {"missing": 1}
    state.ledger.drop(M, D)
    assert state.looks.get(M, D, "drift") is None
    assert not state.looks.adopted(M, D)
