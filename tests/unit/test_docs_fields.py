"""No field of a spec is without a test that shows what it does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "fields.md").read_text()
KINDS = {
    schema["properties"]["kind"]["const"]: schema
    for schema in map(json.loads, (path.read_text() for path in ROOT.glob("schemas/*.schema.json")))
}
BESIDE = {"Policy"}  # no spec: a file beside the agent, whose fields are tested in tests/unit/test_policy.py


def fields(node: dict[str, Any], at: str = "") -> Iterator[str]:
    """Every field that holds a value, as `a.b`, `list[].c` or `map.*.d`; alternatives are put together."""
    for name, inner in node.get("properties", {}).items():
        path = f"{at}.{name}".lstrip(".")
        below = set(fields(inner, path))
        if not below or "string" in inner.get("type", ()):  # a name may stand for the whole
            yield path
        yield from below
    if isinstance(node.get("items"), dict):
        yield from fields(node["items"], at + "[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from fields(node["additionalProperties"], at + ".*")
    for together in ("oneOf", "anyOf", "allOf"):
        for alternative in node.get(together, []):
            yield from fields(alternative, at)


def rows(kind: str) -> dict[str, str]:
    """Field -> the test that is named for it."""
    section = re.search(rf"(?ms)^## {kind}\n(.*?)(?=^## |\Z)", PAGE)
    return dict(re.findall(r"(?m)^\| `([^`]+)` \| `([^`]+)` \|$", section[1] if section else ""))


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - BESIDE))
def test_each_field_of_the_schema_has_a_row_and_each_row_a_field(kind: str) -> None:
    """A new field needs a test before the whole is green again."""
    assert set(rows(kind)) == set(fields(KINDS[kind]["properties"]["spec"]))


def test_fields_of_the_metadata_have_rows() -> None:
    """They are the same for every kind."""
    for kind in KINDS.keys() - BESIDE:
        metadata = set(fields(KINDS[kind]["properties"]["metadata"]))
        known = {name.removeprefix("metadata.") for name in rows("Every kind")}
        assert {name.partition(".")[0] for name in metadata} == known


def test_each_test_that_is_named_exists() -> None:
    """In the file that is named."""
    named = re.findall(r"`(tests/\S+?\.py)::(\w+)`", PAGE)
    assert len(named) > 100
    sources = {file: (ROOT / file).read_text() for file, _ in named}
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in sources[file]] == []
