"""Hostile specs: any bytes and any YAML give errors or a desired state, never an exception."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.specs.load import Loaded, load
from agent.specs.reference import fields
from agent.specs.schemas import schemas, supported_kinds

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEYS = sorted({field["path"].rsplit(".", 1)[-1] for kind in schemas() for field in fields(schemas()[kind])})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["10%", "5s", "1Mbit/s", "/a", "/a/../b", "archive", "always", "127.0.0.1:0", "closed", "~/x", "0B"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def check(data: bytes) -> Loaded:
    """Load one file and hold what must be true of any result."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "a.yaml").write_bytes(data)
        loaded = load([directory])
    assert (loaded.desired is None) == bool(loaded.errors)
    for error in loaded.errors:
        assert "\n" not in str(error)
        str(error).encode("utf-8")
        assert error.message
    for mapping in loaded.valid.mappings.values():
        assert mapping.destination_path.startswith("/")
        assert ".." not in mapping.destination_path.split("/")
        assert all(name in loaded.valid.destinations for name in mapping.destinations)
        assert all(entry.source.startswith("/") for entry in mapping.paths)
    for destination in loaded.valid.destinations.values():
        assert destination.server in loaded.valid.servers
        assert loaded.valid.lanes_of(destination)
    assert loaded.effective(loaded.valid).mappings == loaded.valid.mappings
    return loaded


@SLOW
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """A file of garbage is an error line."""
    check(data)


@SLOW
@given(st.text(alphabet="abk:{}[]&*!|>'\"%@`,#-? \n\t0~<", max_size=120))
def test_any_yaml_punctuation(text: str) -> None:
    """What looks like YAML is parsed or refused."""
    check(text.encode())


@SLOW
@given(st.sampled_from(supported_kinds()), VALUES)
def test_any_value_as_spec(kind: str, spec: Any) -> None:
    """Fields of the right names with values of any type are checked, not believed."""
    document = {"apiVersion": "lanesync/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    check(json.dumps(document).encode())


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A valid object with one value somewhere replaced."""
    kind = draw(st.sampled_from(supported_kinds()))
    document = json.loads(json.dumps(schemas()[kind]["examples"][0]))
    place: Any = document
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        place[key] = draw(VALUES)
        return document


@SLOW
@given(st.lists(damaged(), min_size=1, max_size=4))
def test_damaged_objects(documents: list[dict[str, Any]]) -> None:
    """A valid set with wrong values here and there never raises, and never half takes effect."""
    check("\n---\n".join(json.dumps(document) for document in documents).encode())
