"""The field reference of a kind, from its schema: the `Writing a spec` section of `docs/kinds/`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agent.specs.schemas import NEEDS_POLICY, UNSUPPORTED, Schema

_TYPE_WORDS = {
    "object": "mapping",
    "array": "list",
    "string": "text",
    "integer": "whole number",
    "boolean": "true or false",
}


def fields(schema: Schema, path: str = "", *, supported: bool = True) -> Iterator[dict[str, Any]]:
    """Every field below `schema`, depth first: {"path", "schema", "required", "supported"}.

    Items of a list are written `lanes[]`, free keys `paths.*`.
    """
    for name, sub in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        carried_out = supported and not sub.get(UNSUPPORTED)
        needed = name in schema.get("required", ())
        yield {"path": here, "schema": sub, "required": needed, "supported": carried_out}
        yield from fields(sub, here, supported=carried_out)
    if isinstance(schema.get("items"), dict):
        yield from fields(schema["items"], f"{path}[]", supported=supported)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from fields(schema["additionalProperties"], f"{path}.*", supported=supported)


def field_reference(schema: Schema, title: str = "Writing a spec") -> str:
    """Markdown: one heading per field, with what it means, its type, default, bounds and an example."""
    parts = [f"## {title}\n"]
    for field in fields(schema):
        parts.append(f"### `{field['path']}`\n")
        parts.append(_paragraph(field) + "\n")
    return "\n".join(parts)


def _paragraph(field: dict[str, Any]) -> str:
    schema = field["schema"]
    text: str = schema["description"]
    if not field["supported"]:
        text = "*Not supported yet: a spec that has it is refused.* " + text
    facts = [_type(schema)]
    if field["required"]:
        facts.append("required")
    if "default" in schema:
        facts.append(f"default `{_value(schema['default'])}`")
    if "minimum" in schema and "maximum" in schema:
        facts.append(f"from {schema['minimum']} to {schema['maximum']}")
    if "x-lanesync-engines" in schema:
        facts.append("engine " + " or ".join(f"`{e}`" for e in schema["x-lanesync-engines"]))
    if schema.get(NEEDS_POLICY):
        facts.append("needs a policy")
    later = schema.get("x-lanesync-unsupportedValues", [])
    if later:
        facts.append("not supported yet: " + ", ".join(f"`{_value(v)}`" for v in later))
    if schema.get("examples"):
        facts.append(f"for example `{_value(schema['examples'][0])}`")
    rule = schema.get("x-lanesync-rule")
    return text + (f" It {rule}." if rule else "") + "\n\nType: " + "; ".join(facts) + "."


def _type(schema: Schema) -> str:
    if "const" in schema:
        return f"always `{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{v}`" for v in schema["enum"])
    if "x-lanesync-unit" in schema:
        return str(schema["x-lanesync-unit"])
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_TYPE_WORDS[t] for t in types)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
