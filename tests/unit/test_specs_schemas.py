"""The schemas are the single source: complete, described, and what pages and examples agree with."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent.model.paths import is_below
from agent.specs.load import load
from agent.specs.reference import field_reference, fields
from agent.specs.schemas import UNSUPPORTED, combined, data_directory, schemas, supported_kinds

ROOT = Path(__file__).parents[2]
KINDS = supported_kinds()
EXAMPLES = sorted(path for path in (ROOT / "specs").iterdir() if re.match(r"\d\d-", path.name))


def objects(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every schema below `schema` that is of an object, with its path."""
    found = []
    if isinstance(schema, dict):
        if "properties" in schema and "type" in schema:
            found.append((path, schema))
        for key, value in schema.items():
            if key not in ("if", "then", "default", "examples"):
                found += objects(value, f"{path}/{key}")
    if isinstance(schema, list):
        for number, value in enumerate(schema):
            found += objects(value, f"{path}/{number}")
    return found


@pytest.mark.parametrize("kind", sorted(schemas()))
def test_schemas_are_valid_draft_2020_12(kind: str) -> None:
    """Any editor and validator can use them."""
    Draft202012Validator.check_schema(schemas()[kind])
    assert schemas()[kind]["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("kind", sorted(schemas()))
def test_no_object_takes_unknown_keys(kind: str) -> None:
    """A misspelt key can never be ignored."""
    assert [
        path for path, schema in objects(schemas()[kind]) if schema["additionalProperties"] is not False
    ] == []


@pytest.mark.parametrize("kind", sorted(schemas()))
def test_every_field_has_a_description_and_an_example(kind: str) -> None:
    """Completion in an editor explains each field."""
    for field in fields(schemas()[kind]):
        assert field["schema"].get("description", "").endswith("."), field["path"]
        if field["path"] != "spec" and not isinstance(field["schema"].get("additionalProperties"), dict):
            assert field["schema"].get("examples"), field["path"]


@pytest.mark.parametrize("kind", KINDS)
def test_examples_and_defaults_keep_the_schema(kind: str) -> None:
    """What a field shows is what it takes."""
    for field in fields(schemas()[kind]):
        schema = field["schema"]
        values = [*schema.get("examples", ()), *([schema["default"]] if "default" in schema else [])]
        for value in values:
            assert Draft202012Validator(schema).is_valid(value), (field["path"], value)


@pytest.mark.parametrize("kind", KINDS)
def test_page_has_a_heading_for_each_field(kind: str) -> None:
    """The field reference is made from the schema: `lanesync schema KIND --output markdown` renews it."""
    page = (ROOT / "docs" / "kinds" / f"{kind.lower()}.md").read_text()
    assert field_reference(schemas()[kind]) in page
    headings = set(re.findall(r"^### `(.+)`$", page, re.M))
    assert headings == {field["path"] for field in fields(schemas()[kind])}
    assert re.findall(r"^## (.+)$", page, re.M)[:2] == ["Example", "Writing a spec"]
    assert re.findall(r"^## (.+)$", page, re.M)[2].startswith("Working with")
    assert "\n## Status\n" in page


@pytest.mark.parametrize("kind", KINDS)
def test_example_of_each_page_is_valid(kind: str, tmp_path: Path) -> None:
    """The first thing a reader copies works."""
    page = (ROOT / "docs" / "kinds" / f"{kind.lower()}.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", page, re.S)
    assert example is not None
    (tmp_path / "a.yaml").write_text(example[1])
    assert [str(error) for error in load([str(tmp_path)]).errors] == []


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_own_example_is_valid(kind: str) -> None:
    """The example of a whole object passes."""
    assert Draft202012Validator(schemas()[kind]).is_valid(schemas()[kind]["examples"][0])


def test_combined_schema_takes_each_kind_and_nothing_else() -> None:
    """One schema serves all files of a repository."""
    validator = Draft202012Validator(combined())
    for kind in KINDS:
        assert validator.is_valid(schemas()[kind]["examples"][0])
    assert not validator.is_valid(
        {"apiVersion": "lanesync/v1", "kind": "Share", "metadata": {"name": "x"}, "spec": {}}
    )
    assert "$ref" not in json.dumps(combined())


def test_kinds_of_this_version() -> None:
    """Every kind that the schemas know is carried out."""
    assert sorted(KINDS) == ["Alert", "Destination", "Mapping", "PriorityLanes", "Server", "Share"]
    assert set(schemas()) == set(KINDS)


def test_schemas_stand_beside_the_package() -> None:
    """A checkout uses its own schemas."""
    assert os.path.isfile(os.path.join(data_directory("schemas"), "mapping.schema.json"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid_and_their_sources_exist(example: Path) -> None:
    """Every example runs as it stands, but for the sources of somebody's storages."""
    loaded = load([str(example)])
    assert ([str(e) for e in loaded.errors], loaded.warnings) == ([], ())
    assert loaded.desired is not None
    assert loaded.desired.mappings
    served = [storage.path for server in loaded.desired.servers.values() for storage in server.storage]
    for mapping in loaded.desired.mappings.values():
        for entry in mapping.paths:
            assert os.path.exists(entry.source) or any(is_below(entry.source, path) for path in served)


def test_list_of_examples_is_complete() -> None:
    """The README of the examples names each."""
    text = (ROOT / "specs" / "README.md").read_text()
    assert [path.name for path in EXAMPLES if f"({path.name}/)" not in text] == []


def later() -> list[tuple[str, str, Any]]:
    """(kind, path, value) of everything in the schemas that this version does not carry out."""
    found = []
    for kind in KINDS:
        for field in fields(schemas()[kind]):
            schema = field["schema"]
            if schema.get(UNSUPPORTED):
                found.append((kind, field["path"], schema["examples"][0]))
            if field["supported"]:
                values = schema.get("x-lanesync-unsupportedValues", [])
                found += [(kind, field["path"], value) for value in values]
    paths = {path for _, path, _ in found}
    return [case for case in found if not any(case[1].startswith(f"{path}.") for path in paths)]


@pytest.mark.parametrize(("kind", "path", "value"), later(), ids=str)
def test_everything_of_a_later_version_is_refused_by_name(
    kind: str, path: str, value: Any, tmp_path: Path
) -> None:
    """The schema's marks are the list: what has one is refused at its place, and never ignored."""
    document = json.loads(json.dumps(schemas()[kind]["examples"][0]))
    *above, key = path.split(".")
    place = document
    for part in above:
        place = place.setdefault(part, {})
    place[key] = value
    (tmp_path / "a.yaml").write_text(json.dumps(document))
    refused = [
        error for error in load([str(tmp_path)]).errors if error.message.endswith("is not supported yet")
    ]
    assert [(error.path, error.message.split("`")[1].split(":")[0]) for error in refused] == [(path, key)]
