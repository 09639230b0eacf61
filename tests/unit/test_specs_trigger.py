"""`spec.trigger`: what it means, and how mistakes in it are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.model.spec import Ready, Trigger
from agent.specs.load import Loaded, load

DESTINATION = """
apiVersion: lanesync/v1
kind: Destination
metadata: {name: archive}
spec: {address: archive.example}
"""


def read(folder: Path, trigger: str) -> Loaded:
    mapping = f"spec: {{destination: archive, paths: {{/a: /src}}, trigger: {trigger}}}"
    (folder / "specs.yaml").write_text(
        f"{DESTINATION}---\napiVersion: lanesync/v1\nkind: Mapping\nmetadata: {{name: dailies}}\n{mapping}\n"
    )
    return load([str(folder)])


def trigger_of(folder: Path, text: str) -> Trigger:
    loaded = read(folder, text)
    assert loaded.desired is not None, loaded.errors
    return loaded.desired.mappings["dailies"].trigger


def test_a_schedule_has_a_zone(tmp_path: Path) -> None:
    """UTC unless another is named; the interval stays as it is while changes are watched."""
    found = trigger_of(tmp_path, "{schedule: '0 2 * * mon-fri', timezone: Europe/Paris}")
    assert (found.schedule, found.timezone, found.interval) == ("0 2 * * mon-fri", "Europe/Paris", 600.0)
    assert trigger_of(tmp_path, "{schedule: '@daily'}").timezone == "UTC"


def test_without_watching_and_interval_the_schedule_alone_decides(tmp_path: Path) -> None:
    """An interval that is written holds, too."""
    assert trigger_of(tmp_path, "{watch: false, schedule: '@daily'}").interval is None
    assert trigger_of(tmp_path, "{watch: false, schedule: '@daily', interval: 1h}").interval == 3600.0
    assert trigger_of(tmp_path, "{watch: false}").interval == 600.0


def test_a_sentinel_is_a_way_to_be_ready(tmp_path: Path) -> None:
    """It has the name of the file that says so."""
    found = trigger_of(tmp_path, "{ready: {sentinel: .done}}")
    assert (found.ready, found.sentinel) == (Ready.SENTINEL, ".done")
    assert trigger_of(tmp_path, "{ready: quiet}").sentinel is None


@pytest.mark.parametrize(
    ("trigger", "path", "said"),
    [
        ("{schedule: '0 26 * * *'}", "spec.trigger.schedule", "wrong hour"),
        ("{schedule: every night}", "spec.trigger.schedule", "write five (minute, hour"),
        ("{schedule: '@nightly'}", "spec.trigger.schedule", "not one of @yearly"),
        ("{schedule: '@daily', timezone: Mars/X}", "spec.trigger.timezone", "`Mars/X` is not a time zone"),
        ("{timezone: Europe/Paris}", "spec.trigger.timezone", "belongs to `schedule`"),
        ("{ready: soon}", "spec.trigger.ready", "`closed`, `quiet` or `{sentinel: NAME}`"),
        ("{ready: {sentinel: a/b}}", "spec.trigger.ready.sentinel", "plain name of a file"),
        ("{ready: {sentinel: ..}}", "spec.trigger.ready.sentinel", "plain name of a file"),
        ("{ready: {sentinal: .done}}", "spec.trigger.ready", "sentinel"),
        ("{ready: 5}", "spec.trigger.ready", "text or a mapping"),
        ("{settle: 2h}", "spec.trigger.settle", "`maxWait`"),
    ],
)
def test_mistakes_are_told_with_what_to_write(tmp_path: Path, trigger: str, path: str, said: str) -> None:
    """Each at its field, with the value that would be right."""
    (error,) = read(tmp_path, trigger).errors[:1]
    assert error.path.startswith(path) and said in error.message, str(error)
