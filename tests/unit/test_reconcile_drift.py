"""What a destination has already, and what somebody does there: adopted, told, corrected, left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import DESTINATION, MAPPING, Bench

from agent.model.condition import ConditionType
from agent.model.known import Origin
from agent.model.observed import FileOutcome, FileResult
from agent.model.spec import (
    DesiredState,
    Drift,
    DriftPolicy,
    EngineKind,
    OnRemove,
    Overwrite,
    PathMapping,
    ServerSpec,
    Verify,
    VerifyMode,
)

HOUR = 3600.0


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.agent.context.state.close()


def put(b: Bench, name: str, text: str = "x", at: float = 900_000.0) -> None:
    path = b.source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def place(b: Bench) -> dict[str, FileResult]:
    """The destination's tree itself, for somebody to change."""
    return b.engine._trees["receiver", 1]


def there(name: str, text: str = "x", at: float = 900_000.0, digest: str = "") -> FileResult:
    return FileResult(name, FileOutcome.DELIVERED, len(text), int(at * 1e9), 0, digest)


def sent(b: Bench) -> int:
    return sum(tally.files for tally in b.agent.context.delivered.all().values())


def drifted(b: Bench) -> str:
    found = b.status().condition(ConditionType.DRIFTED)
    return "" if found is None else found.message


def wait_for_a_look(b: Bench, seconds: float = HOUR * 1.2) -> None:
    b.pass_time(seconds)
    b.converge()


def watched(b: Bench, policy: DriftPolicy, **fields: object) -> None:
    b.change(drift=Drift(policy), **fields)


def test_what_is_there_already_is_adopted_and_not_sent(b: Bench) -> None:
    """A lost ledger sends nothing that is like the source; the rest as always."""
    put(b, "same"), put(b, "dir/same"), put(b, "longer", "xx"), put(b, "older"), put(b, "missing")
    b.engine._trees["receiver", 1] = {
        "/same": there("/same"),
        "/dir/same": there("/dir/same"),
        "/longer": there("/longer"),
        "/older": there("/older", at=800_000.0),
        "/foreign": there("/foreign"),
    }
    b.converge()
    assert sent(b) == 3
    rows = {row.path: row for row in b.agent.context.state.ordered.rows("m", "d", "/")}
    assert {p for p, row in rows.items() if row.origin is Origin.ADOPTED} == {"/same", "/dir/same"}
    assert {p for p, row in rows.items() if row.digest} == set(), "equal times and sizes prove no content"
    events = [e for e in b.agent.context.state.events.last() if e.reason == "Adopted"]
    assert "adopted 2 files" in events[0].message
    assert "/foreign" in b.at_destination


def test_a_file_of_just_now_is_sent_rather_than_adopted(b: Bench) -> None:
    """It could change once more without showing."""
    put(b, "young", at=b.clock.now - 0.5)
    b.engine._trees["receiver", 1] = {"/young": there("/young", at=b.clock.now - 0.5)}
    b.pass_time(1.0)
    b.converge()
    assert sent(b) == 1


def test_a_source_that_comes_later_is_adopted_then(tmp_path: Path) -> None:
    """Its disk may be mounted after the agent has started, over another start of it, too; the other entry of
    the mapping does not wait."""
    b = Bench(tmp_path)
    put(b, "here/a")
    late = tmp_path / "late"
    late.mkdir()
    paths = (PathMapping("/here", str(b.source / "here")), PathMapping("/late", str(late)))
    b.change(paths=paths)
    b.engine._trees["receiver", 1] = {"/here/a": there("/here/a"), "/late/b": there("/late/b")}
    b.pass_time(1.0)
    b.crash()
    b.open()
    b.pass_time(1.0)
    assert b.agent.context.state.ledger.count("m", "d") == 1
    (late / "b").write_text("x")
    os.utime(late / "b", (900_000.0, 900_000.0))
    b.look()
    b.converge()
    assert sent(b) == 0
    assert b.agent.context.state.ledger.count("m", "d") == 2
    assert b.agent.context.state.looks.adopted("m", "d")


def test_nothing_is_sent_before_the_destination_has_told(tmp_path: Path) -> None:
    """However long it takes; and what goes on is told."""
    b = Bench(tmp_path)
    b.engine.slow_listings = True
    b.engine.absent.add(("receiver", 1))
    put(b, "a")
    b.pass_time(10.0)
    assert b.transfers() == []
    assert "looks at what d has already" in b.status().conditions[0].message
    b.engine.absent.clear()
    b.pass_time(1.0)
    b.converge()
    assert sent(b) == 1


def test_without_preserved_times_only_contents_are_adopted(b: Bench) -> None:
    """Sizes prove nothing; with `verify.mode: checksum` the contents do."""
    import xxhash

    put(b, "same", "content"), put(b, "other", "content")
    right, wrong = xxhash.xxh3_64(b"content").hexdigest(), xxhash.xxh3_64(b"CONTENT").hexdigest()
    b.change(preserve_mtime=False, verify=Verify(mode=VerifyMode.CHECKSUM))
    b.engine._trees["receiver", 1] = {
        "/same": there("/same", "content", at=1.0, digest=right),
        "/other": there("/other", "content", at=1.0, digest=wrong),
    }
    b.converge()
    assert sent(b) == 1
    assert b.agent.context.state.ledger.digest("m", "d", "/same") == right


