"""Pages that are made from the code say what it says now, and what it lists is complete in the pages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agent.cli.main import VERBS
from agent.model.condition import ConditionType, Reason
from agent.specs.load import load

ROOT = Path(__file__).resolve().parents[2]
HOWTOS = sorted((ROOT / "docs/howto").glob("*.md"))


def test_the_reference_of_commands_is_what_help_prints() -> None:
    """`python -m agent.cli.reference > docs/cli-reference.md` renews it. Line breaks are click's."""
    page = (ROOT / "docs/cli-reference.md").read_text()
    # in a process of its own: click keeps a help option as it was first asked for, by other tests here
    made = subprocess.run([sys.executable, "-m", "agent.cli.reference"], capture_output=True, check=True)
    assert page.split() == made.stdout.decode().split()
    assert re.findall(r"(?m)^## `lanesync (\w+)`$", page) == list(VERBS)


def test_each_reason_has_a_section() -> None:
    """And no section is of a reason that is none; each type is in the table."""
    page = (ROOT / "docs/conditions.md").read_text()
    parts = re.split(r"(?m)^### ", page)
    assert [part.splitlines()[0] for part in parts[1:]] == [str(reason) for reason in Reason]
    for part in parts[1:]:
        assert len(" ".join(part.splitlines()[1:]).split()) > 8, part
    assert set(re.findall(r"(?m)^\| `(\w+)`", page)) == {str(kind) for kind in ConditionType}


@pytest.mark.parametrize("page", sorted((ROOT / "docs/kinds").glob("*.md")), ids=lambda page: page.stem)
def test_reasons_in_tables_exist(page: Path) -> None:
    """A reader may look for the word in a status."""
    rows = re.findall(r"(?m)^\| (\w+) \| ([\w, ]+) \|", page.read_text().partition("\n## Status\n")[2])
    told = [(kind, reason) for kind, reasons in rows if kind != "condition" for reason in reasons.split(", ")]
    assert told
    assert [row for row in told if row[0] not in set(ConditionType) or row[1] not in set(Reason)] == []


@pytest.mark.parametrize("page", HOWTOS, ids=lambda page: page.stem)
def test_specs_of_how_tos_are_valid(page: Path, tmp_path: Path) -> None:
    """What a reader copies works as it stands."""
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        loaded = load([str(file)])
        assert ([str(error) for error in loaded.errors], loaded.warnings) == ([], ())
        assert loaded.positions


def test_each_page_is_in_the_site_s_menu() -> None:
    """And the menu names no other."""
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    assert sorted(_leaves(menu)) == sorted(pages)


def _leaves(menu: object) -> list[str]:
    if isinstance(menu, str):
        return [menu]
    entries = menu.values() if isinstance(menu, dict) else menu
    return [leaf for entry in entries for leaf in _leaves(entry)]


def test_each_how_to_is_told_of_in_the_readme_or_the_first_page() -> None:
    """Nobody has to know that they are there."""
    text = (ROOT / "README.md").read_text() + (ROOT / "docs/index.md").read_text()
    assert [page.name for page in HOWTOS if f"howto/{page.name})" not in text] == []
