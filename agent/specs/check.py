"""One document against the schema of its kind."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from agent.model import units
from agent.specs.conform import Conforms, compiled
from agent.specs.errors import MAX_SHOWN, nearest
from agent.specs.places import Path, at
from agent.specs.schemas import UNSUPPORTED, policy_schema, schemas
from agent.specs.wording import join, quoted, worded
from agent.specs.yamltext import Node

Report = Callable[[Node, tuple[int, int] | None, Path, str], None]
"""Called with (node, place or None for the node's own, path, message)."""

_NAME = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_UNITS: dict[str, Callable[[str], float]] = {
    "rate": units.parse_rate,
    "duration": units.parse_duration,
    "proportion": units.parse_proportion,
}
_LARGEST = {
    "rate": 1e12,
    "duration": 3.2e9,
    "proportion": 1e3,
}  # 1 Pbit/s, 100 years: keeps integers in range


def without_errors(data: Any, kind: str, paths: list[Path]) -> dict[str, Any] | None:
    """A copy of `data` with the values at `paths` cut out, when what remains is valid; else None.

    With it the checks that come after the schema can look at a document whose schema has errors. A list
    with an error in it goes as a whole: what is said of the rest of it would be wrong.
    """
    rest = copy.deepcopy(data)
    schema = schemas()[kind]
    for key in set(rest) - set(schema["properties"]):
        del rest[key]
    for path in paths:
        end = next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))
        parent = rest
        for part in path[: end - 1]:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and path[:end] not in ((), ("spec",)):
            parent.pop(path[end - 1], None)
    if "spec" not in rest:
        return None
    for error in _validator(kind).iter_errors(rest):
        # a stand-in for what is missing: nobody sees it
        above: Any = error.instance
        where = schema["properties"][error.absolute_path[0]] if error.absolute_path else schema
        if error.validator == "required" and len(error.absolute_path) <= 1:
            for key in error.validator_value:
                known = where["properties"][key]
                above.setdefault(key, known.get("const", known.get("examples", [{}])[0]))
    return rest if _validator(kind).is_valid(rest) else None


def check(root: Node, report: Report) -> str | None:
    """Reports everything that the schema finds; returns the kind when it is known and carried out."""
    data = root.data
    if not isinstance(data, dict):
        if isinstance(data, str) and data.startswith("version https://git-lfs.github.com/"):
            message = "a pointer of git LFS, whose files are not fetched; keep specs in the repository itself"
            report(root, None, (), message)
            return None
        report(root, None, (), "a spec must be a mapping with apiVersion, kind, metadata and spec")
        return None
    kind = data.get("kind")
    place = at(root, ("kind",))
    known = schemas()
    if not isinstance(kind, str) or kind not in known:
        names = tuple(known)
        if "kind" not in data:
            message = f"`kind` is missing; it is one of {join(_carried_out())}"
        elif isinstance(kind, str):
            message = f"{quoted(kind)} is no kind; it is one of {join(_carried_out())}{nearest(kind, names)}"
        else:
            message = f"the kind must be text, one of {join(_carried_out())}"
        report(place, None, ("kind",), message)
        return None
    if known[kind].get(UNSUPPORTED):
        report(place, None, ("kind",), f"kind {kind} is not supported yet")
        return None
    if not _conforms(kind)(data):
        _check(_validator(kind), root, report)
    return kind


def check_policy(root: Node, report: Report) -> None:
    """Reports everything that the schema of the policy finds."""
    if isinstance(root.data, dict):
        _check(_Validator(policy_schema()), root, report)
    else:
        report(root, None, (), "a policy must be a mapping with apiVersion, kind and spec")


def _check(validator: Any, root: Node, report: Report) -> None:
    for error in islice(_strongest(validator.iter_errors(root.data)), MAX_SHOWN):
        for where, path, message in worded(error, root):
            report(where[0], where[1], path, message)


def _carried_out() -> list[str]:
    return [kind for kind, schema in schemas().items() if not schema.get(UNSUPPORTED)]


# -- the schema library, with keywords of our own --


def _unsupported(_validator: Any, value: Any, _instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if value:
        yield ValidationError("unsupported")


def _unsupported_values(
    _validator: Any, values: Any, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if any(instance is value or (instance == value and isinstance(instance, str)) for value in values):
        yield ValidationError("unsupported value")


def _unit(_validator: Any, _unit: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and (message := unit_problem(instance, schema)):
        yield ValidationError(message)


def _pattern(_validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    # `$` must not match before a newline at the end, and a unit says more than its pattern
    if isinstance(instance, str) and "x-lanesync-unit" not in schema:
        strict = pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
        if not re.search(strict, instance):
            yield ValidationError("pattern")


def unit_problem(text: str, schema: dict[str, Any]) -> str | None:
    """Why `text` is not a value of the schema's unit, or None."""
    unit = schema["x-lanesync-unit"]
    try:
        value = _UNITS[unit](text[:100])
    except units.UnitError as error:
        return str(error)
    if not math.isfinite(value) or value > _LARGEST[unit] or len(text) > 100:
        return f"this {unit} is too large"
    if schema.get("x-lanesync-positive") and value <= 0:
        return "must be more than 0; leave it out for no limit" if unit == "rate" else "must be more than 0"
    if value > schema.get("x-lanesync-maximum", math.inf):
        return f"must be at most {schema['x-lanesync-maximum'] * 100:g}%"
    return None


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        UNSUPPORTED: _unsupported,
        "x-lanesync-unsupportedValues": _unsupported_values,
        "x-lanesync-unit": _unit,
        "pattern": _pattern,
    },
)


@lru_cache(maxsize=16)
def _validator(kind: str) -> Any:
    return _Validator(schemas()[kind])


@lru_cache(maxsize=16)
def _conforms(kind: str) -> Conforms:
    return compiled(schemas()[kind], unit_problem)


def _strongest(errors: Iterator[ValidationError]) -> Iterator[ValidationError]:
    """Without what follows from another error: details of what is not supported, of a literal secret."""
    bounded = list(islice(errors, 4 * MAX_SHOWN))
    final = {tuple(e.absolute_path) for e in bounded if e.validator == UNSUPPORTED}
    mistyped = {tuple(e.absolute_path) for e in bounded if e.validator in ("type", "enum", "const")}
    for error in bounded:
        path = tuple(error.absolute_path)
        if any(path[:n] in final for n in range(len(path))):
            continue
        if path in final and error.validator != UNSUPPORTED:
            continue
        if path in mistyped and error.validator not in ("type", "enum", "const"):
            continue
        yield error


def is_name(text: str) -> bool:
    """Whether `text` has the form that `metadata.name` must have."""
    return _NAME.fullmatch(text) is not None
