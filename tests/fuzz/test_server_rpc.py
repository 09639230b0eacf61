"""Any JSON on the control port: answered, never an exception, never a half-made object."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.jetstream import constants, keys
from agent.server import identity
from agent.server.access import Credentials
from agent.server.clock import SystemClock
from agent.server.core import open_core
from agent.server.errors import RpcError
from agent.server.main import _Server, _wire
from agent.server.options import ServeOptions
from agent.server.registry import Registry
from agent.server.rpc import _bounded, parse
from agent.server.session import Session
from agent.server.store.database import Database

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["1", "/", "..", "\0", "\ud800", "\udcff", "127.0.0.1", "High"])
)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_CODES = {
    value for name, value in vars(constants).items() if name.startswith("ERROR_") and isinstance(value, int)
} - {constants.ERROR_INTERNAL}
_BLOCKING = {
    *("server.sleep", "server.recvDiscoverPacket", "server.sendDiscoverPacket"),
    *("lanesync.waitEvents", "send.schedulePing", "lanesync.deletePaths"),
    "server.authToken",  # failures are slowed
}


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[_Server, asyncio.AbstractEventLoop]]:
    folder: Path = tmp_path_factory.mktemp("rpc")
    loop = asyncio.new_event_loop()
    identity.ensure(folder, ["localhost"], time.time())
    database = Database(folder / "server.db")
    core = loop.run_until_complete(open_core(ServeOptions(folder), database, SystemClock()))
    with open(folder / "lock", "w") as lock:
        server = _wire(core, Credentials("me"), lock.fileno())
        yield server, loop
        loop.run_until_complete(server.stop())
    database.close()
    loop.close()


def _methods(server: _Server) -> list[str]:
    registry: Registry = server.dispatcher._registry
    return [name for name in registry.names() if name.removesuffix("Async") not in _BLOCKING]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_parameters_of_any_method_are_answered(
    inside: tuple[_Server, asyncio.AbstractEventLoop], data: st.DataObject
) -> None:
    """The answer is a result, or an error with a known code; never an internal error."""
    server, loop = inside
    method = data.draw(st.sampled_from(_methods(server)))
    command = server.dispatcher._registry.find(method)
    names = [parameter.name for parameter in command.parameters]
    keys = st.sampled_from(names) | st.text(max_size=5) if names else st.text(max_size=5)
    params: Any = data.draw(st.dictionaries(keys, _json, max_size=6) | _json)
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    line = loop.run_until_complete(server.dispatcher.handle(Session(user="me"), message))
    assert line is not None
    answer = json.loads(line)
    assert answer["id"] == 1
    assert "result" in answer or answer["error"]["code"] in _CODES, answer


_WRONG: tuple[Any, ...] = (
    *(True, 0, -1, 1, 2**63, -(2**63) - 1, 10**300, 0.5, 1e308, "", "\0", "\ud800", "/../..", "x" * 5000),
    *([], {}, [[]], {"": None}, {"transferId": {}}, {"token": 5}, [1], ["/", 7], {"/": {"src": 5}}),
    *(
        {"x": "y"},
        {"High": "much"},
        {"High": 1e308, "Low": -1e308},
        "1",
        7.0,
        "/nowhere",
        "127.0.0.1",
        "f" * 48,
    ),
)


_KEY = keys.encode(Ed25519PrivateKey.generate().public_key())


def _some_value(convert: Callable[[Any], Any]) -> Any:
    """One that the parameter takes."""
    for value in (1, "1", "/x", False, {}, [], "f" * 48, {"a": "b"}, _KEY):
        with contextlib.suppress(ValueError):
            convert(value)
            return value
    raise AssertionError("no value fits")


def test_any_type_for_any_parameter_of_any_method_is_answered(
    inside: tuple[_Server, asyncio.AbstractEventLoop],
) -> None:
    """One parameter after the other, all others as they should be: a result, or an error that names the
    parameter, has a known code, and says something."""
    server, loop = inside
    tried = 0
    for method in _methods(server):
        command = server.dispatcher._registry.find(method)
        sound = {each.name: _some_value(each.convert) for each in command.parameters}
        for parameter in command.parameters:
            for value in _WRONG:
                params = sound | {parameter.name: value}
                message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                line = loop.run_until_complete(server.dispatcher.handle(Session(user="me"), message))
                answer = json.loads(line or b"null")
                tried += 1
                if "error" not in answer:
                    continue
                error = answer["error"]
                assert error["code"] in _CODES and error["message"], (method, params, answer)
                if error["code"] == constants.ERROR_INVALID_PARAMS:
                    assert error["data"]["parameter"] == parameter.name, (params, answer)
    assert tried > 5000


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=_json)
def test_any_message_is_answered_or_is_a_notification(
    inside: tuple[_Server, asyncio.AbstractEventLoop], message: Any
) -> None:
    """No JSON value brings the dispatcher down."""
    server, loop = inside
    line = loop.run_until_complete(server.dispatcher.handle(Session(user="me"), message))
    assert line is None or json.loads(line)


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(line: bytes) -> None:
    """parse() raises one kind of error only."""
    try:
        parse(line)
    except RpcError as error:
        assert error.code == constants.ERROR_PARSE


@pytest.mark.parametrize("value", [float("inf"), float("nan"), [{"deep": float("-inf")}]])
def test_an_answer_without_a_spelling_is_an_error_to_its_caller(value: Any) -> None:
    """What another server said may be in it; whoever waits hears of it."""
    answer = json.loads(_bounded({"jsonrpc": "2.0", "id": 7, "result": value}, 7))
    assert answer["id"] == 7 and answer["error"]["code"] == constants.ERROR_INTERNAL
