"""What an answer of the FTS3 service that is no success becomes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fts3_service import BANNED_PAGE, no_job, not_yours

from agent.fts3 import errors
from agent.fts3.errors import FTS3ClientException, Kind, error_for, what_it_says


def said(message: str, status: str = "400 Bad Request") -> bytes:
    return json.dumps({"status": status, "message": message}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "error", "text"),
    [
        (301, b"", Kind.PERMANENT, errors.BadEndpoint, "redirects"),
        (400, said("status can only be cancel or wait"), Kind.PERMANENT, errors.ClientError, "cancel or"),
        (401, said("who are you"), Kind.NEEDS_CREDENTIAL, errors.Unauthorized, "who are you"),
        (403, said("Not enough permissions"), Kind.NOT_PERMITTED, errors.Unauthorized, "Not enough"),
        (403, said("Certificate required"), Kind.NEEDS_CREDENTIAL, errors.Unauthorized, "Certificate"),
        (403, said("gsiftp://example.com is banned"), Kind.BANNED, errors.Unauthorized, "gsiftp://example.com"),
        (403, BANNED_PAGE.encode(), Kind.BANNED, errors.Unauthorized, "The user has been banned"),
        (403, json.dumps(not_yours()).encode(), Kind.NOT_PERMITTED, errors.Unauthorized, "Not enough"),
        (404, json.dumps(no_job()).encode(), Kind.LOST, errors.NotFound, "No job with the id"),
        (404, said(no_job()["http_message"]), Kind.LOST, errors.NotFound, "No job with the id"),
        (404, said("Link x does not exist"), Kind.PERMANENT, errors.NotFound, "Link x"),
        (405, said("no deletions"), Kind.PERMANENT, errors.MethodNotAllowed, "no deletions"),
        (409, said("The sid provided by the user is duplicated"), Kind.PERMANENT, errors.Conflict, "sid"),
        (419, said("No delegation found"), Kind.NEEDS_CREDENTIAL, errors.NeedDelegation, "No delegation"),
        (424, said("no VOMS"), Kind.PERMANENT, errors.FailedDependency, "no VOMS"),
        (418, said("tea"), Kind.PERMANENT, errors.ClientError, "tea"),
        (429, said("slowly"), Kind.RETRYABLE, errors.ClientError, "slowly"),
        (500, said("encoding without a string argument"), Kind.RETRYABLE, errors.ServerError, "encoding"),
        (501, b"", Kind.PERMANENT, errors.ServerError, "no explanation"),
        (503, said("later"), Kind.RETRYABLE, errors.TryAgain, "later"),
    ],
)  # fmt: skip
def test_each_status_has_its_exception_kind_and_text(
    status: int, body: bytes, kind: Kind, error: type[Exception], text: str
) -> None:
    found = error_for(status, body, resource="https://fts3.example.org:8446/jobs")
    assert type(found) is error
    assert (found.kind, found.status) == (kind, status)
    assert text in str(found)


def test_the_tree_is_that_of_the_bindings() -> None:
    parents = {
        "BadEndpoint": "FTS3ClientException",
        "Unauthorized": "FTS3ClientException",
        "MethodNotAllowed": "FTS3ClientException",
        "NotFound": "FTS3ClientException",
        "ClientError": "FTS3ClientException",
        "NeedDelegation": "ClientError",
        "FailedDependency": "ClientError",
        "Conflict": "ClientError",
        "PartialAnswer": "ClientError",
        "BadCredential": "ClientError",
        "ServerError": "FTS3ClientException",
        "TryAgain": "ServerError",
        "NoAnswer": "BadEndpoint",
    }
    assert {name: getattr(errors, name).__base__.__name__ for name in parents} == parents


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (BANNED_PAGE, "The user has been banned"),
        ("<html><head><title>503 Busy</title></head><body></body></html>", "503 Busy"),
        ("<html><style>p {}</style><script>var x</script><b>proxy error</b></html>", "proxy error"),
        ("<p>a &amp; b\n\n c</p>", "a & b c"),
    ],
)
def test_of_a_page_its_words_are_kept_and_not_its_markup(page: str, text: str) -> None:
    assert what_it_says(page.encode()).text == text


def test_texts_of_several_jobs_are_joined() -> None:
    body = json.dumps([no_job("a"), {"job_id": "b"}, not_yours("c")]).encode()
    assert what_it_says(body).text.count(";") == 1


def test_a_text_is_one_printable_line_of_bounded_length() -> None:
    text = str(error_for(400, json.dumps({"message": "a\x1b[31m\r\nb" + "x" * 5000}).encode()))
    assert text.startswith("a [31m b")
    assert len(text) < 1100


@given(st.integers(-1, 1200), st.binary(max_size=300))
def test_every_status_and_body_has_an_exception(status: int, body: bytes) -> None:
    found = error_for(status, body)
    assert isinstance(found, FTS3ClientException)
    assert isinstance(found.kind, Kind)
    assert str(found)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["message", "http_message", "job_id", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.integers(300, 599), json_values)
def test_every_json_body_is_read(status: int, value: object) -> None:
    assert str(error_for(status, json.dumps(value).encode()))


@given(st.text(alphabet="<>/aphtmlei !-\"'&;=", max_size=80))
def test_every_page_is_read(page: str) -> None:
    assert isinstance(what_it_says(b"<" + page.encode()).text, str)
