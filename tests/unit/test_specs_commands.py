"""`lanesync validate`, `schema` and `init`: output and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.cli.main import run
from agent.specs.load import load
from agent.specs.starter import starter_files

GOOD = """\
apiVersion: lanesync/v1
kind: Destination
metadata: {name: archive}
spec: {address: 127.0.0.1}
"""


def test_valid_specs_exit_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on standard output, a summary on standard error."""
    (tmp_path / "a.yaml").write_text(GOOD)
    assert run(["validate", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"valid: 1 object in 1 file, digest:[0-9a-f]{12}\n", shown.err)


def test_invalid_specs_exit_5_with_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors go to standard output, one a line, where CI collects them."""
    (tmp_path / "a.yaml").write_text(GOOD.replace("address", "adress"))
    assert run(["validate", str(tmp_path)]) == 5
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f"{tmp_path}/a.yaml:4:1: spec: needs exactly one of `address`, `url`",
        f"{tmp_path}/a.yaml:4:8: spec.adress: unknown key `adress`; did you mean `address`?",
    ]
    assert shown.err == "2 errors in 1 file\n"


def test_json_output_has_the_same_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other programs need not parse lines."""
    (tmp_path / "a.yaml").write_text(GOOD + "---\nkind: Foo\n")
    assert run(["validate", "--output", "json", str(tmp_path)]) == 5
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is False
    assert document["objects"] == [{"object": "Destination/archive", "position": f"{tmp_path}/a.yaml:1"}]
    (error,) = document["errors"]
    assert (error["line"], error["column"], error["path"]) == (6, 7, "kind")


def test_a_folder_without_specs_exits_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped folder does not pass in CI."""
    assert run(["validate", str(tmp_path)]) == 5
    assert "no specs in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["validate"], ["validate", "--nonsense", "."], ["schema", "Mappings"], ["init"]]
)
def test_usage_errors_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong call is told from wrong specs."""
    assert run(arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_schema_prints_one_kind_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    """The kind's case does not matter; the hint names the kind that was meant."""
    assert run(["schema", "mapping"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Mapping"
    assert run(["schema"]) == 0
    assert len(json.loads(capsys.readouterr().out)["oneOf"]) == 6
    assert run(["schema", "Mappings"]) == 2
    assert "did you mean `Mapping`?" in capsys.readouterr().err


def test_starter_repository_is_valid_and_smallest(tmp_path: Path) -> None:
    """`init` writes one destination and one mapping that pass at once."""
    assert run(["init", str(tmp_path / "new" / "repo")]) == 0
    loaded = load([str(tmp_path / "new" / "repo")])
    assert (loaded.errors, loaded.warnings) == ((), ())
    assert sorted(str(key) for key in loaded.positions) == ["Destination/archive", "Mapping/documents"]
    for name in ("specs/archive.yaml", "specs/documents.yaml"):
        first = (tmp_path / "new" / "repo" / name).read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=../lanesync.schema.json"


def test_everything_that_is_off_can_be_turned_on(tmp_path: Path) -> None:
    """Taking the `#` of a field away gives a valid spec."""
    assert run(["init", str(tmp_path)]) == 0
    for path in (tmp_path / "specs").glob("*.yaml"):
        # prose is `# text`; a field that is off is `#` and then the field with its indentation
        path.write_text(re.sub(r"^( *)#(?! \S)", r"\1", path.read_text(), flags=re.M))
    loaded = load([str(tmp_path)])
    assert [str(error) for error in loaded.errors] == []
    assert sorted(str(key) for key in loaded.positions) == [
        "Alert/ops", "Destination/archive", "Mapping/documents", "PriorityLanes/studio-lanes",
        "Server/studio", "Share/review",
    ]  # fmt: skip
    assert loaded.desired is not None
    assert loaded.desired.destinations["archive"].lanes == "studio-lanes"


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file that is there already keeps `init` from writing any."""
    (tmp_path / "README.md").write_text("mine")
    assert run(["init", str(tmp_path)]) == 1
    assert "README.md" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says which file and why."""
    (tmp_path / "specs").write_text("a file, not a folder")
    assert run(["init", str(tmp_path)]) == 1
    assert "specs" in capsys.readouterr().err


def test_starter_has_no_field_that_needs_another_object() -> None:
    """What would be refused as it stands is not offered."""
    text = "".join(content for name, content in starter_files().items() if name.endswith(".yaml"))
    assert "controlServer" not in text
