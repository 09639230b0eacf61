"""A running agent and its policy file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agents import World, fill, world
from servers import eventually


def write(w: World, sources: list[Path], more: dict[str, Any] | None = None) -> Path:
    spec = {
        "sources": [str(path) for path in sources],
        "addresses": [{"network": "127.0.0.0/8"}],
        "listen": [{"host": "127.0.0.1"}],
        "receiveRoots": ["received"],
        **(more or {}),
    }
    new, path = w.directory / "policy.new", w.directory / "policy.yaml"
    new.write_text(json.dumps({"apiVersion": "lanesync/v1", "kind": "Policy", "spec": spec}))
    os.chmod(new, 0o600)
    new.rename(path)
    return path


def test_a_running_agent_follows_its_policy_and_survives_a_broken_one(tmp_path: Path) -> None:
    """Broken: what was in force stays and goes on, and the status says why. Mended, and narrower: what is
    not allowed any more stops, and what was delivered stays."""
    with world(tmp_path) as w:
        w.options = ("--policy", str(write(w, [w.source])))
        fill(w.source, 10)
        w.write(w.mapping(more="onRemove: delete"))
        w.start()
        w.in_sync()
        write(w, [w.source], {"typo": 1})
        why = eventually(lambda: w.status()["agent"]["policyError"], what="the broken policy is told")
        assert "unknown key `typo`" in why
        assert w.status()["state"] == "blocked"
        (w.source / "more").write_text("x")
        w.eventually_same()
        write(w, [tmp_path / "elsewhere"])
        eventually(
            lambda: (
                {c["reason"] for c in w.object("Mapping", "dailies")["conditions"]} >= {"RefusedByPolicy"}
            ),
            what="the mapping is refused",
        )
        assert w.status()["agent"]["policyError"] is None
        (w.source / "late").write_text("x")
        before = len(list(w.target().rglob("*")))
        assert w.call("reconcile").returncode == 0
        write(w, [w.source])
        eventually((w.target() / "late").exists, what="it is permitted again")
        w.in_sync()
        assert len(list(w.target().rglob("*"))) == before + 1
        assert w.same()


def test_an_agent_does_not_start_with_a_policy_that_cannot_be_used(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.write(w.mapping())
        policy = write(w, [w.source], {"typo": 1})
        for verb in (("run", "--once"), ("plan",), ("apply", "--yes")):
            done = w.call(verb[0], str(w.specs), *verb[1:], "--policy", str(policy))
            assert (done.returncode, "unknown key `typo`" in done.stdout + done.stderr) == (5, True), done
        assert not w.received.exists()
