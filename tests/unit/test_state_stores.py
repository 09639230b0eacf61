"""The small stores: specs, approvals, overrides, roots, status, events."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import spec as model
from agent.model.outcome import PermanentError
from agent.model.spec import Key, Kind
from agent.state.codec import from_json, kind_of, to_json
from agent.state.db import State as Opened
from agent.state.db import open_state
from agent.state.lock import StateLock

KEY = Key(Kind.MAPPING, "dailies")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Opened]:
    opened = open_state(str(tmp_path))
    yield opened
    opened.close()


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The error says which directory, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match="--state-dir"):
        StateLock(str(tmp_path / "file" / "state"))


# -- the file


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """It is refused with what to do, and not one byte of it changes."""
    open_state(str(tmp_path)).close()
    path = tmp_path / "agent.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(PermanentError, match="newer version"):
        open_state(str(tmp_path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 1000, b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_damaged_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """It is refused with what to do, and not one byte of it changes."""
    path = tmp_path / "agent.db"
    path.write_bytes(content)
    with pytest.raises(PermanentError, match="Nothing was overwritten"):
        open_state(str(tmp_path))
    assert path.read_bytes() == content


def test_a_file_damaged_inside_is_refused(tmp_path: Path) -> None:
    """Pages of rubbish behind a sound header are found at start."""
    state = open_state(str(tmp_path))
    state.status.put(KEY, {"filler": "x" * 100_000}, now=1.0)
    state.close()
    path = tmp_path / "agent.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(PermanentError, match="damaged"):
        open_state(str(tmp_path))


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    """Another program's SQLite file is not taken for ours."""
    with sqlite3.connect(tmp_path / "agent.db") as db:
        db.execute("CREATE TABLE theirs(x)")
    db.close()
    with pytest.raises(PermanentError, match="not an agent's state"):
        open_state(str(tmp_path))


_FILLER = """
import resource, sys
from agent.model.change import FileKind, FileStat
from agent.model.outcome import RetryableError
from agent.state.db import open_state
state = open_state(sys.argv[1])
stat = FileStat(FileKind.FILE, 1, 2, 3, 4, False)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
done = 0
try:
    while done < 1_000_000:
        state.ledger.record("m", "d", [(f"/{done}-{n}", stat, "", 1) for n in range(100)], 1.0)
        done += 100
except RetryableError as error:
    print(error)
assert state.ledger.count("m", "d") == done, done
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
state.ledger.record("m", "d", [("/last", stat, "", 1)], 2.0)
assert len(list(state.ledger.under("m", "d", "/"))) == done + 1
"""