def test_what_somebody_changed_is_told_and_left_alone_with_warn(b: Bench) -> None:
    """Missing, changed and foreign files are counted and named, and nothing is touched."""
    put(b, "a"), put(b, "gone"), put(b, "dir/b")
    watched(b, DriftPolicy.WARN)
    b.converge()
    place(b)["/a"] = there("/a", "longer")
    del place(b)["/gone"]
    place(b)["/foreign"] = there("/foreign")
    wait_for_a_look(b)
    assert b.status().ready
    assert "1 file missing, 1 changed at d" in drifted(b)
    assert "/a (6 bytes instead of 1)" in drifted(b)
    assert b.status().detail["deliveries"][0]["drift"]["foreign"] == 1
    assert sent(b) == 3
    assert place(b)["/a"].size == 6
    place(b)["/a"], place(b)["/gone"] = there("/a"), there("/gone")
    wait_for_a_look(b)
    assert drifted(b) == "", "gone when it has been put right"


def test_with_correct_it_is_sent_again(b: Bench) -> None:
    """What is missing or changed; what others put there stays."""
    put(b, "a"), put(b, "gone"), put(b, "kept")
    watched(b, DriftPolicy.CORRECT)
    b.converge()
    place(b)["/a"] = there("/a", "longer")
    del place(b)["/gone"]
    place(b)["/foreign"] = there("/foreign")
    wait_for_a_look(b)
    assert (place(b)["/a"].size, "/gone" in place(b), "/foreign" in place(b)) == (1, True, True)
    assert sent(b) == 5
    assert drifted(b) == ""
    told = [e.message for e in b.agent.context.state.events.last() if e.reason == "ChangedAtDestination"]
    assert "2 files sent again" in told[0]


def test_with_ignore_nobody_looks(b: Bench) -> None:
    put(b, "a")
    watched(b, DriftPolicy.IGNORE)
    b.converge()
    listed = len(b.engine.listings)
    place(b).clear()
    wait_for_a_look(b, 10 * HOUR)
    assert len(b.engine.listings) == listed
    assert drifted(b) == ""


def test_nobody_looks_while_it_is_suspended(b: Bench) -> None:
    """Nor does anything get corrected then."""
    put(b, "a")
    watched(b, DriftPolicy.CORRECT)
    b.converge()
    b.change(suspend=True)
    del place(b)["/a"]
    listed = len(b.engine.listings)
    b.pass_time(5 * HOUR)
    assert len(b.engine.listings) == listed
    b.change(suspend=False)
    wait_for_a_look(b)
    assert "/a" in place(b)


def test_corrections_that_are_undone_again_become_rare_and_are_told(b: Bench) -> None:
    """Somebody fights with us: each round is told, and the time between corrections grows."""
    put(b, "a")
    watched(b, DriftPolicy.CORRECT)
    b.converge()
    corrected = []
    for _ in range(40):
        if place(b)["/a"].size == 1:
            corrected.append(b.clock.now)
            place(b)["/a"] = there("/a", "theirs")
        wait_for_a_look(b)
    assert 3 <= len(corrected) < 12
    assert corrected[-1] - corrected[-2] > 2 * (corrected[2] - corrected[1])
    assert "in a row" in drifted(b)


def test_another_change_is_corrected_at_once_meanwhile(b: Bench) -> None:
    """Only what is fought over waits."""
    put(b, "a"), put(b, "calm")
    watched(b, DriftPolicy.CORRECT)
    b.converge()
    for _ in range(20):
        place(b)["/a"] = there("/a", "theirs")
        wait_for_a_look(b)
        if place(b)["/a"].size == 6:
            break
    else:
        raise AssertionError("never held back")
    del place(b)["/calm"]
    wait_for_a_look(b)
    assert "/calm" in place(b)


@pytest.mark.parametrize("overwrite", [Overwrite.NEVER, Overwrite.NEWER])
def test_what_the_overwrite_mode_keeps_is_told_and_not_sent_again_and_again(
    b: Bench, overwrite: Overwrite
) -> None:
    """Sending would be in vain; what is missing is still sent."""
    put(b, "a"), put(b, "gone")
    watched(b, DriftPolicy.CORRECT, overwrite=overwrite)
    b.converge()
    place(b)["/a"] = there("/a", "theirs", at=950_000.0)
    del place(b)["/gone"]
    wait_for_a_look(b)
    wait_for_a_look(b)
    assert sent(b) == 3
    assert f"overwrite: {overwrite}" in drifted(b)


