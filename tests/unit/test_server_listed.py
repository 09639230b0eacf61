"""A page that another server sends is believed only where it makes sense."""

from __future__ import annotations

from typing import Any

import pytest

from agent.server import listed

DIGEST = "0123456789abcdef"


def row(path: Any = "/d/a", kind: Any = "file", size: Any = 1, mtime: Any = -5, *more: Any) -> list[Any]:
    return [path, kind, size, mtime, *(more or (False, DIGEST))]


def page(rows: Any, following: Any = None, after: bytes = b"", limit: int = 10) -> listed.Page:
    return listed.page({"results": rows, "next": following}, b"/d", after, limit)


def test_a_sound_page_is_taken_as_it_is() -> None:
    """Also one that is empty, of the directory itself, of names that are no text, and one that goes on."""
    assert page([]) == listed.Page([], None)
    assert page([row("/d", "directory", 0, 0, False, "")]).files[0].path == "/d"
    found = page([row(), row("/d/b\udcff", "link")], following="/d/b\udcff")
    assert [(file.path, file.size, file.mtimeNs) for file in found.files] == [
        ("/d/a", 1, -5),
        ("/d/b\udcff", 1, -5),
    ]
    assert found.next == "/d/b\udcff"


@pytest.mark.parametrize(
    "rows",
    [
        None,
        {"/d/a": 1},
        "rows",
        [None],
        [[]],
        [row()[:-1]],
        [[*row(), 1]],
        [row("/e/a")],
        [row("/da")],
        [row("/")],
        [row("/d/../e")],
        [row("/d//a")],
        [row("/d/a/")],
        [row("d/a")],
        [row("/d/\0")],
        [row("/d/" + "n" * 256)],
        [row("/d/" + "n/" * 2100 + "n")],
        [row("/d/\ud800")],
        [row(7)],
        [row(kind="door")],
        [row(kind=["file"])],
        [row(size=-1)],
        [row(size=2**63)],
        [row(size=1.5)],
        [row(size=True)],
        [row(size="1")],
        [row(mtime=2**63)],
        [row(mtime=None)],
        [row("/d/a", "file", 1, 1, "x", DIGEST)],
        [row("/d/a", "file", 1, 1, False, "ABCDEF0123456789")],
        [row("/d/a", "file", 1, 1, False, None)],
        [row("/d/b"), row("/d/a")],
        [row("/d/a"), row("/d/a")],
        [row(f"/d/{number:02}") for number in range(11)],
    ],
)
def test_a_page_that_cannot_be_is_refused(rows: Any) -> None:
    """Whatever stands where a file should be."""
    with pytest.raises(ValueError, match=r"\w"):
        page(rows)


@pytest.mark.parametrize("following", ["", "/d/0", "/d/a/more", "/d/z", 7, ["/d/a"], False])
def test_the_next_page_begins_where_this_one_ends(following: Any) -> None:
    """So that a listing moves forward with every page."""
    with pytest.raises(ValueError, match="next page"):
        page([row()], following)
    with pytest.raises(ValueError, match="next page"):
        page([], "/d/a")


def test_a_page_begins_after_what_was_asked_for() -> None:
    """The same files again and again are no progress."""
    with pytest.raises(ValueError, match="does not come after"):
        page([row("/d/a")], after=b"/d/a")
