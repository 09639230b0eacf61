"""Hooks of a running agent, with real programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agents import World, fill, world
from servers import eventually

HOOKS = "hooks: {onDelivered: {command: tell}}"


def prepare(w: World, script: str) -> None:
    """A policy that allows what the world has, and the hook `tell`."""
    program = w.directory / "tell"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    spec = {
        "sources": [str(w.source)],
        "addresses": [{"network": "127.0.0.0/8"}],
        "listen": [{"network": "127.0.0.0/8"}],
        "receiveRoots": ["received"],
        "hooks": {"tell": {"argv": [str(program)], "timeout": "5m"}},
    }
    policy = w.directory / "policy.yaml"
    policy.write_text(json.dumps({"apiVersion": "lanesync/v1", "kind": "Policy", "spec": spec}))
    os.chmod(policy, 0o600)
    w.options = ("--policy", str(policy))


def told(w: World) -> list[dict[str, Any]]:
    path = w.directory / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_single_run_tells_what_it_delivered_before_it_ends(tmp_path: Path) -> None:
    """The whole delivery in one call; a second run has nothing to tell."""
    with world(tmp_path) as w:
        prepare(
            w, f"sleep 1; cat > {tmp_path}/new; echo >> {tmp_path}/new; cat {tmp_path}/new >> {tmp_path}/told"
        )
        fill(w.source, 20)
        w.write(w.mapping(more=HOOKS))
        for _ in range(2):
            done = w.call("run", str(w.specs), "--once", "--timeout", "100s", *w.options)
            assert done.returncode == 0, done.stdout + done.stderr
        assert sum(call["files"] for call in told(w)) == 20
        assert {path for call in told(w) for path in call["paths"]} >= {"/paris/d000/f00000.bin"}


def test_a_call_that_died_with_the_agent_is_made_again_by_the_next(tmp_path: Path) -> None:
    """While the program of the dead agent lives, none runs beside it."""
    with world(tmp_path) as w:
        hold = tmp_path / "hold"
        hold.touch()
        prepare(
            w,
            f"cat > {tmp_path}/input.$$; echo $$ >> {tmp_path}/started\n"
            f"while [ -e {hold} ]; do sleep 0.1; done\n"
            f"cat {tmp_path}/input.$$ >> {tmp_path}/told; echo >> {tmp_path}/told",
        )
        (w.source / "file").write_text("1")
        w.write(w.mapping(more=HOOKS))
        w.start()
        started = tmp_path / "started"
        eventually(started.exists, what="the hook runs")
        w.kill()
        w.start()
        eventually(
            lambda: (
                "HookFailed" in {c["reason"] for c in w.object("Mapping", "dailies").get("conditions", [])}
            ),
            what="the earlier call still runs",
        )
        assert len(started.read_text().split()) == 1
        w.in_sync()  # nothing waits for it
        hold.unlink()
        eventually(lambda: len(told(w)) == 2, what="called again")
        assert [(call["call"], call["paths"]) for call in told(w)] == [(1, ["/paris/file"])] * 2
