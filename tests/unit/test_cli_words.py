"""The command line's words: help with an example for every verb, the nearest name for a wrong one, never a
traceback."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import pytest

from agent.cli import main
from agent.cli.main import VERBS
from agent.cli.plan import stale


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And what the list of verbs says of it is no longer than a line."""
    assert main.run([verb, "--help"]) == 0
    assert f"lanesync {verb}" in capsys.readouterr().out.replace("Usage: lanesync " + verb, "")
    assert len(VERBS[verb]) < 70


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["stauts"], 2, "Did you mean `status`?"),
        (["status", "--ouput", "json"], 2, "--output"),
        (["plan"], 2, "name the specs"),
        (["plan", "/does/not/exist"], 2, "does not exist"),
        (["validate", "--ref", "main", "."], 2, "--ref is for --git"),
        (["history", "Maping/x"], 1, "did you mean Mapping?"),
        (["describe", "dailies"], 1, "KIND/NAME"),
        (["events", "--since", "yesterday"], 2, "not a duration"),
        (["reconcile"], 1, "needs a running agent"),
        (["run", ".", "--history-age", "soon"], 2, "not a duration"),
        (["run", ".", "--history-size", "5"], 2, "not a size"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to write instead."""
    takes_state = arguments[0] not in ("stauts", "validate")
    state = ["--state-dir", str(_state(tmp_path))] if takes_state else []
    assert main.run([*arguments, *state]) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def _state(directory: Path) -> Path:
    """Of an agent that has run."""
    from agent.model.spec import ServerSpec
    from agent.state.db import open_state

    state = open_state(str(directory / "state"))
    state.specs.put(ServerSpec("s"), "r", 1.0)
    state.close()
    return directory / "state"


def test_a_defect_is_one_line_and_whole_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unexpected exception is code 1 and says how to see where."""

    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("oops")

    module = importlib.import_module("agent.cli.schema")
    monkeypatch.setattr(module, "command", click.Command("schema", callback=broken))
    monkeypatch.delenv("LANESYNC_TRACEBACK", raising=False)
    assert main.run(["schema"]) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError: oops" in error
    assert "Traceback" not in error
    monkeypatch.setenv("LANESYNC_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main.run(["schema"])


SAVED = {"revision": "r1", "digest": "d1", "ledger": "l1", "source": "s1"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"ledger": "l2"}, ""),  # of something that this plan is not about
        ({"revision": "r2"}, "the specs (they were r1, they are r2)"),
        ({"digest": "d2", "source": "s2"}, "the source"),
        ({"digest": "d2", "ledger": "l2"}, "what has been delivered"),
        ({"digest": "d2", "ledger": "l2", "source": "s2"}, "what has been delivered and the source"),
        ({"digest": "d2"}, "what the servers report"),
    ],
)
def test_what_made_a_plan_stale_is_named(changed: dict[str, str], words: str) -> None:
    """A plan that is still the plan is not stale, whatever else was delivered."""
    assert stale(SAVED, {**SAVED, **changed}) == words
