"""Acceptance: 40 % are deleted at once. The deletions are held, the rest goes on, one command approves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, fill, tree, world
from servers import eventually

from agent.cli.problems import BLOCKED

pytestmark = pytest.mark.e2e


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def held(w: World) -> str:
    conditions = w.object("Mapping", "dailies").get("conditions", [])
    return "".join(c["message"] for c in conditions if c["reason"] == "DeletionsHeld")


def test_deleting_forty_percent_at_the_source_is_held_until_one_approval(w: World) -> None:
    """What is new and changed meanwhile arrives; the message holds the command that lets them through."""
    fill(w.source, 100)
    w.write(w.mapping(more="prune: true"))
    w.start()
    w.eventually_same()
    w.in_sync()
    before = tree(w.target())
    for path in sorted(w.source.rglob("*.bin"))[:40]:
        path.unlink()
    message = eventually(lambda: held(w), what="they are held")
    assert "40" in message and "lanesync approve Mapping/dailies" in message
    (w.source / "new").write_text("new")
    (w.source / "d001" / "f00099.bin").write_text("changed")
    target = w.target()
    eventually(lambda: (target / "new").exists(), what="what is new goes on")
    eventually(lambda: (target / "d001/f00099.bin").read_bytes() == b"changed", what="and what is changed")
    assert before.keys() <= tree(target).keys()
    assert w.call("status").returncode == BLOCKED
    assert w.call("reconcile", "Mapping/dailies", "--wait").returncode in (0, BLOCKED)
    assert before.keys() <= tree(target).keys()

    approved = w.call("approve", "Mapping/dailies")
    assert approved.returncode == 0, approved.stderr
    w.eventually_same()
    w.in_sync()
    assert held(w) == ""


def test_removing_most_objects_from_the_specs_is_held_until_one_approval(w: World) -> None:
    """Also when each of them says `onRemove: delete`; what is left in the specs goes on."""
    names = [f"job{number}" for number in range(5)]
    mappings = []
    for name in names:
        (w.directory / name).mkdir()
        fill(w.directory / name, 10)
        mappings.append(w.mapping(name, f"/{name}", "onRemove: delete", source=str(w.directory / name)))
    w.write(*mappings)
    w.start()
    w.in_sync()
    w.write(mappings[0])
    eventually(lambda: "approve revision" in w.call("status").stdout, what="the revision is held")
    (w.directory / "job0" / "new").write_text("new")
    eventually((w.target("job0") / "new").exists, what="the others go on")
    assert [tree(w.target(name)) for name in names] == [tree(w.directory / name) for name in names]
    approved = w.call("approve", "revision")
    assert approved.returncode == 0, approved.stderr
    eventually(lambda: [n for n in names if w.target(n).exists()] == ["job0"], what="now they go")
    w.in_sync()
