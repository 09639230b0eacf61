"""Spec files -> desired state. Bad input never raises: every error of every file is reported at once."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.model.spec import (
    IMPLICIT_SERVER,
    DesiredState,
    Key,
    Kind,
    MappingSpec,
    ServerSpec,
    Spec,
)
from agent.specs.build import build
from agent.specs.check import check, without_errors
from agent.specs.declared import key_of, labels_of, place_of
from agent.specs.errors import Collector, SpecError
from agent.specs.files import SpecFile, read_files
from agent.specs.git.checkout import Checkout
from agent.specs.idle import idle
from agent.specs.permitted import refusals
from agent.specs.places import Path, at, path_text
from agent.specs.policy import Policy
from agent.specs.references import Index, Objects, dependents, problems, references
from agent.specs.revision import canonical_text, content_revision
from agent.specs.select import EVERYTHING, Candidate, Selector, chosen
from agent.specs.yamltext import Node, documents


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read.

    `desired` is None when anything is wrong. `valid` holds the objects that are valid and whose references
    are, for a service in which each invalid object stalls alone. `invalid` says what is wrong, by key, or by
    file where no object can be named; `blocked` are valid objects that refer to invalid ones. `complete` is
    False when something could not be read far enough to know which objects it holds: then no object counts
    as removed.
    """

    desired: DesiredState | None
    valid: DesiredState
    errors: tuple[SpecError, ...]
    omitted: int  # errors beyond those listed
    warnings: tuple[SpecError, ...]
    invalid: dict[Key | str, list[SpecError]]
    blocked: dict[Key, list[SpecError]]
    positions: dict[Key, str]  # "file:line"
    files: tuple[str, ...]
    complete: bool
    revision: str
    candidates: dict[Key, Spec] = field(default_factory=dict, repr=False)  # valid by themselves
    labels: dict[Key, dict[str, str]] = field(default_factory=dict, repr=False)

    def effective(self, last_good: DesiredState | None) -> DesiredState:
        """`valid`, with the last good version of each object that is invalid or cannot be read now."""
        if last_good is None:
            return self.valid
        before: Objects = {
            key: spec for key in last_good.all_keys() if (spec := last_good.get(key)) is not None
        }
        declared = set(self.positions)
        kept = {
            key: spec
            for key, spec in before.items()
            if (key in declared and key not in self.candidates) or (key not in declared and not self.complete)
        }
        return _resolve(self.revision, {**self.candidates, **kept}, prefer=frozenset(kept))

    def stalled(self, in_force: DesiredState) -> dict[Key | str, list[SpecError]]:
        """`invalid`, and of `blocked` what is not in force although it is valid."""
        found = dict(self.invalid)
        found.update({key: why for key, why in self.blocked.items() if in_force.get(key) is None})
        return found


@dataclass(slots=True)
class _Document:
    key: Key | None
    file: str
    root: Node
    spec: Spec | None
    remnant: Spec | None = None  # what is left of an invalid one when its errors are cut out


def load(
    paths: Sequence[str],
    policy: Policy | None = None,
    select: Selector = EVERYTHING,
    checkout: Checkout | None = None,
) -> Loaded:
    """Read files and directories. What `policy` does not allow is an error like any other; what `select` does
    not choose is as if it were not there, errors included. `checkout`: the commit that the paths are of.

    What was read last is remembered: `plan` and `apply` look at the same files more than once, and of ten
    thousand objects that takes seconds. What a policy allows depends on more than files, and is not."""
    with _without_collection():
        loader = _Loader(policy, select, checkout)
        files = loader.read(paths)
        if policy is not None or loader.troubled:
            return loader.load(paths, files)
        found = [(file.name, hashlib.sha256(file.data).digest()) for file in files]
        asked = (os.getcwd(), *paths, select.text, checkout, *found)
        for before, loaded in _last:
            if before == asked:
                return loaded
        loaded = loader.load(paths, files)
        _last[:] = [(asked, loaded)]
        return loaded


_last: list[tuple[tuple[object, ...], Loaded]] = []


