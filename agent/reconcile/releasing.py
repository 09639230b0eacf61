"""Deleting at the source what every destination was found to have: marks first, durably, then the files."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

from agent.model.spec import MappingSpec
from agent.planning.release import is_racy
from agent.reconcile.context import Context
from agent.reconcile.releasable import Candidate, is_the_same, require_allowed, rows_of
from agent.source.removing import StaysError, directory_of, remove
from agent.state.audit import FileAct


@dataclass(slots=True)
class Deleted:
    files: int = 0
    bytes: int = 0
    changed: int = 0  # not any more what was verified: the next look tells
    failed: list[tuple[str, str]] = field(default_factory=list)  # path, why


@dataclass(frozen=True, slots=True)
class _Sure:
    candidate: Candidate
    digest: str
    racy: bool  # only the content tells that it is still what was delivered


def delete_at_source(context: Context, spec: MappingSpec, verified: list[Candidate]) -> Deleted:
    """What is marked and then found to be another version loses its mark. A crash in between leaves marks of
    files that are still there: the next look at the source takes them back."""
    done = Deleted()
    rows = rows_of(context, spec, [candidate.path for candidate in verified])
    sure = []
    for candidate in verified:
        known = [row for row in rows[candidate.path].values() if row is not None]
        if is_the_same(candidate.stat, rows[candidate.path]):
            sure.append(_Sure(candidate, known[0].digest, is_racy(candidate.stat, known)))
        else:
            done.changed += 1
    if not sure:
        return done
    _mark(context, spec, sure)
    for _, group in groupby(sure, lambda one: one.candidate.directory):
        done.failed += _delete(context, list(group))
    if done.failed:
        _unmark(context, spec, done.failed)
    left = {path for path, _ in done.failed}
    gone = [one.candidate for one in sure if one.candidate.path not in left]
    done.files, done.bytes = len(gone), sum(candidate.stat.size for candidate in gone)
    return done


def _mark(context: Context, spec: MappingSpec, files: list[_Sure]) -> None:
    now, state = context.clock.time(), context.state
    acts = [FileAct("release", f.candidate.path, f.candidate.stat.size, f.digest) for f in files]
    with state.transaction(durable=True):
        for name in spec.destinations:
            state.released.mark(spec.name, name, [f.candidate.path for f in files], now)
            state.audit.add_files(spec.name, name, None, context.desired.revision, acts, now)


def _unmark(context: Context, spec: MappingSpec, failed: list[tuple[str, str]]) -> None:
    now, state = context.clock.time(), context.state
    acts = [FileAct("fail", path, error=f"not deleted at the source: {why}") for path, why in failed]
    with state.transaction():
        for name in spec.destinations:
            state.released.unmark(spec.name, name, [path for path, _ in failed])
            state.audit.add_files(spec.name, name, None, context.desired.revision, acts, now)


def _delete(context: Context, files: list[_Sure]) -> list[tuple[str, str]]:
    """Of one directory. Returns what was not deleted, and why."""
    failed: list[tuple[str, str]] = []
    first = files[0].candidate
    try:
        with directory_of(first.root, first.relative) as (fd, _):
            require_allowed(context, fd)
            for file in files:
                try:
                    remove(fd, file.candidate.name, file.candidate.stat, file.digest if file.racy else "")
                except StaysError as error:
                    failed.append((file.candidate.path, str(error)))
    except StaysError as error:
        return [(file.candidate.path, str(error)) for file in files]
    return failed
