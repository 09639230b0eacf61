"""Sandboxes: what a path of a user means, and what may be set as a mapping."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server.confine import STAGING, FileError
from agent.server.errors import CommandError
from agent.server.sandboxes import Root, Roots, expand, parse_mapping, roots_from_json

WHOLE = Roots((Root(b"/", b"/srv/alice"),))
NAMED = Roots((Root(b"/media", b"/mnt/media"), Root(b"/docs", b"/srv/docs")))
COMPONENTS = st.lists(
    st.sampled_from([b"", b".", b"..", b"a", b"\xff", STAGING, b"media", b"docs", b"n\0l", b"etc"]),
    max_size=6,
)


@given(st.sampled_from([WHOLE, NAMED]), st.sampled_from([(), (b"media",), (b"docs", b"x")]), COMPONENTS)
def test_a_path_leads_below_a_root_or_nowhere(
    roots: Roots, below: tuple[bytes, ...], parts: list[bytes]
) -> None:
    """Whatever the path says: what is opened lies below a root's directory, and never in its staging."""
    roots = Roots(roots.roots, below)
    try:
        place = roots.resolve(b"/".join(parts))
    except FileError:
        return
    if place is None:
        assert len(roots.roots) > 1 and not below
        return
    assert place.base in [root.base for root in roots.roots]
    assert not {b"", b".", b".."} & set(place.parts) and not any(b"/" in part for part in place.parts)
    assert place.parts[:1] != (STAGING,)


def test_the_first_name_chooses_one_of_several_roots() -> None:
    place = NAMED.resolve(b"/docs/a/b")
    assert place is not None and (place.base, place.parts) == (b"/srv/docs", (b"a", b"b"))
    assert NAMED.resolve(b"/") is None
    assert NAMED.names() == ["/docs", "/media"]
    with pytest.raises(FileError, match="no root etc; lsRoots"):
        NAMED.resolve(b"/etc/passwd")


def test_a_token_with_a_path_begins_there() -> None:
    held = Roots(NAMED.roots, (b"docs", b"public"))
    place = held.resolve(b"/x")
    assert place is not None and (place.base, place.parts) == (b"/srv/docs", (b"public", b"x"))
    assert held.names() == ["/"]
    with pytest.raises(FileError):
        held.resolve(b"/../private")


def test_roots_survive_their_json_also_with_names_that_are_no_text() -> None:
    roots = Roots((Root(b"/\xff", b"/srv/\xfe"),), (b"\xfd",))
    assert roots_from_json(roots.as_json()) == roots


@pytest.mark.parametrize(
    ("mapping", "stored"),
    [
        ({"media": "/mnt/media"}, {"/media": {"type": "file", "path": "/mnt/media"}}),
        ({"/": {"type": "File", "path": "/srv/%u"}}, {"/": {"type": "file", "path": "/srv/%u"}}),
    ],
)
def test_a_mapping_is_stored_in_one_form(mapping: dict[str, object], stored: dict[str, object]) -> None:
    assert parse_mapping(mapping) == stored


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({}, "1 to 64 roots"),
        ({"a/b": "/x"}, "not the name of a root"),
        ({"..": "/x"}, "not the name of a root"),
        ({".lanesync": "/x"}, "reserved"),
        ({"/": "/x", "a": "/y"}, "the whole sandbox"),
        ({"a": "/x", "/a": "/y"}, "two roots"),
        ({"a": "relative"}, "must be absolute"),
        ({"a": "/x/../y"}, "must not contain '..'"),
        ({"a": "/x/%d"}, "%d stands for nothing"),
        ({"a": "/x/%"}, "% stands for nothing"),
        ({"a": {"type": "s3", "bucketName": "b"}}, "type 's3' are not available; mount"),
        ({"a": {"type": "file"}}, "path must be"),
        ({"a": {"type": "file", "path": "/x", "userName": "u"}}, "no field 'userName'"),
        ({"a": 7}, "path must be"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_with_the_reason(
    mapping: dict[str, object], says: str
) -> None:
    with pytest.raises(CommandError, match=says):
        parse_mapping(mapping)


def test_placeholders_stand_for_the_user_and_for_percent() -> None:
    assert expand("/srv/%u/in", "alice") == b"/srv/alice/in"
    assert expand("/srv/100%%u/%u", "bob") == b"/srv/100%u/bob"
    assert expand("/srv/shared", "any/thing") == b"/srv/shared"


@pytest.mark.parametrize("user", ["", ".", "..", "a/b", "../root", "n\0l", ".lanesync", "x" * 256])
def test_a_user_name_cannot_lead_out_of_the_sandboxes(user: str) -> None:
    with pytest.raises(CommandError, match="can have no sandbox"):
        expand("/srv/%u", user)


@given(st.text(max_size=20))
def test_a_sandbox_of_a_user_lies_directly_below_the_folder_of_all(user: str) -> None:
    try:
        found = expand("/srv/%u", user)
    except (CommandError, UnicodeEncodeError):
        return
    assert os.path.dirname(found) == b"/srv" and found != b"/srv"
