"""Names that specs and sources give can hold anything; whoever reads of them has a terminal, or a parser."""

from __future__ import annotations

import json
import os
import subprocess
import unicodedata
from pathlib import Path

import pytest
import requests
from agents import SPECS, World, world
from servers import eventually

pytestmark = pytest.mark.e2e

EVIL = "a\x1b[2J\x1b]0;mine\x07\r\nInSync: yes\u202e\u2028\x9b31m"
"""Clears the screen, sets the title, writes a line of its own, turns the reading direction."""


def said(w: World, *arguments: str) -> str:
    """Everything that a verb writes, byte for byte."""
    done = subprocess.run(w.command(*arguments), capture_output=True, check=False, timeout=60)
    return (done.stdout + done.stderr).decode("utf-8")


def fetched(w: World, path: str) -> str:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"http://{w.status()['agent']['http']}{path}", timeout=60).content.decode("utf-8")


def controlling(text: str) -> list[str]:
    """What in a text is more than characters and line ends."""
    return [
        line
        for line in text.split("\n")
        if any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") and c != "\t" for c in line)
    ]


def hostile(w: World) -> str:
    spec = {
        "destination": "archive",
        "destinationPath": f"/paris/{EVIL}",
        "paths": {f"/in {EVIL}": {"source": str(w.source), "exclude": [EVIL.replace("\n", "")]}},
        "trigger": {"interval": "1h", "settle": "100ms"},
        "prune": True,
        "verify": {"mode": "checksum"},
    }
    other = {"destination": "archive", "destinationPath": "/other", "paths": {"/": f"/nowhere/{EVIL}"}}
    labels = {"site": EVIL, f"k{EVIL}": "v"}
    head = {"apiVersion": "lanesync/v1", "kind": "Mapping"}
    documents = [
        {
            **head,
            "metadata": {"name": "dailies", "labels": labels, "annotations": {EVIL: EVIL}},
            "spec": spec,
        },
        {**head, "metadata": {"name": "gone", "labels": labels}, "spec": other},
        {
            "apiVersion": "lanesync/v1",
            "kind": "Share",
            "metadata": {"name": "s"},
            "spec": {"mapping": "dailies", "description": EVIL},
        },
    ]
    text = "".join("\n---\n" + json.dumps(document) for document in documents)
    return SPECS.format(port=w.port, destination="") + text


def test_no_name_reaches_a_terminal_as_it_is(tmp_path: Path) -> None:
    """Not in an answer, not in the log, not in the metrics; what is delivered keeps its name."""
    with world(tmp_path) as w:
        name = EVIL.replace("/", "")
        (w.source / name).write_text("x")
        (w.source / os.fsdecode(b"latin\xe9\x1b[31m")).write_text("x")
        (w.specs / "specs.yaml").write_text(hostile(w))
        assert controlling(said(w, "plan", str(w.specs), "--reasons", "--limit", "20")) == []
        w.start()
        place = w.received / "paris" / EVIL / f"in {EVIL}"
        eventually(lambda: (place / name).exists(), what="the file under its own name")
        assert said(w, "suspend", "Mapping/gone", "--reason", EVIL)
        (w.source / name).unlink()
        eventually(lambda: not (place / name).exists(), what="the file is deleted")
        mine = ["Mapping/dailies", "Mapping/gone", "Share/s"]
        verbs = [
            ["validate", str(w.specs)],
            ["plan", str(w.specs)],
            ["status"],
            ["status", "--output", "json"],
            *(["status", key] for key in mine),
            ["get"],
            ["get", "Mapping", "--output", "yaml"],
            *(["describe", key] for key in mine),
            ["events"],
            ["history"],
            ["history", "--files"],
            ["history", "--path", str(place / name)],
            ["explain", str(w.source / name)],
            ["explain", f"/paris/{EVIL}"],
            ["verify", "--checksum"],
            ["reconcile", EVIL],
            ["describe", f"Mapping/{EVIL}"],
            ["get", EVIL],
            ["validate", str(tmp_path / EVIL)],
            ["status", "--select", EVIL],
            ["run", "--git", f"/{EVIL}"],
        ]
        found = {" ".join(verb): controlling(said(w, *verb)) for verb in verbs}
        assert {verb: lines for verb, lines in found.items() if lines} == {}
        for path in ("/metrics", "/api/v1/status", "/api/v1/events"):
            assert controlling(fetched(w, path)) == []
        assert w.stop() == 0
        assert controlling(w.log.read_text()) == []
