"""Which objects of a repository are for this agent: `site=paris,kind!=x`, over labels. Pure.

Objects are chosen by their own labels, and lanes not at all: what a chosen object refers to comes with it.
Everything else is as if it were not in the specs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from agent.model.spec import DestinationSpec, Key, Kind, MappingSpec, Spec

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_TERM = re.compile(
    rf"\s*(?:!\s*(?P<absent>{_KEY})"
    rf"|(?P<key>{_KEY})\s*"
    r"(?:(?P<equal>==?|!=)\s*(?P<value>[^,()=!\s]*)"
    r"|(?P<word>in|notin)\s*\((?P<values>[^()]*)\))?)\s*"
)


class _Test(Enum):
    IN = "in"
    NOT_IN = "notin"
    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Term:
    key: str
    test: _Test
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.test:
            case _Test.PRESENT:
                return self.key in labels
            case _Test.ABSENT:
                return self.key not in labels
            case _Test.IN:
                return labels.get(self.key) in self.values
            case _Test.NOT_IN:  # as with Kubernetes: an object without the label is not in the set
                return labels.get(self.key) not in self.values


@dataclass(frozen=True, slots=True)
class Selector:
    """All terms must match. Without terms everything does."""

    text: str = ""
    terms: tuple[Term, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(term.matches(labels) for term in self.terms)

    def __bool__(self) -> bool:
        return bool(self.terms)


EVERYTHING = Selector()


def parse(text: str) -> Selector:
    """`a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, joined by commas; or ValueError."""
    terms: list[Term] = []
    position = 0
    while position < len(text) or not terms:
        found = _TERM.match(text, position)
        end = found.end() if found else position
        if found is None or (end < len(text) and text[end] != ","):
            raise ValueError(
                f"{text[position:][:60]!r} is no condition on a label; write for example "
                "site=paris, site!=paris, site in (paris,rome), site or !site"
            )
        terms.append(_term(found))
        position = end + 1
        if position == len(text):
            raise ValueError("a condition is missing after the last comma")
    return Selector(text, tuple(terms))


def _term(found: re.Match[str]) -> Term:
    if found["absent"]:
        return Term(found["absent"], _Test.ABSENT)
    if found["equal"]:
        test = _Test.NOT_IN if found["equal"] == "!=" else _Test.IN
        return Term(found["key"], test, frozenset({found["value"]}))
    if found["word"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Term(found["key"], _Test(found["word"]), values)
    return Term(found["key"], _Test.PRESENT)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A declared object. `labels` is None where they cannot be read: then it counts as chosen, so that a slip
    in a label is an error of it and not its removal. `spec` may be None or in part, when it is invalid."""

    key: Key
    labels: Mapping[str, str] | None
    spec: Spec | None


def chosen(selector: Selector, candidates: Iterable[Candidate]) -> set[Key]:
    known = list(candidates)
    if not selector:
        return {candidate.key for candidate in known}
    specs: dict[Key, list[Spec]] = {}
    for candidate in known:
        if candidate.spec is not None:
            specs.setdefault(candidate.key, []).append(candidate.spec)
    pending = [c.key for c in known if c.labels is None or _own(selector, c)]
    found: set[Key] = set()
    while pending:
        key = pending.pop()
        if key not in found:
            found.add(key)
            pending += [needed for spec in specs.get(key, ()) for needed in _refers_to(spec)]
    return found & {candidate.key for candidate in known}


def _own(selector: Selector, candidate: Candidate) -> bool:
    """Servers and lanes come with the destinations that use them; a server of its own, which receives, has
    labels like any other object."""
    return candidate.key.kind is not Kind.PRIORITY_LANES and selector.matches(candidate.labels or {})


def _refers_to(spec: Spec) -> list[Key]:
    if isinstance(spec, MappingSpec):
        return [Key(Kind.DESTINATION, name) for name in spec.destinations]
    if isinstance(spec, DestinationSpec):
        lanes = [Key(Kind.PRIORITY_LANES, spec.lanes)] if spec.lanes else []
        return [Key(Kind.SERVER, spec.server), *lanes]
    return []
