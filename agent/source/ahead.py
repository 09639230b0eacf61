"""A second process that walks every other subtree of a large source ahead of the walk itself.

All that is taken from it is the digest of a directory. Where that is the known one, nothing has changed there
and the walk need not read the directory; everywhere else it reads the directory itself. A helper that is slow
costs time; one that fails, or a tree that changes between the two, costs a second reading and never a change.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

from agent.model.spec import Symlinks
from agent.source.filters import Filter, KeepOut
from agent.source.scan import Scanner, Seen, chain_above, descend

LEAD = 16
"""The first of so many parts is not shared: the walk does it while the helper starts."""

_PIPE = 1 << 20  # bytes: how far the helper may be ahead, some thousand directories
_LONGEST = 64 << 20  # bytes of one line: a directory of a million subdirectories

Known = Callable[[str, bytes], bool]
"""Is this the digest that a directory (relative to the root) had when nothing was left to do there?"""


class _Record(NamedTuple):
    directory: str
    seen: Seen


class Ahead:
    """For one walk of one root; not thread-safe. The process starts when the tree first branches."""

    def __init__(self, root: str, filter_: Filter, symlinks: Symlinks, known: Known) -> None:
        self._order = _order(root, filter_, symlinks)
        self._known = known
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = False
        self._theirs: frozenset[str] = frozenset()
        self._inside = ""
        self._head: _Record | str | None = None

    def share(self, directories: Sequence[str]) -> None:
        """Subtrees side by side, in the order in which they will be walked: hand over every other one."""
        if self._begun or len(directories) < 2:
            return
        self._begun = True
        starts = directories[len(directories) // LEAD + 1 :: 2]
        line = json.dumps({**self._order, "starts": starts}).encode() + b"\n"
        with contextlib.suppress(OSError):  # no process can be had: the walk does all of it
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent.source.ahead"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the agent
            )
            self._theirs = frozenset(starts)
            self._give(line)

    def _give(self, line: bytes) -> None:
        to, found = self._pipes()
        with contextlib.suppress(OSError):  # a smaller one does too
            fcntl.fcntl(found, fcntl.F_SETPIPE_SZ, _PIPE)
        with contextlib.suppress(BrokenPipeError), to:
            to.write(line)

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None  # noqa: S101
        return process.stdin, process.stdout

    def unchanged(self, directory: str) -> Seen | None:
        """What lies in a directory in which nothing changed; None when it has to be read."""
        if self._process is None:
            return None
        if directory in self._theirs:
            self._enter(directory)
        elif not (self._inside and directory.startswith(self._inside + "/")):
            return None
        if self._head is None:
            self._head = self._next()
        if not isinstance(self._head, _Record) or self._head.directory != directory:
            return None  # of another one: this one is new, or the helper could not read it
        record, self._head = self._head, None
        return record.seen if self._known(directory, record.seen.digest) else None

    def _enter(self, start: str) -> None:
        """Leave out what is left of the subtree before."""
        self._inside = start
        while self._process is not None and self._head != start:
            self._head = self._next()
        self._head = None

    def _next(self) -> _Record | str | None:
        """A directory, or the name of the subtree that begins. None when the helper has ended."""
        if self._process is None:
            return None
        _, found = self._pipes()
        try:
            line = found.readline(_LONGEST)
            told = json.loads(line) if line else None
        except (OSError, ValueError):
            told = None
        if isinstance(told, str):
            return told
        if told is None:
            self.close()
            return None
        directory, device, inode, entries, digest, names = told
        return _Record(directory, Seen(device, inode, entries, bytes.fromhex(digest), tuple(names)))

    def close(self) -> None:
        """End the helper; the walk does the rest of it. Idempotent."""
        process, self._process, self._begun = self._process, None, True
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _order(root: str, filter_: Filter, symlinks: Symlinks) -> dict[str, Any]:
    keep = filter_.keep_out
    return {
        "root": root,
        "include": filter_.include,
        "exclude": filter_.exclude,
        "keepOut": None if keep is None else [keep.root, sorted(keep.identities), keep.within],
        "symlinks": str(symlinks),
    }


def _filter(order: dict[str, Any]) -> Filter:
    keep = None
    if order["keepOut"] is not None:
        root, identities, within = order["keepOut"]
        pairs = frozenset((device, inode) for device, inode in identities)
        keep = KeepOut(root, pairs, None if within is None else tuple(within))
    return Filter(order["include"], order["exclude"], keep)


def _told(order: dict[str, Any]) -> Iterator[Any]:
    """The name of each subtree, then its directories from the top down. Those of which more than the digest
    has to be known are left out."""
    scanner = Scanner(order["root"], _filter(order), Symlinks(order["symlinks"]))
    for start in order["starts"]:
        yield start
        for listing, chain, linked in descend(scanner, start, chain_above(order["root"], start)):
            if chain is not None and not (linked or listing.problems):
                digest = listing.digest.hex()
                yield (
                    *(listing.directory, chain.device, chain.inode, len(listing.entries)),
                    *(digest, listing.subdirectories),
                )


def main() -> None:
    """Ends when nobody reads any more."""
    order = json.loads(sys.stdin.buffer.readline())
    with contextlib.suppress(BrokenPipeError):
        for told in _told(order):
            sys.stdout.buffer.write(json.dumps(told).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()
    os._exit(0)  # what could not be written any more is not tried again


if __name__ == "__main__":
    main()
