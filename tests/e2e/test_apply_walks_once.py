"""`apply --yes` over a tree in which nothing changed: what it costs is one walk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from freeports import free_port

from agent.cli.main import run
from agent.reconcile import survey
from agent.source.scan import Listing, scan_tree

SPECS = """\
apiVersion: lanesync/v1
kind: Server
metadata: {{name: here}}
spec: {{engine: embedded, listen: "127.0.0.1:{port}", receiveRoot: {received}}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{server: here, address: 127.0.0.1, port: {port}}}
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: tree}}
spec:
  destination: archive
  trigger: {{settle: 0s}}
  paths: {{/tree: {source}}}
"""


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories that were listed, each time one was."""
    found: list[str] = []

    def counted(*arguments: Any) -> Iterator[Listing]:
        for listing in scan_tree(*arguments):
            found.append(listing.directory)
            yield listing

    monkeypatch.setattr(survey, "scan_tree", counted)
    return found


def apply(tmp_path: Path) -> int:
    command = ["apply", str(tmp_path / "specs"), "--state-dir", str(tmp_path / "state")]
    return run([*command, "--yes", "--timeout", "60s"])


def test_a_plan_that_nobody_is_shown_is_not_made(tmp_path: Path, walked: list[str]) -> None:
    source, received = tmp_path / "source", tmp_path / "received"
    (source / "d").mkdir(parents=True), (tmp_path / "specs").mkdir()
    (source / "d" / "a").write_bytes(b"a")
    text = SPECS.format(received=received, port=free_port(), source=source)
    (tmp_path / "specs" / "all.yaml").write_text(text)
    assert apply(tmp_path) == 0
    assert (received / "tree" / "d" / "a").read_bytes() == b"a"
    walked.clear()
    assert apply(tmp_path) == 0
    assert sorted(walked) == ["", "d"]
