"""What specs of FTS3 servers say, and what they must say together with mappings."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.specs.load import Loaded, load

SERVER = """
apiVersion: lanesync/v1
kind: Server
metadata: {{name: grid}}
spec:
  engine: fts3
  endpoint: https://fts3.example.org:8446
  auth: {{token: {{env: TOKEN}}}}
  storage: [{{path: /data, url: "davs://se.example.org/data"}}, {{path: /fast, url: "davs://ssd.example.org/"}}]
{more}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{server: grid, url: "davs://tape.example.org/in"}}
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: dailies}}
spec: {{destination: archive, paths: {{/: {source}}}}}
"""


def read(tmp_path: Path, source: str, more: str = "") -> Loaded:
    (tmp_path / "specs.yaml").write_text(SERVER.format(source=source, more=more))
    return load([tmp_path])


@pytest.mark.parametrize("source", ["/data", "/data/deep/er", "/fast/x"])
def test_a_source_below_a_storage_is_fine(tmp_path: Path, source: str) -> None:
    loaded = read(tmp_path, source)
    assert list(loaded.errors) == []


@pytest.mark.parametrize("source", ["/other", "/database", "/"])
def test_a_source_that_no_storage_serves_is_refused_with_the_remedy(tmp_path: Path, source: str) -> None:
    (error,) = read(tmp_path, source).errors
    text = str(error)
    assert f"{source} is below no path of `storage` of Server/grid (/data, /fast)" in text
    assert "add the directory there" in text
    assert "spec.paths" in text


@pytest.mark.parametrize(("more", "expected"), [("", True), ("  verifyChecksum: none", False)])
def test_checksums_are_compared_unless_a_storage_has_none(tmp_path: Path, more: str, expected: bool) -> None:
    desired = read(tmp_path, "/data", more).desired
    assert desired is not None
    assert desired.servers["grid"].verify_checksum is expected
