"""One look at a ref, and what follows from it: fetched, checked, exported. No threads, no clock."""

from __future__ import annotations

import os

from agent.model.outcome import PermanentError
from agent.specs.git.checkout import Checkout, recall, remember
from agent.specs.git.export import CommitRefusedError, export, remove_others
from agent.specs.git.options import GitOptions
from agent.specs.git.program import Git
from agent.specs.git.repository import Commit, Ref, Repository
from agent.specs.git.signatures import keyring_digest, verify


class Follower:
    """Owns `directory`. `checkout` is what is in force, `attempted` the commit that was fetched last."""

    def __init__(self, options: GitOptions, directory: str) -> None:
        self.options = options
        self._exports = os.path.join(directory, "checkouts")
        self._record = os.path.join(directory, "current.json")
        self._scratch = os.path.join(directory, "scratch")
        repository = os.path.join(directory, "repository.git")
        self._git = Git(repository, options)
        self._repository = Repository(repository, options, self._git)
        self.checkout = self._recall()
        self.attempted: Commit | None = self.checkout.commit if self.checkout else None
        self._looked_at = (self.checkout.commit.object, self.checkout.keyring) if self.checkout else None
        self._refused: CommitRefusedError | None = None

    def look(self) -> bool:
        """Whether another commit is in force now than before.

        GitError: try again. CommitRefusedError: this commit is not taken, and stays refused until the ref or
        the keyring changes. PermanentError: the keyring is no use. OSError: the directory is not writable.
        """
        ref = self._repository.look()
        keyring = self._keyring()
        if self._looked_at == (ref.object, keyring):
            if self._refused is not None:
                raise self._refused
            return False
        commit = self.attempted = self._repository.fetch(ref)
        try:
            new = self._take(commit, ref, keyring)
        except CommitRefusedError as error:
            self._looked_at, self._refused = (commit.object, keyring), error
            raise
        self._looked_at, self._refused = (commit.object, keyring), None
        return new

    def remove_others(self) -> None:
        """Earlier exports; nobody may be reading one."""
        if self.checkout is not None:
            remove_others(self._exports, os.path.basename(self.checkout.root))

    def tidy(self) -> None:
        """Drop objects that only earlier commits needed."""
        self._repository.tidy()

    def stop(self) -> None:
        """End what runs; callable from any thread."""
        self._git.stop()

    def _recall(self) -> Checkout | None:
        try:
            return recall(self._record, self.options, self._exports, self._keyring())
        except PermanentError:
            return None  # told at the first look

    def _keyring(self) -> str:
        return keyring_digest(self.options.keyring) if self.options.keyring is not None else ""

    def _take(self, commit: Commit, ref: Ref, keyring: str) -> bool:
        if self.options.keyring is not None:
            verify(self._git, commit, ref, self.options.keyring, self._scratch)
        before = self.checkout
        if before is None or before.commit.id != commit.id:
            root = export(self._git, commit.id, self.options.subdir, self._exports)
        else:
            root = before.root
        now = Checkout(commit, root, self.options.subdir, keyring)
        remember(self._record, self.options, now)
        self.checkout = now
        return before is None or before.commit.id != commit.id
