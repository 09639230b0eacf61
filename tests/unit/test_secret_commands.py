"""Secrets that a command of the policy prints: bounded, clean, and told by no message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from servers import eventually

from agent.model.outcome import PermanentError
from agent.model.spec import SecretRef, SecretSource
from agent.model.units import parse_duration
from agent.specs.commands import CommandError
from agent.specs.policy import Command, Policy
from agent.specs.secrets import MAX_SECRET, resolve


def ref(*argv: str) -> SecretRef:
    return SecretRef(SecretSource.COMMAND, argv[0], argv)


def allowing(*argv: str, timeout: str = "5s", environment: tuple[str, ...] = ()) -> Policy:
    return Policy("p", commands=(Command(argv, parse_duration(timeout), environment),))


def test_a_command_prints_the_secret() -> None:
    """One newline at the end is not part of it; no shell looks at the arguments."""
    argv = ("/bin/echo", "$HOME; `id`")
    assert resolve(ref(*argv), os.environ, None, allowing(*argv)) == "$HOME; `id`"


def test_only_what_the_policy_lists_is_run(tmp_path: Path) -> None:
    """Another argument is another command."""
    argv = ("/usr/bin/touch", str(tmp_path / "made"))
    for policy in (None, allowing("/usr/bin/touch"), allowing(*argv, "more")):
        with pytest.raises(PermanentError, match="no policy allows"):
            resolve(ref(*argv), os.environ, None, policy)
    assert not (tmp_path / "made").exists()


def test_a_command_sees_a_clean_environment() -> None:
    """What the agent holds in its environment is not handed on, but for what the policy names."""
    environ = {"HOME": "/h", "OTHER_SECRET": "hunter2", "GNUPGHOME": "/g", "PATH": "/evil"}
    seen = resolve(ref("/usr/bin/env"), environ, None, allowing("/usr/bin/env", environment=("GNUPGHOME",)))
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert names == {"PATH", "HOME", "GNUPGHOME"}
    assert "/evil" not in seen


def test_a_command_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    """The time limit is for the whole process group."""
    argv = ("/bin/sh", "-c", f"sleep 300 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(CommandError, match=r"did not end within 0\.5 s"):
        resolve(ref(*argv), os.environ, None, allowing(*argv, timeout="500ms"))
    pid = int((tmp_path / "pid").read_text())

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    eventually(gone, what="what it started has ended, too")


@pytest.mark.parametrize(
    ("script", "error", "expected"),
    [
        ("echo hunter2; echo hunter2 >&2; exit 3", CommandError, "ended with 3"),
        (f"head -c {MAX_SECRET + 2} /dev/zero", PermanentError, "more than 64 KiB"),
        ("true", PermanentError, "is empty"),
        ("printf 'hunter2\\377'", PermanentError, "not UTF-8"),
    ],
)
def test_a_command_that_fails_tells_nothing_that_it_printed(
    script: str, error: type[Exception], expected: str
) -> None:
    argv = ("/bin/sh", "-c", script)
    with pytest.raises(error, match=expected) as caught:
        resolve(ref(*argv), os.environ, None, allowing(*argv))
    message = str(caught.value)
    assert "hunter2" not in message
    assert caught.value.__cause__ is None


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="/no/such cannot be run: No such file"):
        resolve(ref("/no/such"), os.environ, None, allowing("/no/such"))
