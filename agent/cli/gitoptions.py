"""The options that say where specs come from: paths, or a git repository."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from agent.cli.options import Duration
from agent.cli.problems import FailedError
from agent.model.outcome import LaneSyncError
from agent.specs.git.checkout import Checkout
from agent.specs.git.follow import Follower
from agent.specs.git.options import DEFAULT_INTERVAL, DEFAULT_REF, GitOptions, GitUsageError

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, readable=True, resolve_path=True)
_ONLY_GIT = {
    "ref": "--ref",
    "subdir": "--subdir",
    "interval": "--interval",
    "verify_signatures": "--verify-signatures",
    "git_credentials_file": "--git-credentials-file",
    "git_ssh_key": "--git-ssh-key",
}
_HELP = {
    "git": "Take the specs from this git repository; see docs/git.md.",
    "ref": "Branch, tag or commit to follow. Default: the repository's default branch.",
    "subdir": "Directory of the repository that holds the specs.",
    "interval": f"How often to look for a new commit. Default {DEFAULT_INTERVAL:g}s.",
    "verify": "Take only commits (or annotated tags) signed by a key of this file: OpenPGP public keys, or "
    "ssh's allowed signers.",
    "credentials": "User and token for https, in the form of git's credential store.",
    "key": "Private key for ssh, instead of the account's own.",
}
_OPTIONS = (
    click.argument("paths", metavar="[PATH...]", nargs=-1, type=click.Path(exists=True)),
    click.option("--git", "url", metavar="URL", help=_HELP["git"]),
    click.option("--ref", help=_HELP["ref"]),
    click.option("--subdir", metavar="DIR", help=_HELP["subdir"]),
    click.option("--interval", type=Duration(), help=_HELP["interval"]),
    click.option("--verify-signatures", metavar="KEYRING", type=_FILE, help=_HELP["verify"]),
    click.option("--git-credentials-file", metavar="FILE", type=_FILE, help=_HELP["credentials"]),
    click.option("--git-ssh-key", metavar="FILE", type=_FILE, help=_HELP["key"]),
)


def spec_source(function: F) -> F:
    """`paths` (absolute, none with --git) and `git` (GitOptions or None) for the verb."""

    @functools.wraps(function)
    def verb(**given: Any) -> Any:
        url, only = given.pop("url"), {name: given.pop(name) for name in _ONLY_GIT}
        paths = tuple(os.path.abspath(path) for path in given.pop("paths"))
        if bool(paths) == bool(url):
            raise click.UsageError("name the specs: files or directories, or a repository with --git URL")
        for name, value in only.items():
            if value is not None and url is None:
                raise click.UsageError(f"{_ONLY_GIT[name]} is for --git")
        return function(paths=paths, git=_git(url, only) if url else None, **given)

    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb  # type: ignore[return-value]


def _git(url: str, only: dict[str, Any]) -> GitOptions:
    try:
        return GitOptions(
            url=url,
            ref=only["ref"] or DEFAULT_REF,
            subdir=only["subdir"] or "",
            interval=DEFAULT_INTERVAL if only["interval"] is None else only["interval"],
            credentials_file=only["git_credentials_file"],
            ssh_key=only["git_ssh_key"],
            keyring=only["verify_signatures"],
        )
    except GitUsageError as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def checked_out(git: GitOptions | None) -> Iterator[Checkout | None]:
    """The newest commit of the ref, for as long as the block; None without --git. FailedError when it
    cannot be had."""
    if git is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="lanesync-git-") as directory:
        follower = Follower(git, directory)
        try:
            follower.look()
        except (LaneSyncError, OSError) as error:
            raise FailedError(f"no specs from {git}: {error}") from error
        finally:
            follower.stop()
        yield follower.checkout
