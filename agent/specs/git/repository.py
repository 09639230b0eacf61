"""The repository that we keep: what a ref is at the other end, and its commit brought here."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass

from agent.model.printable import printable
from agent.specs.git.options import GitOptions
from agent.specs.git.program import Git, GitError, StoppedError

LOOK_SECONDS = 60.0
FETCH_SECONDS = 900.0
FETCHED = "refs/lanesync/fetched"
MAX_LOOSE, MAX_PACKS = 5000, 20
SUBJECT_LENGTH = 120


class RefNotFoundError(GitError):
    """The repository answers, but has no such branch, tag or commit."""


class AccessError(GitError):
    """The repository does not let us in, or the other end is not who it should be."""


@dataclass(frozen=True, slots=True)
class Commit:
    """`object` is what the ref names: the commit, or an annotated tag of it."""

    id: str
    object: str
    subject: str  # bounded, printable
    time: int  # Unix seconds, as the committer says


@dataclass(frozen=True, slots=True)
class Ref:
    name: str  # in full: HEAD, refs/heads/…, refs/tags/…; of a commit its id
    object: str


class Repository:
    """A bare repository at `directory`. It holds nothing that could not be fetched again."""

    def __init__(self, directory: str, options: GitOptions, git: Git) -> None:
        self._directory = directory
        self._options = options
        self._git = git

    def look(self) -> Ref:
        """What the ref is at the other end now. GitError; RefNotFoundError."""
        self._prepare()
        wanted = self._options.ref
        if self._options.pinned:
            return Ref(wanted, wanted)
        names = [wanted] if wanted == "HEAD" or wanted.startswith("refs/") else _spellings(wanted)
        found = [Ref(name, identity) for identity, name in self._list(names) if name in names]
        if not found:
            raise RefNotFoundError(
                f"there is no branch or tag {wanted} in {printable(self._options.url)}; "
                "a commit is named by all its hex digits"
            )
        if len(found) > 1:
            both = " and ".join(ref.name for ref in found)
            raise RefNotFoundError(f"{wanted} may be {both}; write one of them with --ref")
        return found[0]

    def fetch(self, ref: Ref) -> Commit:
        """Bring the ref's commit here, with as little as the other end lets us. GitError."""
        try:
            self._fetch(ref)
            return self._commit(ref)
        except (StoppedError, RefNotFoundError):
            raise
        except GitError:
            # The other end answers and this does not work: what we keep may be damaged, or locked by a git
            # that was killed. It is made anew at the next try.
            shutil.rmtree(self._directory, ignore_errors=True)
            raise

    def tidy(self) -> None:
        """Drop what no fetched commit needs any more, when there is much of it."""
        with contextlib.suppress(GitError):
            counted = dict(
                line.split(": ", 1)
                for line in self._git.run("count-objects", "-v").decode().splitlines()
                if ": " in line
            )
            if int(counted["count"]) > MAX_LOOSE or int(counted["packs"]) > MAX_PACKS:
                self._git.run("gc", "--quiet", "--prune=now", seconds=FETCH_SECONDS)

    def _list(self, names: list[str]) -> list[tuple[str, str]]:
        try:
            answer = self._git.run("ls-remote", "--", self._options.url, *names, seconds=LOOK_SECONDS)
        except GitError as error:
            if any(words in str(error) for words in _NO_ACCESS):
                raise AccessError(f"{error}; {_remedy(self._options)}") from error
            raise
        lines = answer.decode("utf-8", "replace").splitlines()
        return [(identity, name) for identity, tab, name in (line.partition("\t") for line in lines) if tab]

    def _prepare(self) -> None:
        if not os.path.exists(os.path.join(self._directory, "HEAD")):
            shutil.rmtree(self._directory, ignore_errors=True)
            os.makedirs(os.path.dirname(self._directory), mode=0o700, exist_ok=True)
            self._git.run("init", "--quiet", "--bare", "--template=", self._directory)

    def _fetch(self, ref: Ref) -> None:
        if self._options.pinned and self._has(ref.object):
            return
        order = ["fetch", "--quiet", "--no-tags", "--force", "--no-write-fetch-head"]
        end = ["--", self._options.url]
        try:
            self._git.run(*order, "--depth=1", *end, f"+{ref.name}:{FETCHED}", seconds=FETCH_SECONDS)
        except GitError as error:
            if "does not support shallow" in str(error):
                self._git.run(*order, *end, f"+{ref.name}:{FETCHED}", seconds=FETCH_SECONDS)
            elif self._options.pinned and _will_not_name(str(error)):
                self._fetch_all(ref, [*order, *end])
            else:
                raise

    def _fetch_all(self, ref: Ref, order: list[str]) -> None:
        """The other end hands out branches and tags alone: the commit may be in the history of one."""
        both = ("+refs/heads/*:refs/lanesync/heads/*", "+refs/tags/*:refs/lanesync/tags/*")
        self._git.run(*order, *both, seconds=FETCH_SECONDS)
        if not self._has(ref.object):
            raise RefNotFoundError(
                f"commit {ref.object} is on no branch or tag of {printable(self._options.url)}"
            )

    def _has(self, commit: str) -> bool:
        try:
            self._git.run("cat-file", "-e", f"{commit}^{{commit}}")
        except StoppedError:
            raise
        except GitError:
            return False
        return True

    def _commit(self, ref: Ref) -> Commit:
        name = ref.object if self._options.pinned else FETCHED
        identity = self._git.run("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
        commit = identity.decode("ascii").strip()
        named = self._git.run("rev-parse", "--verify", "--end-of-options", name).decode("ascii").strip()
        form = f"--format=%ct%x00%<({SUBJECT_LENGTH},trunc)%s"
        text = self._git.run("log", "-1", "--no-color", form, commit, "--").decode("utf-8", "replace")
        time, _, subject = text.partition("\0")
        return Commit(commit, named, printable(subject.strip())[: 2 * SUBJECT_LENGTH], int(time))


def _spellings(name: str) -> list[str]:
    return [f"refs/heads/{name}", f"refs/tags/{name}"]


_NO_ACCESS = (
    "Authentication failed", "could not read Username", "could not read Password", "Permission denied",
    "Host key verification failed", "returned error: 401", "returned error: 403",
)  # fmt: skip


def _remedy(options: GitOptions) -> str:
    if options.scheme == "ssh":
        return "check the key (--git-ssh-key, or the account's own) and its known_hosts"
    if options.scheme == "file":
        return "check who may read the repository"
    return "check the credentials (--git-credentials-file, or git's credential helper)"


def _will_not_name(message: str) -> bool:
    """What servers say that do not hand out a commit by its id."""
    return (
        "not our ref" in message or "unadvertised object" in message or "couldn't find remote ref" in message
    )
