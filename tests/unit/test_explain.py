"""Everything about one path: whose it is, which rule left it out, what became of it, what is next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.reconcile_bench import Bench

from agent.model.spec import PathMapping, Ready, RetryPolicy, Symlinks, Trigger
from agent.reconcile.service import AgentService


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.agent.context.state.close()


def explain(b: Bench, path: str | Path) -> dict[str, Any]:
    """What the only mapping has to say of it."""
    found = AgentService(b.agent).explain(str(path))
    (place,) = found["mappings"]
    assert isinstance(place, dict)
    return {**place, **place["deliveries"][0], "owned": found["owned"]}


def test_what_was_delivered_is_told_from_both_ends(b: Bench) -> None:
    """Size, digest, when, by which attempt; nothing is next."""
    b.change(destination_path="/paris")
    (b.source / "a").write_text("content")
    b.converge()
    for path in (b.source / "a", "/paris/a"):
        found = explain(b, path)
        assert found["owned"] is True
        assert found["destinationPath"] == "/paris/a"
        assert found["state"] == "delivered"
        assert found["delivered"]["size"] == 7
        assert found["delivered"]["attempt"] >= 1
        assert [line["action"] for line in found["history"]] == ["create"]


def test_a_path_that_nobody_has_says_where_mappings_look(b: Bench) -> None:
    """The sources and destination paths that there are."""
    b.change(destination_path="/paris")
    found = AgentService(b.agent).explain("/nowhere/x")
    assert found["owned"] is False
    assert str(b.source) in found["message"]
    assert "/paris" in found["message"]


def test_the_pattern_that_leaves_it_out_is_named(b: Bench) -> None:
    """Of the file, of a directory above it, of `include`; what is not there yet is judged alike."""
    entry = PathMapping("/", str(b.source), ("*.mov", "*.tmp"), ("*.tmp", "proxy/"))
    b.change(paths=(entry,))
    (b.source / "x.tmp").write_text("x")
    assert explain(b, b.source / "x.tmp")["whyNot"] == "left out by `*.tmp` in `exclude`"
    assert explain(b, b.source / "x.tmp")["inSource"]["size"] == 1, "it is there, though it does not count"
    found = explain(b, b.source / "proxy" / "deep" / "a.mov")
    assert found["whyNot"] == "its directory proxy/ is left out by `proxy/` in `exclude`"
    assert "no pattern of `include`" in explain(b, b.source / "notes.txt")["whyNot"]
    assert explain(b, b.source / "a.mov")["whyNot"] is None
    assert explain(b, b.source / "a.mov")["state"] == "absent"
    assert "always excluded" in explain(b, b.source / ".lanesync" / "x")["whyNot"]


def test_a_link_that_is_ignored_says_so(b: Bench) -> None:
    """And so does what lies behind it."""
    b.change(symlinks=Symlinks.IGNORE)
    (b.directory / "real").mkdir()
    (b.directory / "real" / "a").write_text("x")
    os.symlink(b.directory / "real", b.source / "link")
    assert "symbolic link" in explain(b, b.source / "link" / "a")["whyNot"]


def test_what_is_on_its_way_names_its_transfer(b: Bench) -> None:
    """As the server reports it now."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    (b.source / "a").write_text("x" * 3000)
    b.settle()
    b.pass_time(1.0)
    found = explain(b, "/a")
    assert found["state"] == "inFlight"
    assert found["inFlight"]["transfer"]["id"] == b.transfers()[0]
    assert found["inFlight"]["transfer"]["doneBytes"] > 0


def test_what_is_too_young_says_until_when(b: Bench) -> None:
    """`settle` from its last change."""
    b.change(trigger=Trigger(settle=60.0))
    b.converge()
    (b.source / "a").write_text("x")
    changed = b.clock.now - 10.0
    os.utime(b.source / "a", (changed, changed))
    found = explain(b, b.source / "a")
    assert found["settling"]["until"] == pytest.approx(changed + 60.0)


def test_what_failed_tells_the_error_and_the_next_try(b: Bench) -> None:
    """From the audit trail, and from the pause."""
    b.change(retry=RetryPolicy(100.0, 100.0))
    (b.source / "bad").write_text("x")
    b.settle()
    (b.source / "bad").unlink()
    (b.source / "bad").symlink_to("/dev/null")
    b.pass_time(0.1)
    (b.source / "bad").unlink()
    (b.source / "bad").write_text("x")
    found = explain(b, "/bad")
    assert found["lastError"]["error"] != ""
    assert found["state"] == "retrying"
    assert found["nextAt"] > b.clock.now


def test_what_is_gone_from_the_source_is_kept_deleted_or_held(b: Bench) -> None:
    """By `prune`; a held deletion names the command."""
    (b.source / "a").write_text("x"), (b.source / "b").write_text("x")
    b.converge()
    (b.source / "a").unlink()
    found = explain(b, "/a")
    assert found["state"] == "kept"
    assert "prune" in found["next"]
    b.change(prune=True, deletions=replace(b.mapping.deletions, max_count=0))
    b.settle()
    found = explain(b, "/a")
    assert found["state"] == "held"
    assert "lanesync approve Mapping/m" in found["next"]


def test_suspended_says_until_when(b: Bench) -> None:
    """What is not delivered waits for the end of it."""
    b.converge()
    service = AgentService(b.agent)
    service.suspend("Destination/d", "disk swap", "ada", 60.0)
    (b.source / "a").write_text("x")
    found = explain(b, "/a")
    assert found["state"] == "suspended"
    assert found["nextAt"] == b.clock.now + 60.0


def test_history_by_source_path_is_history_by_destination_path(b: Bench) -> None:
    """Whichever end somebody knows."""
    b.change(destination_path="/paris")
    (b.source / "a").write_text("x")
    b.converge()
    service = AgentService(b.agent)
    (here,) = service.history(path=str(b.source / "a"))["entries"]
    (there,) = service.history(path="/paris/a")["entries"]
    assert here == there
    assert here["path"] == "/paris/a"


def test_a_deletion_that_waits_for_its_grace_says_until_when(b: Bench) -> None:
    """From the tombstone."""
    b.change(prune=True, deletions=replace(b.mapping.deletions, grace=3600.0))
    (b.source / "a").write_text("x"), (b.source / "b").write_text("x")
    b.converge()
    (b.source / "a").unlink()
    b.touch("a")
    found = explain(b, "/a")
    assert found["state"] == "tombstone"
    assert found["nextAt"] == b.clock.now + 3600.0


def test_a_file_without_its_sentinel_says_what_is_missing(b: Bench) -> None:
    """And nothing of the sort once the sentinel is there."""
    b.change(trigger=Trigger(settle=0.0, ready=Ready.SENTINEL, sentinel=".done"))
    (b.source / "shot").mkdir()
    (b.source / "shot" / "a").write_text("x")
    assert "`.done`" in explain(b, "/shot/a")["settling"]["reason"]
    (b.source / "shot" / ".done").write_text("")
    assert explain(b, "/shot/a")["settling"] is None