def test_what_was_there_first_and_kept_is_no_drift_and_never_deleted(b: Bench) -> None:
    """`never` leaves the files of others: they are as they should be, and prune does not take them."""
    put(b, "theirs", "mine"), put(b, "mine")
    b.engine._trees["receiver", 1] = {"/theirs": there("/theirs", "somebody else's")}
    watched(b, DriftPolicy.CORRECT, overwrite=Overwrite.NEVER, prune=True)
    b.converge()
    wait_for_a_look(b)
    assert drifted(b) == ""
    assert sent(b) == 2, "the one that is kept counts, too"
    (b.source / "theirs").unlink(), (b.source / "mine").unlink()
    put(b, "another")
    b.look()
    b.converge()
    assert set(place(b)) == {"/theirs", "/another"}


def test_what_the_source_no_longer_has_is_not_missed(b: Bench) -> None:
    """Nobody wants it there."""
    put(b, "a"), put(b, "left")
    watched(b, DriftPolicy.WARN)
    b.converge()
    (b.source / "left").unlink()
    b.look()
    del place(b)["/left"]
    wait_for_a_look(b)
    assert drifted(b) == ""
    assert b.agent.context.state.ledger.count("m", "d") == 1


def test_drift_is_told_across_a_restart(b: Bench) -> None:
    """Until it is gone."""
    put(b, "a")
    watched(b, DriftPolicy.WARN)
    b.converge()
    del place(b)["/a"]
    wait_for_a_look(b)
    b.crash()
    b.open()
    b.converge()
    assert "1 file missing" in drifted(b)


def test_a_destination_that_cannot_be_listed_is_a_condition_and_no_obstacle(b: Bench) -> None:
    """Deliveries go on."""
    put(b, "a")
    watched(b, DriftPolicy.WARN)
    b.converge()

    def fail(*_: object, **__: object) -> str:
        from agent.model.outcome import RetryableError

        raise RetryableError("no list today")

    b.engine.start_inventory = fail  # type: ignore[method-assign]
    b.pass_time(2 * HOUR)
    put(b, "b")
    b.look()
    b.converge()
    assert "NotListed" in b.reasons()
    assert "/b" in place(b)


def test_damage_that_names_sizes_and_times_do_not_show_is_found_by_its_digest(b: Bench) -> None:
    """And stays told until a verification finds it gone, whatever looks at names and times say."""
    put(b, "a", "good"), put(b, "b", "good")
    b.change(verify=Verify(interval=HOUR * 24, mode=VerifyMode.CHECKSUM))
    b.converge()
    import xxhash

    good, bad = (xxhash.xxh3_64(text).hexdigest() for text in (b"good", b"bad!"))
    place(b)["/a"] = replace(place(b)["/a"], digest=bad)
    place(b)["/b"] = replace(place(b)["/b"], digest=good)
    wait_for_a_look(b, 25 * HOUR)
    assert "CorruptedAtDestination" in b.reasons()
    assert "1 file damaged at d: /a" in drifted(b)
    assert b.agent.context.state.ledger.digest("m", "d", "/b") == good, "learned by verifying"
    assert b.status().detail["deliveries"][0]["lastVerified"] is not None
    wait_for_a_look(b)
    assert "1 file damaged" in drifted(b)
    watched(b, DriftPolicy.CORRECT)
    wait_for_a_look(b, 25 * HOUR)
    assert drifted(b) == ""
    assert sent(b) == 3


def test_what_cannot_be_verified_is_counted_and_named(b: Bench) -> None:
    """A destination without checksums is not silently believed."""
    put(b, "a")
    b.converge()
    b.pass_time(1.0)
    service = b.agent.mappings.oversight
    request = service.requests.ask([("m", "d")], checksum=True)
    b.look()
    found = service.requests.document(request)
    assert found is not None and found["over"]
    assert found["deliveries"][0]["found"]["unverified"] == 1
    assert found["deliveries"][0]["found"]["paths"][0]["path"] == "/a"


@pytest.mark.parametrize("on_remove", [OnRemove.DELETE, OnRemove.ORPHAN])
def test_a_renamed_mapping_keeps_its_files_whatever_on_remove_says(b: Bench, on_remove: OnRemove) -> None:
    """Its heir has the rows, digests and all; nothing is sent or deleted."""
    put(b, "a"), put(b, "dir/b")
    b.change(on_remove=on_remove, prune=True)
    b.converge()
    before = sent(b)
    b.agent.context.state.ledger.verified("m", "d", {"/a": "77"})
    new = DesiredState(
        "r2",
        servers={"s": ServerSpec("s", EngineKind.JETSTREAM, "sender", 1)},
        destinations={"d": b.destination},
        mappings={"renamed": replace(b.mapping, name="renamed")},
    )
    b.agent._take(b.agent.context.desired, new)
    for _ in range(5):
        b.settle()
        b.pass_time(1.0)
    state = b.agent.context.state
    assert set(place(b)) == {"/a", "/dir/b"}
    assert sent(b) == before
    assert state.ledger.count("renamed", "d") == 2
    assert state.ledger.digest("renamed", "d", "/a") == "77"
    assert state.specs.get(MAPPING) is None
    assert DESTINATION.name == "d"