@contextmanager
def _without_collection() -> Iterator[None]:
    """No cyclic garbage collection meanwhile: what is built has no cycles, and walking it costs a third. What
    was read stays until it is read anew, so no later collection walks it either."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


class _Loader:
    def __init__(self, policy: Policy | None, select: Selector, checkout: Checkout | None) -> None:
        self._policy = policy
        self._select = select
        self._checkout = checkout
        self._errors = Collector()
        self._warnings = Collector()
        self._invalid: dict[Key | str, list[SpecError]] = {}
        self._complete = True
        self._hash: list[str] = []
        self._declared: dict[Key, list[_Document]] = {}
        self._files: list[str] = []
        self._left_out: frozenset[Key] = frozenset()
        self.troubled = False  # a file could not be read

    def read(self, paths: Sequence[str]) -> list[SpecFile]:
        return list(read_files(paths, self._file_error))

    def load(self, paths: Sequence[str], files: Sequence[SpecFile]) -> Loaded:
        for file in files:
            shown = SpecFile(self._name(file.name), file.data)
            self._files.append(shown.name)
            self._read(shown)
        self._leave_out()
        objects = self._unique()
        self._check_together(objects)
        broken = {key for key in self._invalid if isinstance(key, Key)}
        candidates = {key: spec for key, spec in objects.items() if key not in broken}
        self._warn_of_idle(objects)
        self._warn_of_sources(paths, objects)
        revision = self._revision(objects)
        errors, omitted = self._errors.shown()
        valid = _resolve(revision, candidates) if errors else _state(revision, Index.of(candidates))
        return Loaded(
            desired=None if errors else valid,
            valid=valid,
            errors=errors,
            omitted=omitted,
            warnings=self._warnings.shown()[0],
            invalid=self._invalid,
            blocked=_blocked(candidates, frozenset(broken), self._declared),
            positions={key: f"{docs[0].file}:{docs[0].root.line}" for key, docs in self._declared.items()},
            files=tuple(self._files),
            complete=self._complete,
            revision=revision,
            candidates=candidates,
            labels={key: labels_of(docs[0].root) or {} for key, docs in self._declared.items()},
        )

    # -- one file --

    def _file_error(self, file: str, message: str) -> None:
        self.troubled = True
        self._report(None, SpecError(self._name(file), 0, 0, "", message))

    def _name(self, file: str) -> str:
        """As people know it: what comes from a commit is named as in its repository."""
        return file if self._checkout is None else os.path.relpath(file, self._checkout.root)

    def _report(self, key: Key | None, error: SpecError) -> None:
        self._errors.add(error)
        self._complete = self._complete and key is not None
        found = self._invalid.setdefault(key or error.file, [])
        if len(found) < 100:
            found.append(error)

    def _read(self, file: SpecFile) -> None:
        pending: list[SpecError] = []

        def on_yaml_error(line: int, column: int, message: str) -> None:
            pending.append(SpecError(file.name, line, column, "", message))

        for root, whole in documents(file.data, on_yaml_error):
            key = key_of(root)
            for error in pending:
                self._report(key, error)
            pending.clear()
            self._document(file.name, root, key, whole)
        for error in pending:
            self._report(None, error)
        if pending:
            self._hash.append(hashlib.sha256(file.data).hexdigest())

    def _document(self, file: str, root: Node, key: Key | None, whole: bool) -> None:
        paths: list[Path] = []

        def report(node: Node, place: tuple[int, int] | None, path: Path, message: str) -> None:
            paths.append(path)
            line, column = place or (node.line, node.column)
            self._report(key, SpecError(file, line, column, path_text(path), message))

        def warn(path: Path, message: str) -> None:
            node = at(root, path)
            self._warnings.add(SpecError(file, node.line, node.column, path_text(path), message))

        kind = check(root, report)
        spec = None
        data = root.data if whole and not paths else without_errors(root.data, kind, paths) if kind else None
        if kind is not None and data is not None:
            directory = os.path.dirname(os.path.abspath(file)) if self._checkout is None else ""
            spec = build(Kind(kind), data, directory, lambda p, m: report(at(root, p), None, p, m), warn)
            for path, message in refusals(spec, self._policy, from_git=self._checkout is not None):
                written, node = place_of(root, path)
                report(node, None, written, message)
        valid = whole and not paths
        self._hash.append(canonical_text(root.data))
        if key is not None:
            self._declared.setdefault(key, []).append(
                _Document(key, file, root, spec if valid else None, None if valid else spec)
            )

    # -- all together --

    def _leave_out(self) -> None:
        """Forget what is not selected, and what is wrong with it."""
        if not self._select:
            return
        documents = [d for found in self._declared.values() for d in found if d.key is not None]
        mine = chosen(
            self._select,
            (
                Candidate(d.key, labels_of(d.root), d.spec or d.remnant)
                for d in documents
                if d.key is not None
            ),
        )
        self._left_out = frozenset(self._declared.keys() - mine)
        for key in self._left_out:
            del self._declared[key]
            self._errors.forget(self._invalid.pop(key, []))
        self._hash.append(f"select {self._select.text}")

    def _unique(self) -> Objects:
        """Objects that are valid by themselves and whose name is there once."""
        objects: Objects = {}
        for key, found in self._declared.items():
            if len(found) == 1:
                if found[0].spec is not None:
                    objects[key] = found[0].spec
                continue
            for document in found:
                node = at(document.root, ("metadata", "name"))
                others = [d for d in found if d is not document][:3]
                where = ", ".join(f"{d.file}:{at(d.root, ('metadata', 'name')).line}" for d in others)
                self._report(
                    key,
                    SpecError(
                        document.file, node.line, node.column, "metadata.name", f"{key} is also in {where}"
                    ),
                )
        return objects

    def _check_together(self, objects: Objects) -> None:
        broken = frozenset(key for key in self._declared if key not in objects)
        index = Index.of(objects, broken, self._left_out)
        found = [(problem, self._declared[problem.key][0]) for problem in problems(index)]
        found += [
            (problem, document)
            for key in broken
            for document in self._declared[key]
            if document.remnant is not None
            for problem in references(index, key, document.remnant)
        ]
        for (key, path, message), document in found:
            written, node = place_of(document.root, path)
            self._report(key, SpecError(document.file, node.line, node.column, path_text(written), message))

    def _warn_of_idle(self, objects: Objects) -> None:
        """What is written and has no effect."""
        for key in objects:
            document = self._declared[key][0]
            for path, message in idle(key.kind, document.root.data):
                node = at(document.root, path)
                self._warnings.add(SpecError(document.file, node.line, node.column, path_text(path), message))

    def _warn_of_sources(self, paths: Sequence[str], objects: Objects) -> None:
        """A source among the specs: its YAML files would be read as specs."""
        roots = [os.path.realpath(path) for path in paths if os.path.isdir(path)]
        for key, spec in objects.items():
            for entry in spec.paths if isinstance(spec, MappingSpec) else ():
                for root in roots:
                    if not entry.source.startswith(root.rstrip("/") + "/") and entry.source != root:
                        continue
                    if not any(part.startswith(".") for part in entry.source[len(root) :].split("/")):
                        document = self._declared[key][0]
                        path, node = place_of(document.root, ("spec", "paths", entry.destination))
                        message = "this source lies among the specs: each *.yaml in it is read as a spec"
                        self._warnings.add(
                            SpecError(document.file, node.line, node.column, path_text(path), message)
                        )

    def _revision(self, objects: Objects) -> str:
        if self._checkout is not None:
            return self._checkout.revision
        return content_revision(self._hash, objects.values())


def _blocked(
    candidates: Objects, broken: frozenset[Key], declared: Mapping[Key, list[_Document]]
) -> dict[Key, list[SpecError]]:
    """Objects that are right themselves but refer, directly or not, to one that is broken."""
    found: dict[Key, list[SpecError]] = {}
    while True:
        new = [(key, needed) for key, needed in dependents(Index.of(candidates, broken)) if key not in broken]
        for key, needed in new:
            document = declared[key][0]
            message = f"refers to {needed}, which is not valid"
            error = SpecError(document.file, document.root.line, document.root.column, "spec", message)
            found.setdefault(key, []).append(error)
        if not new:
            return found
        broken |= {key for key, _ in new}


def _resolve(revision: str, objects: Objects, prefer: frozenset[Key] = frozenset()) -> DesiredState:
    """The objects that hold together: what refers to nothing, or collides, is left out.

    Of two that collide, one that is in `prefer` stays.
    """
    objects = dict(objects)
    while True:
        index = Index.of(objects)
        wrong = {problem.key for problem in problems(index)}
        if not wrong:
            return _state(revision, index)
        for key in (wrong - prefer) or wrong:
            del objects[key]


def _state(revision: str, index: Index) -> DesiredState:
    servers = dict(index.servers)
    if any(d.server == IMPLICIT_SERVER for d in index.destinations.values()):
        servers.setdefault(IMPLICIT_SERVER, ServerSpec(IMPLICIT_SERVER))
    return DesiredState(
        revision,
        servers,
        dict(index.lanes),
        dict(index.destinations),
        dict(index.mappings),
        dict(index.shares),
        dict(index.alerts),
    )
