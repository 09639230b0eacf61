"""One document against the schema of its kind, in our own words.

The wording never comes from the schema library, whose messages print values; below a secret (`auth`,
`credentials`, anything marked `x-lanesync-secret`) neither values nor unknown keys are named.
"""

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
from agent.specs.errors import MAX_SHOWN, SECRET_KEYS, nearest
from agent.specs.schemas import UNSUPPORTED, schemas
from agent.specs.yamltext import Node

Path = tuple[str | int, ...]
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
_TYPES = {
    "object": "a mapping of keys and values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
}


def path_text(path: Path) -> str:
    """("spec", "lanes", 2, "share") -> `spec.lanes[2].share`; keys that are paths go in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def at(root: Node, path: Path) -> Node:
    """The node at `path`, or the nearest one above it."""
    node = root
    for part in path:
        children: Any = node.children
        try:
            node = children[part]
        except (KeyError, IndexError, TypeError):
            break
    return node


def without_errors(data: Any, kind: str, paths: list[Path]) -> dict[str, Any] | None:
    """A copy of `data` with the values at `paths` cut out, when what remains is valid; else None.

    With it the checks that come after the schema can look at a document whose schema has errors. A list
    with an error in it goes as a whole: what is said of the rest of it would be wrong.
    """
    rest = copy.deepcopy(data)
    for path in paths:
        end = next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))
        parent = rest
        for part in path[: end - 1]:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if end > 1 and isinstance(parent, dict):
            parent.pop(path[end - 1], None)
    schema = schemas()[kind]
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
        report(root, None, (), "a spec must be a mapping with apiVersion, kind, metadata and spec")
        return None
    kind = data.get("kind")
    place = at(root, ("kind",))
    known = schemas()
    if not isinstance(kind, str) or kind not in known:
        names = tuple(known)
        if "kind" not in data:
            message = f"`kind` is missing; it is one of {_join(_carried_out())}"
        elif isinstance(kind, str):
            message = (
                f"{_quoted(kind)} is no kind; it is one of {_join(_carried_out())}{nearest(kind, names)}"
            )
        else:
            message = f"the kind must be text, one of {_join(_carried_out())}"
        report(place, None, ("kind",), message)
        return None
    if known[kind].get(UNSUPPORTED):
        report(place, None, ("kind",), f"kind {kind} is not supported yet")
        return None
    for error in islice(_strongest(_validator(kind).iter_errors(data)), MAX_SHOWN):
        for where, path, message in _worded(error, root):
            report(where[0], where[1], path, message)
    return kind


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


# -- our own words --

Place = tuple[Node, tuple[int, int] | None]


def _worded(error: ValidationError, root: Node) -> Iterator[tuple[Place, Path, str]]:
    path: Path = tuple(error.absolute_path)
    node = at(root, path)
    schema: Any = error.schema
    value: Any = error.validator_value
    if "propertyNames" in error.relative_schema_path:
        key = str(error.instance)
        yield (node, node.keys.get(key)), (*path, key), str(schema["x-lanesync-rule"])
    elif error.validator == "additionalProperties":
        known = tuple(schema.get("properties", {}))
        secret = is_secret(path)
        for key in sorted(set(node.data) - set(known)):
            hint = nearest(key, known) or f"; known here: {_join(known)}"
            name = "unknown key" if secret else f"unknown key {_quoted(key)}"
            yield (node, node.keys.get(key)), path if secret else (*path, key), name + hint
    elif error.validator == "required":
        # one error per missing key; each carries the whole list
        missing = [key for key in value if key not in node.data]
        named = next((key for key in missing if f"'{key}'" in error.message), missing[0])
        yield (node, _key_place(root, path)), path, f"`{named}` is missing"
    elif error.validator == "dependentRequired":
        for key, needed in value.items():
            for other in needed:
                if key in node.data and other not in node.data:
                    yield (node, node.keys.get(key)), path, f"`{key}` needs `{other}` beside it"
    else:
        about_key = error.validator in (UNSUPPORTED, "oneOf")
        place = _key_place(root, path) if about_key else None
        yield (node, place), path, _message(error, node, path)


def _message(error: ValidationError, node: Node, path: Path) -> str:
    schema: Any = error.schema
    value: Any = error.validator_value
    secret = is_secret(path)
    match error.validator:
        case "x-lanesync-unsupported":
            return f"`{path[-1]}` is not supported yet"
        case "x-lanesync-unsupportedValues":
            shown = str(node.data).lower() if isinstance(node.data, bool) else node.data
            return f"`{path[-1]}: {shown}` is not supported yet"
        case "x-lanesync-unit":
            return error.message
        case "type":
            return _wrong_type(schema, node, secret)
        case "enum" | "const":
            choices = tuple(str(v) for v in (value if error.validator == "enum" else [value]))
            if secret or not isinstance(node.data, str):
                return f"must be {_choice(choices)}{_boolean_trap(node, secret)}"
            return f"must be {_choice(choices)}, not {_quoted(node.data)}{nearest(node.data, choices)}"
        case "pattern":
            return str(schema.get("x-lanesync-rule", "has a wrong form"))
        case "oneOf":
            keys = [key for branch in value for key in branch["required"]]
            usable = [key for key in keys if not schema["properties"][key].get(UNSUPPORTED)]
            return f"needs exactly one of {_join(usable)}"
        case _:
            return _bound(error, schema, value)


def _bound(error: ValidationError, schema: Any, value: Any) -> str:
    match error.validator:
        case "minimum" | "maximum" if "minimum" in schema and "maximum" in schema:
            return f"must be from {schema['minimum']} to {schema['maximum']}"
        case "minimum":
            return f"must be at least {value}"
        case "maximum":
            return f"must be at most {value}"
        case "minLength" | "minItems" | "minProperties":
            return "must not be empty" if value == 1 else f"must have at least {value} entries"
        case "maxLength":
            return f"must have at most {value} characters"
        case "maxItems" | "maxProperties":
            return f"must have at most {value} entries"
        case "uniqueItems":
            return "an entry is there twice"
        case _:
            return "is not valid here"


def _wrong_type(schema: Any, node: Node, secret: bool) -> str:
    if schema.get("x-lanesync-secret"):
        return ("a secret must not stand in a spec; write a reference: {env: NAME}, {file: /PATH} or "
                "{credential: NAME}")  # fmt: skip
    wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    example = schema.get("examples", [None])[0]
    if "x-lanesync-unit" in schema:
        must = f"must be a {schema['x-lanesync-unit']} with its unit, for example {example}"
    else:
        must = "must be " + " or ".join(_TYPES[t] for t in wanted)
        if isinstance(example, str | int) and not isinstance(example, bool):
            must += f", for example {example}"
    if secret:
        return must
    trap = _boolean_trap(node, secret) if "string" in wanted else ""
    return f"{must}; found {_found(node)}{trap or _quote_hint(node, wanted, schema)}"


def _quote_hint(node: Node, wanted: list[str], schema: Any) -> str:
    if "string" in wanted and "x-lanesync-unit" not in schema and isinstance(node.data, int | float):
        return f'; write "{node.raw}" with quotes' if node.raw else ""
    return ""


def _boolean_trap(node: Node, secret: bool) -> str:
    if isinstance(node.data, bool) and node.raw and not secret:
        return f'; unquoted {node.raw} means {str(node.data).lower()} in YAML: write "{node.raw}" with quotes'
    return ""


def _found(node: Node) -> str:
    data = node.data
    if data is None:
        return "nothing"
    if isinstance(data, bool):
        return str(data).lower()
    if isinstance(data, int | float):
        return f"the number {node.raw or data}"
    if isinstance(data, str):
        return "text"
    return "a mapping" if isinstance(data, dict) else "a list"


def is_name(text: str) -> bool:
    """Whether `text` has the form that `metadata.name` must have."""
    return _NAME.fullmatch(text) is not None


def is_secret(path: Path) -> bool:
    return any(part in SECRET_KEYS for part in path)


def _key_place(root: Node, path: Path) -> tuple[int, int] | None:
    if not path or isinstance(path[-1], int):
        return None
    return at(root, path[:-1]).keys.get(path[-1])


def _quoted(text: str) -> str:
    return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"


def _join(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _choice(names: tuple[str, ...]) -> str:
    return f"`{names[0]}`" if len(names) == 1 else "one of " + _join(names)
