"""What may be asked of git, how the program is held, when to look again, and who may ask for that."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import eventually

from agent.api.hook import BURST, Allowance, check_secret, signed
from agent.model.outcome import PermanentError
from agent.reconcile.gitspecs import FIRST_RETRY, MAX_RETRY, pause
from agent.specs.git.options import GitOptions, GitUsageError
from agent.specs.git.program import Git, GitError, StoppedError

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"https://robot:{SECRET}@git.example.org/site.git",
        f"https://{SECRET}@git.example.org/site.git",
        f"https://git.example.org/site.git?private_token={SECRET}",
        f"https://git.example.org/site.git#{SECRET}",
        f"ssh://git:{SECRET}@git.example.org/site.git",
        f"ext::sh -c {SECRET}",
        f"http://git.example.org/{SECRET}",
        f"git://git.example.org/{SECRET}",
        f"ftp://git.example.org/{SECRET}",
        f"--upload-pack={SECRET}",
        f"-oProxyCommand={SECRET}:x",
        f"ssh://-oProxyCommand={SECRET}/x",
        f"relative/{SECRET}",
        f"https:///{SECRET}",
        f"https://[{SECRET}/x",
        f"/a\n{SECRET}",
        "",
    ],
)
def test_a_url_that_is_no_repository_or_holds_a_secret_is_refused_without_being_shown(url: str) -> None:
    """What is refused may be a secret: the message does not repeat it."""
    with pytest.raises(GitUsageError) as refused:
        GitOptions(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("https://git.example.org:8443/site.git", "https"),
        ("ssh://git@git.example.org:2222/site.git", "ssh"),
        ("git@git.example.org:team/site.git", "ssh"),
        ("git.example.org:site.git", "ssh"),
        ("file:///srv/site.git", "file"),
        ("/srv/site.git", "file"),
        ("http://127.0.0.1:3000/site.git", "http"),
        ("git://[::1]/site.git", "git"),
    ],
)
def test_git_may_speak_the_one_protocol_of_its_url(url: str, scheme: str) -> None:
    """A repository that sends us elsewhere cannot choose another."""
    assert GitOptions(url).scheme == scheme


def test_unencrypted_repositories_are_for_signed_commits() -> None:
    """Then it does not matter who hands them out."""
    assert GitOptions("git://git.example.org/site.git", keyring="/keys").scheme == "git"


@pytest.mark.parametrize("ref", ["", "-x", "a b", "a..b", "a:b", "@", "x@{1}", "/x", "x/", "a^", "a~1", "*"])
def test_refs_that_git_would_read_as_something_else_are_refused(ref: str) -> None:
    """A ref is a name, never an expression, an option or a pair of names."""
    with pytest.raises(GitUsageError):
        GitOptions("/srv/site.git", ref)


def test_the_directory_stays_within_the_repository() -> None:
    """Normalised, relative, without a way out."""
    assert GitOptions("/srv/site.git", subdir="./site//paris/").subdir == "site/paris"
    for wrong in ("/etc", "..", "a/../..", ".git", "a/.hidden"):
        with pytest.raises(GitUsageError):
            GitOptions("/srv/site.git", subdir=wrong)


# -- the program


def fake_git(directory: Path, script: str) -> dict[str, str]:
    """An environment whose `git` is this script."""
    program = directory / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin", "GIT_DIR": "/elsewhere", "SECRET": SECRET}


def test_a_git_that_hangs_is_ended_with_its_helpers(tmp_path: Path) -> None:
    """They are one process group, and nothing of it stays."""
    environ = fake_git(tmp_path, f"sleep 100 & echo $! > {tmp_path}/helper\nwait\n")
    git = Git(str(tmp_path), GitOptions("/srv/x"), environ)
    with pytest.raises(GitError, match="took too long"):
        git.run("fetch", seconds=1.0)
    helper = (tmp_path / "helper").read_text().strip()
    eventually(lambda: not Path(f"/proc/{helper}").exists() or _is_zombie(helper), what="the helper is gone")


def _is_zombie(pid: str) -> bool:
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_a_git_that_talks_without_end_is_ended(tmp_path: Path) -> None:
    """Memory is bounded by what is read, on both streams."""
    git = Git(str(tmp_path), GitOptions("/srv/x"), fake_git(tmp_path, "yes; exit 0\n"))
    with pytest.raises(GitError, match="says more than"):
        git.run("ls-remote", limit=100_000)


def test_what_the_other_end_says_is_bounded_and_escaped(tmp_path: Path) -> None:
    """An error is one short line without control characters."""
    script = "printf 'noise\\nfatal: \\033[2Jremote says %0500d\\n' 0 >&2\nexit 128\n"
    git = Git(str(tmp_path), GitOptions("/srv/x"), fake_git(tmp_path, script))
    with pytest.raises(GitError) as failed:
        git.run("fetch")
    text = str(failed.value)
    assert text.startswith("git fetch: \\x1b[2Jremote says 000")
    assert text.isprintable() and len(text) < 400


def test_git_sees_neither_settings_nor_secrets_of_the_environment(tmp_path: Path) -> None:
    """Only what it needs is handed on; it asks nobody."""
    git = Git(str(tmp_path), GitOptions("https://git.example.org/x"), fake_git(tmp_path, "env\n"))
    shown = dict(line.split("=", 1) for line in git.run("env").decode().splitlines())
    assert SECRET not in shown.values() and "GIT_DIR" not in shown
    assert shown["GIT_TERMINAL_PROMPT"] == "0" and shown["GIT_ALLOW_PROTOCOL"] == "https"


def test_a_stopped_git_runs_nothing_any_more(tmp_path: Path) -> None:
    """The end of the agent waits for no network."""
    git = Git(str(tmp_path), GitOptions("/srv/x"))
    git.stop()
    with pytest.raises(StoppedError):
        git.run("version")


# -- when to look, who may ask


@given(st.integers(1, 100), st.floats(1, 10_000), st.floats(0, 0.999))
def test_pauses_after_failures_grow_within_bounds(failures: int, interval: float, chance: float) -> None:
    """Never a storm, never forgotten."""
    wait = pause(failures, interval, chance)
    first, most = min(FIRST_RETRY, interval), max(MAX_RETRY, interval)
    assert first / 2 <= wait <= min(most, first * 2 ** (failures - 1))
    assert interval * 0.9 <= pause(0, interval, chance) <= interval * 1.1


@given(st.binary(max_size=200), st.text(max_size=80))
def test_only_the_mac_of_the_body_is_a_signature(body: bytes, other: str) -> None:
    """Whatever else the header holds is refused, without an error."""
    secret = check_secret("0123456789abcdef")
    right = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    assert signed(body, right, secret)
    assert not signed(body + b"x", right, secret)
    assert not signed(body, right, secret + b"x")
    assert signed(body, other.encode("utf-8", "replace").decode(), secret) == (other == right)


def test_hooks_are_taken_in_a_burst_and_then_at_their_pace() -> None:
    """And a short secret is no secret."""
    now = [0.0]
    allowance = Allowance(lambda: now[0])
    assert [allowance.take() for _ in range(BURST)] == [0] * BURST
    wait = allowance.take()
    assert wait > 0
    now[0] += wait
    assert allowance.take() == 0
    with pytest.raises(PermanentError, match="shorter than"):
        check_secret("short")
