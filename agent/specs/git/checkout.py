"""The exported commit that is in force, and what is remembered of it from one start to the next."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.specs.git.options import GitOptions
from agent.specs.git.repository import Commit

MAX_RECORD = 64 << 10
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkout:
    """Spec files of `commit` below `root`, as they lie in the repository."""

    commit: Commit
    root: str
    subdir: str = ""
    keyring: str = ""  # digest of the keyring that vouched for it; empty when none was asked

    @property
    def specs(self) -> str:
        """The directory that is read."""
        return os.path.join(self.root, self.subdir) if self.subdir else self.root

    @property
    def revision(self) -> str:
        return f"git:{self.commit.id}"


def remember(path: str, options: GitOptions, checkout: Checkout) -> None:
    """Durably, so that the next start finds it although the repository may be gone. OSError."""
    record = {
        "format": _FORMAT,
        "of": _identity(options),
        "commit": asdict(checkout.commit),
        "keyring": checkout.keyring,
    }
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".current-")
    with open(descriptor, "w", encoding="ascii") as file:
        json.dump(record, file, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def recall(path: str, options: GitOptions, directory: str, keyring: str) -> Checkout | None:
    """The checkout that was in force, if it is of the same repository, ref and directory, and as well vouched
    for as is asked now. A damaged record is no record: the commit is fetched again."""
    try:
        with open(path, encoding="ascii") as file:
            record: dict[str, Any] = json.loads(file.read(MAX_RECORD))
        commit = Commit(**record["commit"])
        found = Checkout(commit, os.path.join(directory, commit.id), options.subdir, record["keyring"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if record.get("format") != _FORMAT or record.get("of") != _identity(options):
        return None
    if (keyring and found.keyring != keyring) or not os.path.isdir(found.specs):
        return None
    return replace(found, keyring=keyring)


def _identity(options: GitOptions) -> list[str]:
    return [options.url, options.ref, options.subdir]
