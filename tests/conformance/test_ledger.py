"""What every ledger promises, checked against a plain dictionary that does the same."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.model.change import FileKind, FileStat
from agent.state.db import State, open_state

M, D = "dailies", "archive"


def stat(size: int = 1, inode: int = 1, kind: FileKind = FileKind.FILE) -> FileStat:
    return FileStat(kind, size, 1_700_000_000_123_456_789, 1_700_000_000_987_654_321, inode, False)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = open_state(str(tmp_path))
    yield opened
    opened.close()


def test_what_is_recorded_is_read_back_exactly(state: State) -> None:
    """Every field of a version survives, 64-bit inodes and negative times included."""
    version = FileStat(FileKind.FILE, 2**40, -1, 2**62, 2**64 - 1, True)
    state.ledger.record(M, D, [("/a/b", version, "00ff", 3)], now=1.0)
    assert state.ledger.entry(M, D, "/a/b") == version
    assert state.ledger.digest(M, D, "/a/b") == "00ff"


def test_deliveries_do_not_see_each_other(state: State) -> None:
    """The same path of another mapping or at another destination is another row."""
    state.ledger.record(M, D, [("/a", stat(), "", 1)], now=1.0)
    assert state.ledger.entry(M, "review", "/a") is None
    assert state.ledger.entry("stills", D, "/a") is None
    state.ledger.drop("stills", D)
    assert state.ledger.count(M, D) == 1


def test_directory_gives_direct_children_only(state: State) -> None:
    """Neither grandchildren nor directories whose names begin alike are children."""
    paths = ["/a/x", "/a/y", "/a/b/z", "/a-b/x", "/ab", "/a0/x"]
    state.ledger.record(M, D, [(path, stat(), "", 1) for path in paths], now=1.0)
    assert set(state.ledger.directory(M, D, "/a")) == {"/a/x", "/a/y"}
    assert set(state.ledger.directory(M, D, "/")) == {"/ab"}
    assert [path for path, _ in state.ledger.under(M, D, "/a")] == ["/a/x", "/a/y", "/a/b/z"]
    assert list(state.ledger.directories_below(M, D, "/a")) == ["/a", "/a/b"]
    assert state.ledger.count(M, D, "/a") == 3


def test_under_a_file_is_that_file(state: State) -> None:
    """A mapping of one single file is asked for by that file's own path."""
    state.ledger.record(M, D, [("/lut.cube", stat(7), "", 1)], now=1.0)
    assert list(state.ledger.under(M, D, "/lut.cube")) == [("/lut.cube", stat(7))]
    assert state.ledger.count(M, D, "/lut.cube") == 1
    assert state.ledger.total_bytes(M, D, "/lut.cube") == 7
    assert state.ledger.has_under(M, D, "/lut.cube")


def test_names_that_are_not_utf8_survive(state: State) -> None:
    """Paths are bytes, whatever they hold."""
    path = "/caf\udce9/\udcff\udcfe\n'\""
    state.ledger.record(M, D, [(path, stat(), "", 1)], now=1.0)
    assert dict(state.ledger.under(M, D, "/")) == {path: stat()}
    state.ledger.forget(M, D, [path])
    assert not state.ledger.has_under(M, D, "/")


def test_a_digest_holds_until_a_child_changes(state: State) -> None:
    """A directory's digest is cleared by a record or forget of its own children, and of no others."""
    ledger = state.ledger
    ledger.record(M, D, [("/a/x", stat(), "", 1), ("/b/x", stat(), "", 1)], now=1.0)
    digests = {"/a": b"one", "/b": b"two", "/": b"three"}
    ledger.set_digests(M, D, digests)
    ledger.record(M, D, [("/a/x", stat(2), "", 2)], now=2.0)
    assert [ledger.digest_of(M, D, path) for path in digests] == [None, b"two", b"three"]
    ledger.set_digests(M, D, {"/a": b"one"})
    ledger.forget(M, D, ["/b/x"])
    assert [ledger.digest_of(M, D, path) for path in digests] == [b"one", None, b"three"]
    ledger.clear_digests(M, D, "/a")
    assert [ledger.digest_of(M, D, path) for path in digests] == [None, None, b"three"]


def test_rows_may_change_while_they_are_streamed(state: State) -> None:
    """A reader of many rows neither blocks a writer nor loses the rows that stay."""
    paths = [f"/d{number % 3}/f{number:05d}" for number in range(7_000)]
    state.ledger.record(M, D, [(path, stat(), "", 1) for path in paths], now=1.0)
    seen = []
    for path, _ in state.ledger.under(M, D, "/"):
        seen.append(path)
        if len(seen) == 10:
            state.ledger.forget(M, D, ["/d2/f06998"])
    assert set(paths) - set(seen) <= {"/d2/f06998"}
    assert len(seen) == len(set(seen))


