"""The documents tell the truth about what can be checked by machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("specs/*.md")]
)


def test_every_test_named_by_a_guarantee_exists() -> None:
    """docs/guarantees.md names tests that are there."""
    named = re.findall(r"`(tests/\S+?\.py)::(\w+)`", (ROOT / "docs/guarantees.md").read_text())
    assert len(named) > 20
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that exists."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_verb_is_in_the_command_line_page() -> None:
    """docs/cli.md has a row for each verb."""
    from agent.cli.main import VERBS

    page = (ROOT / "docs/cli.md").read_text()
    assert [verb for verb in VERBS if f"`{verb}" not in page] == []
