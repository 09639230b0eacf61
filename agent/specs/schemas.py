"""The JSON Schemas of the spec kinds: the single source for validation, completion and field reference.

Keywords of our own, beside draft 2020-12:
`x-lanesync-unsupported: true`      a later version carries this property (or kind) out; now it is an error
`x-lanesync-unsupportedValues: []`  the same for values of an enumeration
`x-lanesync-engines: []`            a property that has a meaning for these engines only
`x-lanesync-secret: true`           a reference to a secret; a literal value is an error that is never echoed
`x-lanesync-unit: NAME`             text of a unit: rate, duration or proportion
`x-lanesync-positive: true`, `x-lanesync-maximum: N`   bounds of the parsed value
`x-lanesync-rule: TEXT`             what a `pattern` demands, in words
`x-lanesync-policy: true`           a property that is refused without a policy that allows it
`x-lanesync-kind: false`            not a kind of spec: the policy, which is a file of its own
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

Schema = dict[str, Any]

UNSUPPORTED = "x-lanesync-unsupported"
NEEDS_POLICY = "x-lanesync-policy"


def data_directory(name: str) -> str:
    """Folder of shipped data (`schemas`, `specs`): in an installed package, or beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(package, "data", name)
    return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(package), name)


@lru_cache(maxsize=1)
def schemas() -> dict[str, Schema]:
    """Kind -> schema, references resolved in place. Kinds that are not carried out yet are among them."""
    return {title: schema for title, schema in _all().items() if schema.get("x-lanesync-kind", True)}


def policy_schema() -> Schema:
    """Of the policy file."""
    return _all()["Policy"]


@lru_cache(maxsize=1)
def _all() -> dict[str, Schema]:
    found = {}
    directory = data_directory("schemas")
    for name in sorted(os.listdir(directory)):
        if name.endswith(".schema.json"):
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                schema = json.load(file)
            found[schema["title"]] = _inlined(schema, schema.get("$defs", {}))
    return found


def supported_kinds() -> tuple[str, ...]:
    """Kinds that this version carries out, the ones that stand alone first."""
    order = ("Destination", "Mapping", "PriorityLanes", "Server")
    carried_out = [kind for kind, schema in schemas().items() if not schema.get(UNSUPPORTED)]
    return tuple(sorted(carried_out, key=lambda kind: (order.index(kind) if kind in order else 99, kind)))


def combined() -> Schema:
    """One schema for editors: any of the kinds that are carried out."""
    parts = []
    for kind in supported_kinds():
        part = {key: value for key, value in schemas()[kind].items() if key not in ("$schema", "$id")}
        parts.append(part)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:lanesync:v1",
        "title": "LaneSync spec",
        "description": "Any object that LaneSync knows.",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(supported_kinds())}},
        "oneOf": parts,
    }


def _inlined(schema: Any, definitions: Schema) -> Any:
    """The schema with each `$ref` into `$defs` replaced by what it names; keys beside `$ref` win."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    own = {key: _inlined(value, definitions) for key, value in schema.items() if key not in ("$ref", "$defs")}
    if "$ref" not in schema:
        return own
    target = definitions[schema["$ref"].removeprefix("#/$defs/")]
    return {**_inlined(target, definitions), **own}
