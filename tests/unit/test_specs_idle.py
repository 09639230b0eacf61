"""What is written and has no effect is said, with its place and what to do; it is no error."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.test_specs_load import DESTINATION, MAPPING, destination, mapping, read

from agent.cli.main import run
from agent.specs.load import load
from agent.specs.select import parse

_PATHS = "paths: {/dailies: /mnt/raid/dailies}"


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ("deletions: {maxCount: 5, grace: 1d}", ["spec.deletions.grace", "spec.deletions.maxCount"]),
        ("deletions: {trash: true, maxPercent: 5%}, onRemove: delete", ["spec.deletions.maxPercent"]),
        ("deletions: {trash: true}", ["spec.deletions.trash"]),
        ("prune: false, deletions: {maxCount: 5}", ["spec.deletions.maxCount"]),
        ("drift: {policy: ignore, interval: 1h}", ["spec.drift.interval"]),
        ("trigger: {watch: false, settle: 1s}", ["spec.trigger.settle"]),
        (
            "trigger: {watch: false, ready: quiet, maxWait: 1h}",
            ["spec.trigger.maxWait", "spec.trigger.ready"],
        ),
        ("trigger: {watch: false, ready: {sentinel: .done}, settle: 1s}", ["spec.trigger.settle"]),
        ("trigger: {ready: quiet, settle: 0s}", ["spec.trigger.ready"]),
        # what does have an effect
        ("prune: true, deletions: {maxCount: 5, maxPercent: 5%, grace: 1d, trash: true}", []),
        ("deletions: {trash: true}, onRemove: delete", []),
        ("drift: {policy: warn, interval: 1h}, verify: {mode: checksum}", []),
        ("drift: {interval: 1h}", []),
        ("trigger: {watch: false, ready: {sentinel: .done}, maxWait: 1h}", []),
        ("trigger: {ready: quiet, settle: 1s, maxWait: 1h}", []),
        ("trigger: {settle: 0s}", []),
    ],
)
def test_a_field_without_its_precondition_is_warned_of(
    tmp_path: Path, fields: str, warned: list[str]
) -> None:
    """Each warning has the line of the field."""
    loaded = read(tmp_path, DESTINATION, mapping(f"{{destination: archive, {_PATHS}, {fields}}}"))
    assert loaded.errors == ()
    assert sorted(w.path for w in loaded.warnings) == warned
    assert all(w.line > 0 and "has no effect" in w.message for w in loaded.warnings)


def test_what_runs_over_a_pause_needs_one(tmp_path: Path) -> None:
    """A rate does not end."""
    window = "{from: '08:00', to: '09:00', %s, overrun: finish}"
    windows = f"windows: [{window % 'sendRateMax: 1Mbit/s'}, {window % 'pause: true'}]"
    loaded = read(tmp_path, destination(f"{{address: archive.example.org, {windows}}}"))
    assert [w.path for w in loaded.warnings] == ["spec.windows[0].overrun"]


def test_a_pattern_with_the_sources_own_path_is_warned_of(tmp_path: Path) -> None:
    """It would look for that path below the source."""
    entry = "{source: /mnt/raid/a, include: [/mnt/raid/a/*.mov, /b/*.mov], exclude: ['!/mnt/raid/a/c']}"
    loaded = read(tmp_path, DESTINATION, mapping(f"{{destination: archive, paths: {{/a: {entry}}}}}"))
    paths = sorted(w.path for w in loaded.warnings)
    assert paths == ['spec.paths["/a"].exclude[0]', 'spec.paths["/a"].include[0]']


def test_what_is_not_selected_is_not_warned_of(tmp_path: Path) -> None:
    """It is another agent's."""
    (tmp_path / "specs.yaml").write_text(DESTINATION + "---\n" + MAPPING + "  deletions: {grace: 1d}\n")
    assert len(load([str(tmp_path)]).warnings) == 1
    assert load([str(tmp_path)], select=parse("site=rome")).warnings == ()


@pytest.mark.parametrize("verb", ["validate", "plan"])
def test_warnings_are_shown_and_change_no_exit_code(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, with file, line and remedy."""
    source = tmp_path / "source"
    source.mkdir()
    specs = tmp_path / "specs"
    specs.mkdir()
    text = f"{DESTINATION}---\n{MAPPING}  deletions: {{grace: 1d}}\n"
    (specs / "a.yaml").write_text(text.replace("/mnt/raid/dailies", str(source)))
    state = [] if verb == "validate" else ["--state-dir", str(tmp_path / "state")]
    assert run([verb, *state, str(specs)]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("warning: ") == 1
    assert f"{specs}/a.yaml:13:" in shown.err
    assert "has no effect without `prune: true`" in shown.err
    assert "has no effect" not in shown.out
