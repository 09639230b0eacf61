"""The documents tell the truth about what can be checked by machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("specs/*.md")]
)


def named_tests(text: str) -> Iterator[tuple[str, str]]:
    """(file, test) of each `tests/….py::test_…`; `::test_…` alone is of the file that was named before."""
    file = ""
    for named, test in re.findall(r"`(tests/[^`]+?\.py)?::(\w+)`", text):
        file = named or file
        yield file, test


@pytest.mark.parametrize("page", ["guarantees.md", "jetstream-api.md", "security.md"])
def test_every_test_that_is_named_exists(page: str) -> None:
    """What shows a guarantee or a row of the API is there."""
    named = list(named_tests((ROOT / "docs" / page).read_text()))
    assert len(named) > 9
    sources = {file: (ROOT / file).read_text() for file in {file for file, _ in named}}
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in sources[file]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that exists."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_pages_lead_to_a_heading(page: Path) -> None:
    """`#…` is a heading in lower case, without punctuation, or a place that the page names itself."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    anchors |= set(re.findall(r'<a id="([^"]+)">', page.read_text()))
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", page.read_text()) if link not in anchors] == []


def test_every_verb_is_in_the_command_line_page() -> None:
    """docs/cli.md has a row for each verb."""
    from agent.cli.main import VERBS

    page = (ROOT / "docs/cli.md").read_text()
    assert [verb for verb in VERBS if f"`{verb}" not in page] == []
