"""Whatever a server sends, the client answers with a result or one of its own errors, and never waits on."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.jetstream import JetstreamError
from agent.jetstream.errors import command_error
from agent.jetstream.wire import Connection, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ENVELOPE = st.fixed_dictionaries({}, optional={"id": JSON | st.just(1), "result": JSON, "error": JSON})
LINES = st.lists(st.binary(max_size=64) | ENVELOPE.map(lambda e: json.dumps(e).encode()), max_size=4)


@contextmanager
def one_answer(answer: bytes) -> Iterator[Connection]:
    """A connection whose other end says `answer` to the first request and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        connection = Connection("127.0.0.1", listener.getsockname()[1], 10)
        try:
            yield connection
        finally:
            connection.close()
            thread.join(60)


@settings(max_examples=150, deadline=None)
@given(LINES)
def test_any_answer_is_a_result_or_an_error_of_ours(lines: list[bytes]) -> None:
    """Broken JSON, wrong shapes, foreign ids, half lines."""
    with one_answer(b"\n".join(lines)) as connection:
        try:
            connection.call("server.echo", {}, 10)
        except JetstreamError as error:
            assert str(error)
        else:
            assert any(b'"result"' in line for line in lines)


@given(JSON)
def test_any_error_member_makes_an_exception_with_a_message(error: Any) -> None:
    """Codes and messages of any type."""
    raised = command_error(error)
    assert str(raised)
    assert isinstance(raised.code, int)


@given(st.dictionaries(st.text(), st.text() | st.binary().map(os.fsdecode), max_size=4))
def test_any_text_is_one_line_and_comes_back(params: dict[str, str]) -> None:
    """Names that are not UTF-8, and line ends, included."""
    line = encode(params)
    assert line.count(b"\n") == 1
    assert json.loads(line) == params


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_deep_json_is_refused(depth: int) -> None:
    """Nesting cannot crash the client."""
    with one_answer(b'{"id":1,"result":' + b"[" * depth + b"]" * depth + b"}\n") as connection:
        with pytest.raises(JetstreamError):
            connection.call("server.echo", {}, 10)
