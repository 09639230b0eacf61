"""The quick way past a schema says yes to what the schema library says yes to, and to nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.specs.check import _validator, unit_problem
from agent.specs.conform import compiled
from agent.specs.schemas import UNSUPPORTED, data_directory, schemas, supported_kinds

KINDS = supported_kinds()
CONFORMS = {kind: compiled(schemas()[kind], unit_problem) for kind in schemas()}

SCALARS = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 8886, 70000, 1.0, 0.5, float("inf"), float("nan"), 2**70),
        *("", "a", "x\n", "10%", "5s", "0s", "1Mbit/s", "/a", "always", "backup", "fts3", "127.0.0.1:0", "~"),
    ]
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)


def objects(kind: str) -> list[dict[str, Any]]:
    """The kind's examples, and each of them with every field that the schema gives an example of."""
    schema = schemas()[kind]
    found = copy.deepcopy(schema["examples"])
    for example in copy.deepcopy(schema["examples"]):
        for name, field in schema["properties"]["spec"]["properties"].items():
            for value in field.get("examples", []):
                found.append(copy.deepcopy(example))
                found[-1]["spec"][name] = value
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_quick_way(kind: str) -> None:
    """A keyword that the compiler does not know would send every document the slow way, silently."""
    assert CONFORMS[kind](schemas()[kind]["examples"][0])


@pytest.mark.parametrize("kind", sorted(schemas()))
def test_the_schemas_own_examples_are_judged_alike(kind: str) -> None:
    """Also those of fields and kinds that are not carried out."""
    for document in objects(kind):
        assert CONFORMS[kind](document) == _validator(kind).is_valid(document), document


def test_the_shipped_specs_pass_the_quick_way() -> None:
    """None of them is walked by the library."""
    seen = 0
    for path in sorted(Path(data_directory("specs")).rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text().replace("  on: [", '  "on": [')):  # else: true
            if isinstance(document, dict) and document.get("kind") in KINDS:
                assert CONFORMS[document["kind"]](document), path
                seen += 1
    assert seen > 10


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """An object with a value replaced, added or taken away somewhere."""
    kind = draw(st.sampled_from(sorted(schemas())))
    document: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(objects(kind)))))
    document["kind"] = kind
    for _ in range(draw(st.integers(1, 2))):
        place: Any = document["spec"]
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            what = draw(st.sampled_from(["replace", "add", "remove"]))
            if what == "replace":
                place[key] = draw(VALUES)
            elif what == "remove":
                del place[key]
            elif isinstance(place, dict):
                names = schemas()[kind]["properties"]["spec"]["properties"]
                place[draw(st.sampled_from(sorted(names)) | st.text(max_size=3))] = draw(VALUES)
            else:
                place.append(draw(VALUES))
            break
    return document


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_damaged_objects_are_judged_alike(document: dict[str, Any]) -> None:
    """Yes is yes of the library; no is no of the library, but for lists that only it can compare."""
    kind = document["kind"]
    right = _validator(kind).is_valid(document)
    quick = CONFORMS[kind](document)
    assert right or not quick
    if right and not quick:
        assert _has_list_of_other_than_text(document)


def _has_list_of_other_than_text(value: Any) -> bool:
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_list_of_other_than_text(item) for item in inner)


@pytest.mark.parametrize(
    "keyword",
    [
        {"patternProperties": {}},
        {"not": {}},
        {"anyOf": [{}]},
        {"$ref": "#"},
        {"format": "date"},
        {"enum": [1]},
        {"properties": {"a": {"properties": {"b": {"contains": {}}}}}},
    ],
)
def test_what_the_compiler_does_not_know_is_left_to_the_library(keyword: dict[str, Any]) -> None:
    """Wherever it stands in the schema."""
    assert not compiled({"type": "object", **keyword}, unit_problem)({})


def test_a_field_of_a_later_version_is_for_the_library() -> None:
    """It alone says that the field is not supported yet."""
    assert not compiled({"properties": {"a": {UNSUPPORTED: True}}}, unit_problem)({"a": 1})
