"""What the schema says, in our own words.

The wording never comes from the schema library, whose messages print values; below a secret neither values
nor unknown keys are named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema.exceptions import ValidationError

from agent.specs.errors import nearest
from agent.specs.places import Path, at, is_secret, key_place
from agent.specs.schemas import UNSUPPORTED
from agent.specs.yamltext import Node

_TYPES = {
    "object": "a mapping of keys and values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
}

Place = tuple[Node, tuple[int, int] | None]


def worded(error: ValidationError, root: Node) -> Iterator[tuple[Place, Path, str]]:
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
            hint = nearest(key, known) or f"; known here: {join(known)}"
            name = "unknown key" if secret else f"unknown key {quoted(key)}"
            yield (node, node.keys.get(key)), path if secret else (*path, key), name + hint
    elif error.validator == "required":
        # one error per missing key; each carries the whole list
        missing = [key for key in value if key not in node.data]
        named = next((key for key in missing if f"'{key}'" in error.message), missing[0])
        yield (node, key_place(root, path)), path, f"`{named}` is missing"
    elif error.validator == "dependentRequired":
        for key, needed in value.items():
            for other in needed:
                if key in node.data and other not in node.data:
                    yield (node, node.keys.get(key)), path, f"`{key}` needs `{other}` beside it"
    else:
        about_key = error.validator in (UNSUPPORTED, "oneOf")
        place = key_place(root, path) if about_key else None
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
            return f"must be {_choice(choices)}, not {quoted(node.data)}{nearest(node.data, choices)}"
        case "pattern":
            return str(schema.get("x-lanesync-rule", "has a wrong form"))
        case "oneOf":
            keys = [key for branch in value for key in branch["required"]]
            usable = [key for key in keys if not schema["properties"][key].get(UNSUPPORTED)]
            return f"needs exactly one of {join(usable)}"
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


def quoted(text: str) -> str:
    return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"


def join(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _choice(names: tuple[str, ...]) -> str:
    return f"`{names[0]}`" if len(names) == 1 else "one of " + join(names)