def test_a_full_disk_passes(tmp_path: Path) -> None:
    """Writing fails with an error that says so and may be tried again; nothing half-written stays."""
    done = subprocess.run(
        [sys.executable, "-c", _FILLER, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written or read now" in done.stdout


def test_many_threads_may_use_one_state(state: Opened) -> None:
    """Writers in several threads neither fail nor lose a row."""

    def work(number: int) -> None:
        for count in range(50):
            with state.transaction():
                state.events.append(float(count), KEY, "Normal", "InSync", str(number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.events.since(0)) == 200


# -- specs

_TEXT = st.text(
    st.characters(codec=None, exclude_categories=["Cs"]) | st.sampled_from("\udcff\udc80"), max_size=8
)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    int: st.integers(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    type(None): st.none(),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value which an annotation of the specs allows."""
    arms = get_args(hint)
    if get_origin(hint) is tuple:
        if arms[1] is Ellipsis:
            return st.lists(values_of(arms[0]), max_size=3).map(tuple)
        return st.tuples(*map(values_of, arms))
    if arms:
        return st.one_of(*map(values_of, arms))
    if is_dataclass(hint):
        return st.builds(hint, **{name: values_of(arm) for name, arm in get_type_hints(hint).items()})
    return _PLAIN[hint] if hint in _PLAIN else st.sampled_from(hint)


_SPECS = st.one_of(*map(values_of, get_args(model.Spec)))


@given(_SPECS)
def test_every_spec_survives_json(spec: model.Spec) -> None:
    """What is written down is read back equal, with the same types and digest."""
    again = from_json(kind_of(spec), to_json(spec))
    assert again == spec
    assert repr(again) == repr(spec)
    assert model.digest(again) == model.digest(spec)


@given(_SPECS)
def test_a_spec_has_the_digest_that_earlier_versions_wrote_down(spec: model.Spec) -> None:
    """Or a new version would take every mapping for a changed one."""
    text = json.dumps(dataclasses.asdict(spec), sort_keys=True, default=str)
    assert model.digest(spec) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_digest_of_what_was_applied_is_that_of_its_row(state: Opened) -> None:
    """Also inside a transaction, and after one that was taken back."""
    key, first, second = (
        Key(Kind.DESTINATION, "d"),
        model.DestinationSpec("d", "a"),
        model.DestinationSpec("d", "b"),
    )
    assert state.specs.digest(key) is None
    state.specs.put(first, "r1", 1.0)
    with pytest.raises(ZeroDivisionError), state.transaction():
        state.specs.put(second, "r2", 2.0)
        assert state.specs.digest(key) == model.digest(second)
        raise ZeroDivisionError
    assert state.specs.digest(key) == model.digest(first)
    state.specs.put(second, "r2", 2.0)
    assert state.specs.digest(key) == model.digest(second)
    state.specs.remove(key)
    assert state.specs.digest(key) is None


def test_what_nobody_wants_any_more_is_told_again_after_each_change(state: Opened) -> None:
    """Also inside a transaction, and after one that was taken back."""
    gone, key = Key(Kind.DESTINATION, "gone"), Key(Kind.DESTINATION, "d")
    wanted, less = frozenset({key}), frozenset[Key]()
    state.specs.put(model.DestinationSpec("d", "a"), "r1", 1.0)
    assert state.specs.other_than(wanted) == []
    with pytest.raises(ZeroDivisionError), state.transaction():
        state.specs.put(model.DestinationSpec("gone", "a"), "r1", 1.0)
        assert state.specs.other_than(wanted) == [gone]
        raise ZeroDivisionError
    assert state.specs.other_than(wanted) == []
    assert state.specs.other_than(less) == [key]
    state.specs.put(model.DestinationSpec("gone", "a"), "r1", 1.0)
    assert state.specs.other_than(wanted) == [gone]
    state.specs.remove(gone)
    assert state.specs.other_than(wanted) == []


def test_a_spec_of_another_version_is_read(state: Opened) -> None:
    """Missing fields take their defaults, unknown ones are left out."""
    spec = from_json(Kind.DESTINATION, '{"name": "a", "address": "b", "later": {"x": 1}}')
    assert spec == model.DestinationSpec("a", "b")
    with pytest.raises(ValueError, match="not a Destination spec"):
        from_json(Kind.DESTINATION, '{"name": ["a"], "address": "b"}')


def test_the_last_applied_spec_is_kept_until_removed(state: Opened) -> None:
    """An object that left the specs can still be looked up."""
    spec = model.DestinationSpec("archive", "127.0.0.1", on_remove=model.OnRemove.DELETE)
    key = Key(Kind.DESTINATION, "archive")
    state.specs.put(spec, "rev1", now=1.0)
    state.specs.put(spec, "rev2", now=2.0)
    found = state.specs.get(key)
    assert found is not None
    assert (found.spec, found.revision, found.digest) == (spec, "rev2", model.digest(spec))
    assert state.specs.keys() == (key,)
    state.specs.remove(key)
    assert state.specs.all() == ()


# -- the rest


def test_an_approval_is_for_one_set(state: Opened) -> None:
    """Approving one digest approves no other, and of no other object."""
    state.approvals.add(KEY, "d1", "anna", now=1.0)
    assert state.approvals.approved(KEY) == {"d1"}
    assert state.approvals.approved(Key(Kind.MAPPING, "other")) == frozenset()
    state.approvals.remove(KEY, "d1")
    assert state.approvals.approved(KEY) == frozenset()


def test_an_override_ends_by_itself(state: Opened) -> None:
    """After its time it no longer counts; without one it lasts until cleared."""
    state.overrides.set(KEY, "maintenance", "anna", now=10.0, until=20.0)
    held = state.overrides.get(KEY, now=19.0)
    assert held is not None and held.reason == "maintenance"
    assert state.overrides.get(KEY, now=20.0) is None
    state.overrides.set(KEY, "maintenance", "anna", now=30.0)
    assert [o.key for o in state.overrides.all(now=1e12)] == [KEY]
    assert state.overrides.clear(KEY) and not state.overrides.clear(KEY)


def test_a_root_is_remembered_with_64_bit_numbers(state: Opened) -> None:
    """Device and inode are kept whole; roots of other mappings are others."""
    state.roots.remember("dailies", "/mnt/\udcff", 2**64 - 1, 2**63)
    assert state.roots.known("dailies", "/mnt/\udcff") == (2**64 - 1, 2**63)
    assert state.roots.known("stills", "/mnt/\udcff") is None
    state.roots.forget("dailies")
    assert state.roots.known("dailies", "/mnt/\udcff") is None


def test_status_is_kept_per_object_and_for_the_agent(state: Opened) -> None:
    """The two do not mix."""
    state.status.put(KEY, {"ready": True, "path": "\udcff"}, now=1.0)
    state.status.put_agent({"revision": "r"}, now=1.0)
    assert state.status.all() == {KEY: {"ready": True, "path": "\udcff"}}
    assert state.status.agent() == {"revision": "r"}
    state.status.remove(KEY)
    assert state.status.get(KEY) is None


def test_events_are_numbered_and_bounded(tmp_path: Path) -> None:
    """Old rows go, numbers go on, and `since` pages through the rest."""
    state = open_state(str(tmp_path))
    with state.transaction():
        for number in range(102_000):
            state.events.append(float(number), None if number % 2 else KEY, "Normal", "InSync", "\udcff")
    first = state.events.since(0, limit=1)[0]
    assert first.seq == 2_001
    assert state.events.since(101_999)[0].seq == 102_000
    assert [event.seq for event in state.events.last(2, KEY)] == [101_997, 101_999]
    assert state.events.append(1.0, KEY, "Warning", "Retrying", "m", "r", {"n": 1}) == 102_001
    assert state.events.since(102_000)[0].fields == {"n": 1}
    state.close()
