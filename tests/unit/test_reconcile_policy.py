"""A policy that changes under a running agent: what is no longer allowed is held, nothing is removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import DESTINATION, Bench

from agent.model.observed import TransferState
from agent.model.spec import Key, Kind, OnRemove
from agent.specs.policy import Policy
from agent.specs.policy_rules import PathRule, parse_address

SERVER = Key(Kind.SERVER, "s")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def policy_of(bench: Bench) -> Policy:
    """Allows what the bench has."""
    return Policy(
        "policy.yaml",
        sources=(PathRule(str(bench.directory)),),
        addresses=(parse_address({"host": "sender"}), parse_address({"host": "receiver"})),
    )


def put_in_force(bench: Bench, policy: Policy) -> None:
    bench.agent.context.policy = policy
    bench.take()
    bench.settle()


def test_a_policy_that_allows_everything_in_use_changes_nothing(bench: Bench) -> None:
    (bench.source / "f").write_text("1")
    put_in_force(bench, policy_of(bench))
    bench.converge()


@pytest.mark.parametrize("what", ["sources", "addresses"])
def test_what_is_no_longer_allowed_is_held_and_not_removed(bench: Bench, what: str) -> None:
    """Running transfers are suspended, new files are not sent, `onRemove: delete` is not carried out."""
    bench.mapping = replace(bench.mapping, on_remove=OnRemove.DELETE)
    bench.take()
    (bench.source / "f").write_text("1")
    bench.settle()
    running = list(bench.engine.observe(bench.agent.context.state.agent_id).transfers)
    assert len(running) == 1
    allowed = policy_of(bench)
    narrower = (
        replace(allowed, sources=())
        if what == "sources"
        else replace(allowed, addresses=allowed.addresses[:1])
    )
    put_in_force(bench, narrower)
    assert "RefusedByPolicy" in bench.reasons()
    stalled = bench.status().stalled
    assert stalled is not None
    assert f"`spec.{what}` allows" in stalled.message
    if what == "addresses":
        assert bench.status(DESTINATION).stalled is not None
    (bench.source / "g").write_text("2")
    bench.look()
    bench.pass_time(5)
    [held] = bench.engine.observe(bench.agent.context.state.agent_id).transfers
    assert (held.id, held.state) == (running[0].id, TransferState.SUSPENDED)
    put_in_force(bench, allowed)
    bench.converge()


def test_a_source_whose_link_is_turned_out_is_not_looked_at(bench: Bench, tmp_path: Path) -> None:
    """Between two looks the path may have come to mean another place."""
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "f").write_text("1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("s")
    link = tmp_path / "allowed"
    link.mkdir()
    (link / "l").symlink_to(tmp_path / "good")
    bench.change(paths=(replace(bench.mapping.paths[0], source=str(link / "l")),))
    put_in_force(
        bench,
        replace(policy_of(bench), sources=(PathRule(str(link)), PathRule(str(tmp_path / "good")))),
    )
    (link / "l").unlink()
    (link / "l").symlink_to(tmp_path / "elsewhere")
    bench.look()
    bench.pass_time(1)
    assert "RefusedByPolicy" in bench.reasons()
    assert bench.agent.context.state.attempts.of("m") == ()


def test_a_server_that_is_no_longer_allowed_is_not_connected(bench: Bench) -> None:
    """No secret goes to it."""
    bench.settle()
    put_in_force(bench, replace(policy_of(bench), addresses=(parse_address({"host": "receiver"}),)))
    stalled = bench.status(SERVER).stalled
    assert stalled is not None
    assert str(stalled.reason) == "RefusedByPolicy"
    assert bench.agent.context.connected("s") is None
    assert bench.status(DESTINATION).ready is False


def test_links_within_a_source_are_followed_only_to_what_the_policy_allows(
    bench: Bench, tmp_path: Path
) -> None:
    """Files and directories, met by a scan or named by an event."""
    outside, other = tmp_path / "outside", tmp_path / "other"
    for directory in (outside, other, bench.source / "deep", bench.source / "only"):
        directory.mkdir()
        (directory / "f").write_text(directory.name)
    (bench.source / "only" / "f").unlink()
    (bench.source / "only" / "secret").symlink_to(outside / "f")
    (bench.source / "file").symlink_to(outside / "f")
    (bench.source / "deep" / "directory").symlink_to(outside)
    (bench.source / "allowed").symlink_to(other)
    (bench.source / "inside").symlink_to(bench.source / "deep" / "f")
    rules = (PathRule(str(bench.source)), PathRule(str(other)))
    put_in_force(bench, replace(policy_of(bench), sources=rules))
    bench.converge()
    bench.touch("file", "deep/directory", "deep/directory/f", "only/secret")
    bench.converge()
    assert set(bench.at_destination) == {"/deep/f", "/allowed/f", "/inside", "/only"}


def test_without_a_policy_links_lead_anywhere(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    (bench.source / "file").symlink_to(tmp_path / "outside")
    bench.converge()
    assert set(bench.at_destination) == {"/file"}
