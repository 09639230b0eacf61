"""A schema compiled to one function that says whether data conforms: the quick way past what is right.

Thousands of documents are right and must not cost a validator's walk each. What does not conform is looked at
again by the schema library, which alone words what is wrong. A schema with a keyword that is not known here
is not compiled, and then the library looks at everything; so a keyword can be missed here, but not skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from agent.specs.schemas import UNSUPPORTED

Conforms = Callable[[Any], bool]
UnitProblem = Callable[[str, dict[str, Any]], str | None]

_SAYS_NOTHING = frozenset(
    {"$schema", "$id", "title", "description", "examples", "default", "then"}
    | {f"x-lanesync-{word}" for word in ("rule", "engines", "policy", "secret", "positive", "maximum")}
)
"""Annotations, and keywords that another one reads."""


class _UnknownKeywordError(Exception):
    pass


class _UndecidedError(Exception):
    """This data is for the library to look at."""


def compiled(schema: dict[str, Any], unit_problem: UnitProblem) -> Conforms:
    """True from it is final; False only says that the library has to look."""
    try:
        conforms = _Compiler(unit_problem).of(schema)
    except _UnknownKeywordError:
        return lambda _data: False

    def decided(data: Any) -> bool:
        try:
            return conforms(data)
        except _UndecidedError:
            return False

    return decided


class _Compiler:
    def __init__(self, unit_problem: UnitProblem) -> None:
        self._unit_problem = unit_problem

    def of(self, schema: Any) -> Conforms:
        if isinstance(schema, bool):
            return lambda _data: schema
        checks: list[Conforms] = []
        for keyword, value in schema.items():
            if keyword in _SAYS_NOTHING or (keyword == UNSUPPORTED and not value):
                continue
            if keyword in ("additionalProperties", "propertyNames") and "properties" in schema:
                continue  # `_object` does it
            check = self._keyword(keyword, value, schema)
            if check is not None:
                checks.append(check)
        return _every(checks)

    def _keyword(self, keyword: str, value: Any, schema: dict[str, Any]) -> Conforms | None:
        match keyword:
            case "type":
                return _type(value)
            case "properties" | "additionalProperties" | "propertyNames":
                return self._object(schema)
            case "items":
                return self._items(self.of(value))
            case "pattern":
                return None if "x-lanesync-unit" in schema else _pattern(value)
            case "x-lanesync-unit":
                return self._unit(schema)
            case "allOf":
                return _every([self.of(part) for part in value])
            case "oneOf":
                return _one_of([self.of(part) for part in value])
            case "if":
                return _implies(self.of(value), self.of(schema.get("then", True)))
            case _:
                return _simple(keyword, value)

    def _object(self, schema: dict[str, Any]) -> Conforms:
        known = {name: self.of(part) for name, part in schema.get("properties", {}).items()}
        others = self.of(schema.get("additionalProperties", True))
        names = self.of(schema["propertyNames"]) if "propertyNames" in schema else None

        def conforms(data: Any) -> bool:
            if not isinstance(data, dict):
                return True
            for name, value in data.items():
                if not known.get(name, others)(value) or (names is not None and not names(name)):
                    return False
            return True

        return conforms

    def _items(self, item: Conforms) -> Conforms:
        return lambda data: not isinstance(data, list) or all(map(item, data))

    def _unit(self, schema: dict[str, Any]) -> Conforms:
        problem, right = self._unit_problem, set[str]()

        def conforms(data: Any) -> bool:
            if not isinstance(data, str) or data in right:
                return True
            if problem(data, schema) is not None:
                return False
            if len(right) < 1000:
                right.add(data)  # the same few are written everywhere
            return True

        return conforms


def _every(checks: list[Conforms]) -> Conforms:
    if len(checks) == 1:
        return checks[0]

    def conforms(data: Any) -> bool:
        for check in checks:  # noqa: SIM110 - a generator for each value costs as much as the checks
            if not check(data):
                return False
        return True

    return conforms


def _one_of(parts: list[Conforms]) -> Conforms:
    return lambda data: sum(part(data) for part in parts) == 1


def _implies(condition: Conforms, consequence: Conforms) -> Conforms:
    return lambda data: not condition(data) or consequence(data)


_TYPES: Mapping[str, Conforms] = {
    "object": lambda data: isinstance(data, dict),
    "array": lambda data: isinstance(data, list),
    "string": lambda data: isinstance(data, str),
    "boolean": lambda data: isinstance(data, bool),
    "null": lambda data: data is None,
    "number": lambda data: isinstance(data, int | float) and not isinstance(data, bool),
    "integer": lambda data: (
        (isinstance(data, int) and not isinstance(data, bool))
        or (isinstance(data, float) and data.is_integer())
    ),
}


def _type(names: str | list[str]) -> Conforms:
    if isinstance(names, str):
        return _TYPES[names]
    kinds = [_TYPES[name] for name in names]
    return lambda data: any(kind(data) for kind in kinds)


def _pattern(pattern: str) -> Conforms:
    # `$` must not match before a newline at the end
    search = re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern).search
    return lambda data: not isinstance(data, str) or search(data) is not None


def _among(values: list[Any]) -> Conforms:
    """Of texts and truth values: what JSON holds for equal is so in Python for these alone."""
    if not all(isinstance(value, str | bool) for value in values):
        raise _UnknownKeywordError
    texts = frozenset(value for value in values if isinstance(value, str))
    truths = [value for value in values if isinstance(value, bool)]
    return lambda data: data in texts if isinstance(data, str) else any(data is truth for truth in truths)


def _unique(data: Any) -> bool:
    if not isinstance(data, list):
        return True
    if not all(isinstance(item, str) for item in data):
        raise _UndecidedError
    return len(set(data)) == len(data)


def _required(names: list[str]) -> Conforms:
    needed = frozenset(names)
    return lambda data: not isinstance(data, dict) or needed <= data.keys()


def _dependent(needs: dict[str, list[str]]) -> Conforms:
    return lambda data: (
        not isinstance(data, dict)
        or all(name not in data or set(others) <= data.keys() for name, others in needs.items())
    )


def _number(data: Any) -> bool:
    return isinstance(data, int | float) and not isinstance(data, bool)


_SIMPLE: Mapping[str, Callable[[Any], Conforms]] = {
    "enum": _among,
    "const": lambda value: _among([value]),
    "x-lanesync-unsupportedValues": lambda values: _not(_among(values)),
    UNSUPPORTED: lambda _value: lambda _data: False,
    "required": _required,
    "dependentRequired": _dependent,
    "uniqueItems": lambda wanted: _unique if wanted else lambda _data: True,
    "minLength": lambda least: lambda data: not isinstance(data, str) or len(data) >= least,
    "maxLength": lambda most: lambda data: not isinstance(data, str) or len(data) <= most,
    "minItems": lambda least: lambda data: not isinstance(data, list) or len(data) >= least,
    "maxItems": lambda most: lambda data: not isinstance(data, list) or len(data) <= most,
    "minProperties": lambda least: lambda data: not isinstance(data, dict) or len(data) >= least,
    "maxProperties": lambda most: lambda data: not isinstance(data, dict) or len(data) <= most,
    "minimum": lambda least: lambda data: not _number(data) or not data < least,
    "maximum": lambda most: lambda data: not _number(data) or not data > most,
}


def _not(check: Conforms) -> Conforms:
    return lambda data: not check(data)


def _simple(keyword: str, value: Any) -> Conforms:
    if keyword not in _SIMPLE:
        raise _UnknownKeywordError(keyword)
    return _SIMPLE[keyword](value)
