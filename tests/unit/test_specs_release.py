"""`release: deleteSource` in specs: what it must not stand beside."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.model.spec import Release
from agent.specs.load import Loaded, load
from agent.specs.policy import Policy
from agent.specs.policy_rules import parse_address, parse_path

POLICY = Policy(
    "policy.yaml",
    sources=(parse_path("/"),),
    addresses=(parse_address({"host": "*"}),),
    release=(parse_path("/mnt/cards"),),
)
DESTINATION = """
apiVersion: lanesync/v1
kind: Destination
metadata: {name: archive}
spec: {address: archive.example}
"""
MAPPING = """
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {name: %s}
spec: {destination: archive, destinationPath: /%s, %s}
"""


def read(folder: Path, *mappings: str, policy: Policy | None = POLICY) -> Loaded:
    names = ("one", "two")
    texts = [MAPPING % (name, name, fields) for name, fields in zip(names, mappings, strict=False)]
    (folder / "specs.yaml").write_text(DESTINATION + "".join(texts))
    return load([str(folder)], policy=policy)


def test_it_is_read(tmp_path: Path) -> None:
    """`keep` is what it is unless written."""
    loaded = read(
        tmp_path, "paths: {/a: /mnt/cards/a}, release: deleteSource", "paths: {/b: /b}, release: keep"
    )
    assert loaded.desired is not None, loaded.errors
    assert loaded.desired.mappings["one"].release is Release.DELETE_SOURCE
    assert loaded.desired.mappings["two"].release is Release.KEEP


@pytest.mark.parametrize(
    ("mappings", "said"),
    [
        (["paths: {/a: /mnt/cards/a}, release: deleteSource, prune: true"], "contradict each other"),
        (["paths: {/a: /mnt/raid}, release: deleteSource"], "`spec.release` allows /mnt/cards"),
        (
            ["paths: {/a: /mnt/cards/a}, release: deleteSource", "paths: {/b: /mnt/cards}"],
            "what Mapping/two reads there, too",
        ),
        (
            ["paths: {/a: /mnt/cards/a}, release: deleteSource", "paths: {/b: /mnt/cards/a/b}"],
            "what Mapping/two reads there, too",
        ),
        (
            ["paths: {/a: /mnt/cards/a, /b: /mnt/cards/a}, release: deleteSource"],
            "what another entry of this mapping reads",
        ),
        (
            ["paths: {/a: /mnt/cards/a, /b: /mnt/cards/a/sub}, release: deleteSource"],
            "what another entry of this mapping reads",
        ),
        (["paths: {/a: /mnt/cards/a}, release: delete"], "deleteSource"),
    ],
)
def test_what_it_must_not_stand_beside(tmp_path: Path, mappings: list[str], said: str) -> None:
    """It is an error at its place."""
    errors = read(tmp_path, *mappings).errors
    assert errors
    assert {error.path for error in errors} == {"spec.release"}
    assert any(said in error.message for error in errors), errors


def test_neighbours_are_no_matter(tmp_path: Path) -> None:
    """Nor what only begins with the same letters."""
    loaded = read(tmp_path, "paths: {/a: /mnt/cards/a, /b: /mnt/cards/a-b}, release: deleteSource")
    assert loaded.errors == ()
    loaded = read(tmp_path, "paths: {/a: /mnt/cards/a}, release: deleteSource", "paths: {/b: /mnt/cards/ab}")
    assert loaded.errors == ()


def test_without_a_policy_it_is_refused(tmp_path: Path) -> None:
    """And told what to write."""
    [error] = read(tmp_path, "paths: {/a: /mnt/cards/a}, release: deleteSource", policy=None).errors
    assert error.path == "spec.release"
    assert "list their directories in `spec.release` of a file, and start with --policy" in error.message