def test_a_transaction_is_all_or_nothing(state: State) -> None:
    """When the work between fails, neither the ledger nor the attempts remember any of it."""
    attempt = state.attempts.open(M, D, "transfer", "c", "r", [("/a", "/s/a", stat())], now=1.0)
    with pytest.raises(RuntimeError), state.transaction():
        state.attempts.settle(attempt.number, [("/a", True)], cursor=1)
        state.ledger.record(M, D, [("/a", stat(), "", attempt.number)], now=2.0)
        raise RuntimeError
    assert state.ledger.entry(M, D, "/a") is None
    assert set(state.attempts.in_flight(M, D)) == {"/a"}


def test_the_ledger_survives_a_reopen(tmp_path: Path) -> None:
    """What was recorded is there for the next process, under the same agent id."""
    first = open_state(str(tmp_path))
    first.ledger.record(M, D, [("/a", stat(), "", 1)], now=1.0)
    first.close()
    second = open_state(str(tmp_path))
    assert second.ledger.entry(M, D, "/a") == stat()
    assert second.agent_id == first.agent_id
    second.close()


_WRITER = """
import sys
from agent.model.change import FileKind, FileStat
from agent.state.db import open_state
state = open_state(sys.argv[1])
stat = FileStat(FileKind.FILE, 1, 2, 3, 4, False)
number = 0
KEY = ("dailies", "archive")
while True:
    paths = [f"/d{number % 7}/f{number}-{n}" for n in range(20)]
    attempt = state.attempts.open(*KEY, "transfer", "c", "r", [(p, p, stat) for p in paths], 1.0)
    print(attempt.number, flush=True)
    with state.transaction():
        done = state.attempts.settle(attempt.number, [(p, True) for p in paths], 1)
        rows = [(p, s, "", attempt.number) for p, (s, _) in done.items()]
        state.ledger.record(*KEY, rows, 2.0)
        state.attempts.finish(attempt.number, "complete", "", 3.0)
    number += 1
"""


@pytest.mark.parametrize("turn", range(3))
def test_a_killed_writer_leaves_whole_transactions(tmp_path: Path, turn: int) -> None:
    """After kill -9 an attempt is either open with all its paths in flight, or finished with all recorded."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(40 + 30 * turn):
            last = int(writer.stdout.readline())
        writer.kill()
        last = max([last, *map(int, writer.stdout.read().split())])
    state = open_state(str(tmp_path))
    recorded = list(state.ledger.under(M, D, "/"))
    finished = state.attempts.history(limit=10_000)
    assert len(recorded) == state.ledger.count(M, D) == 20 * len(finished)
    assert all(len(state.attempts.left(attempt.number)) == 20 for attempt in state.attempts.pending())
    # One may be written down and not told of yet.
    assert len(finished) + len(state.attempts.pending()) in (last, last + 1)
    assert state.attempts.open(M, D, "delete", "c", "r", [], 4.0).number > last
    state.close()


_NAMES = st.sampled_from(["a", "b", "a-", "a0", "\udcff", "é"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
_PREFIXES = st.one_of(st.just("/"), _PATHS)


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of records and forgets leaves the ledger equal to a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.state = open_state(self.folder.name)
        self.model: dict[str, FileStat] = {}

    def teardown(self) -> None:
        self.state.close()
        self.folder.cleanup()

    @rule(paths=st.lists(_PATHS, max_size=5), size=st.integers(0, 9))
    def record(self, paths: list[str], size: int) -> None:
        self.state.ledger.record(M, D, [(path, stat(size), "", 1) for path in paths], now=1.0)
        self.model.update(dict.fromkeys(paths, stat(size)))

    @rule(paths=st.lists(_PATHS, max_size=5))
    def forget(self, paths: list[str]) -> None:
        self.state.ledger.forget(M, D, paths)
        for path in paths:
            self.model.pop(path, None)

    @rule(paths=st.lists(_PREFIXES, max_size=3))
    def set_digests(self, paths: list[str]) -> None:
        self.state.ledger.set_digests(M, D, dict.fromkeys(paths, b"d"))

    @rule()
    def drop(self) -> None:
        self.state.ledger.drop(M, D)
        self.model.clear()

    @rule(prefix=_PREFIXES)
    def agree_below(self, prefix: str) -> None:
        base = prefix.rstrip("/") + "/"
        expected = {p: s for p, s in self.model.items() if p == prefix or p.startswith(base)}
        ledger = self.state.ledger
        assert dict(ledger.under(M, D, prefix)) == expected
        assert ledger.count(M, D, prefix) == len(expected)
        assert ledger.total_bytes(M, D, prefix) == sum(s.size for s in expected.values())
        assert ledger.has_under(M, D, prefix) == bool(expected)

    @invariant()
    def agree(self) -> None:
        assert dict(self.state.ledger.under(M, D, "/")) == self.model


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
