"""Completion in real shells, of verbs, options, values and the names of objects that an agent has applied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.model.spec import MappingSpec, ServerSpec
from agent.state.db import open_state
from agent.state.names import applied_names

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


class Shell:
    """A directory with a state of two mappings and a server, and `lanesync` on the PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state" / "lanesync"
        self.state.mkdir(parents=True, mode=0o700)
        state = open_state(str(self.state))
        for spec in (
            MappingSpec("dailies", ("archive",), ()),
            MappingSpec("d_ilies", ("archive",), ()),
            ServerSpec("studio"),
        ):
            state.specs.put(spec, "r", 1.0)
        state.close()
        tools = directory / "tools"
        tools.mkdir()
        (tools / "lanesync").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agent.cli.main "$@"\n')
        (tools / "lanesync").chmod(0o755)
        self.environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(directory),
            "XDG_STATE_HOME": str(directory / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def bash(self, *words: str) -> list[str]:
        """What bash offers for the last word."""
        quoted = " ".join(f"'{word}'" for word in ("lanesync", *words))
        return self.run(
            "bash",
            "--norc",
            "-c",
            f'eval "$(lanesync completion bash)"; complete -p lanesync > /dev/null; COMP_WORDS=({quoted}); '
            f'COMP_CWORD={len(words)}; _lanesync_completion lanesync; printf "%s\\n" "${{COMPREPLY[@]}}"',
        ).split()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_bash_completes_verbs_options_and_values(shell: Shell) -> None:
    """Those that begin as typed."""
    assert shell.bash("re") == ["reconcile", "retry", "resume", "relay"]
    assert "--timeout" in shell.bash("status", "--")
    assert shell.bash("status", "--output", "") == ["text", "json"]
    assert shell.bash("schema", "m") == ["Mapping"]


def test_bash_completes_names_of_objects(shell: Shell) -> None:
    """Of the state directory, or the one that stands before; no character of a name is a wildcard."""
    assert shell.bash("describe", "Mapping/") == ["Mapping/d_ilies", "Mapping/dailies"]
    assert shell.bash("suspend", "mapping/d_") == ["Mapping/d_ilies"]
    assert shell.bash("status", "S") == ["Server/studio"]
    assert shell.bash("verify", "da") == ["dailies"]
    assert shell.bash("describe", "--state-dir", "/nowhere", "Ma") == []


@pytest.mark.parametrize("shell_name", ["zsh", "fish"])
def test_other_shells_take_what_is_printed(shell: Shell, shell_name: str) -> None:
    """They read it without an error."""
    text = shell.run("lanesync", "completion", shell_name)
    assert "_LANESYNC_COMPLETE" in text
    if shutil.which(shell_name) is None:
        pytest.skip(f"{shell_name} is not installed")
    file = shell.directory / "completion"
    file.write_text(text)
    shell.run(shell_name, "-n", str(file))


def test_names_need_no_state(tmp_path: Path) -> None:
    """Nothing is told, and nothing is made, where there is none or it is no database."""
    assert applied_names(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "agent.db").write_text("rubbish")
    assert applied_names(str(tmp_path)) == []


@pytest.mark.parametrize(
    "verb", ["status", "describe", "events", "history", "explain", "suspend", "token", "get"]
)
def test_a_verb_that_asks_loads_no_more_than_it_needs(verb: str) -> None:
    """Neither the HTTP library nor the agent is imported before the agent is asked: Tab answers at once."""
    heavy = (
        "requests",
        "rich",
        "jsonschema",
        "starlette",
        "uvicorn",
        "agent.reconcile",
        "agent.specs",
        "agent.model.plan",
    )
    code = f"import sys, agent.cli.main, agent.cli.{verb}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
