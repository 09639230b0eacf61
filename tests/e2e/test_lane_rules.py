"""The eight rules of priority lanes, kept by a real server while transfers are in progress and when not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from freeports import free_port
from rawclient import Lines, explicit
from servers import Server, start_server

pytestmark = pytest.mark.e2e

DEFAULT = {"High": 0.7, "Normal": 0.25, "Low": 0.05, "Idle": 0.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(tmp_path_factory.mktemp("lanes") / "server") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Lines]:
    with Lines(server.port) as lines:
        yield lines


@pytest.fixture
def destination(client: Lines) -> str:
    made = client.call(
        "send.createDestination",
        destinationAddress="127.0.0.1",
        destinationPort=free_port(),
        exclusive=True,
        permanent=True,
    )
    return str(made["result"]["destinationId"])


def _refused(client: Lines, destination: str, lanes: object, method: str) -> str:
    """The message; the lanes are as they were."""
    before = client.call("send.getDestination", destinationId=destination)["result"]["priorityLanes"]
    answer = client.call(method, destinationId=destination, priorityLanes=lanes)
    after = client.call("send.getDestination", destinationId=destination)["result"]["priorityLanes"]
    assert list(after.items()) == list(before.items())
    return str(answer["error"]["message"])


def _start(client: Lines, destination: str, lane: str) -> str:
    """A transfer that is in progress: nobody listens at the other end."""
    manifest = client.call("send.createManifest", mappings=explicit(1))["result"]["manifestId"]
    client.call("send.waitForManifest", manifestId=manifest)
    made = client.call(
        "send.createTransfer", destinationId=destination, manifestId=manifest, priorityLane=lane
    )
    return str(made["result"]["transferId"])


@pytest.mark.parametrize("method", ["send.setPriorityLanes", "send.setPriorityLanesAsync"])
@pytest.mark.parametrize(
    ("lanes", "rule"),
    [
        ({}, "there must be at least one lane"),
        ({"": 1.0}, "lane names must not be blank"),
        ({" ": 0.5, "A": 0.5}, "lane names must not be blank"),
        ({"A": 0.5, "B": 0.4}, "must add up to 100%, these add up to 90%"),
        ({"A": 0.9, "B": 0.4}, "must add up to 100%, these add up to 130%"),
        ({"A": 1.0, "B": 0.0, "C": 0.0}, "at most one lane may have a share of 0"),
        ({"A": 1.5, "B": -0.5}, "the share of lane 'B' must not be negative"),
        ({"A": "all"}, "the share of lane 'A' must be a number"),
        ({"A": True}, "the share of lane 'A' must be a number"),
    ],
)
def test_each_broken_rule_names_itself_at_the_call(
    client: Lines, destination: str, method: str, lanes: dict[str, Any], rule: str
) -> None:
    """Nothing is changed; the Async form refuses as early."""
    assert rule in _refused(client, destination, lanes, method)


def test_all_broken_rules_are_named_at_once(client: Lines, destination: str) -> None:
    """So that one correction is enough."""
    message = _refused(client, destination, {"": 0.2, "A": 0.0, "B": 0.0}, "send.setPriorityLanes")
    for rule in ("blank", "add up", "at most one lane"):
        assert rule in message


def test_lane_names_must_be_unique(client: Lines, destination: str) -> None:
    """A name that is there twice is not taken for the last of the two."""
    lanes = '{"A": 0.5, "B": 0.0, "A": 1.0}'
    request = {"jsonrpc": "2.0", "id": 1, "method": "send.setPriorityLanes"}
    text = json.dumps({**request, "params": {"destinationId": destination, "priorityLanes": "LANES"}})
    client.say(text.replace('"LANES"', lanes).encode() + b"\n")
    assert "names must be unique: 'A'" in client.hear()["error"]["message"]
    found = client.call("send.getDestination", destinationId=destination)["result"]
    assert found["priorityLanes"] == DEFAULT


def test_all_lanes_are_set_together(client: Lines, destination: str) -> None:
    """What is given replaces all; a part of them does not add up and is refused."""
    message = _refused(client, destination, {"High": 0.5}, "send.setPriorityLanes")
    assert "add up" in message
    lanes = {"Fast": 0.6, "Slow": 0.4}
    client.call("send.setPriorityLanes", destinationId=destination, priorityLanes=lanes)
    found = client.call("send.getDestination", destinationId=destination)["result"]
    assert found["priorityLanes"] == lanes


def test_the_number_of_lanes_is_fixed_while_transfers_are_in_progress(
    client: Lines, destination: str
) -> None:
    """Also while they are suspended; shares may change at any time."""
    transfer = _start(client, destination, "Low")
    fewer = {"High": 0.7, "Low": 0.3}
    assert "the number of lanes cannot be changed (from 4 to 2)" in _refused(
        client, destination, fewer, "send.setPriorityLanes"
    )
    shares = {"High": 0.1, "Normal": 0.2, "Low": 0.7, "Idle": 0.0}
    assert "result" in client.call("send.setPriorityLanes", destinationId=destination, priorityLanes=shares)
    client.call("send.suspendTransfer", transferId=transfer)
    assert "number of lanes" in _refused(client, destination, fewer, "send.setPriorityLanes")
    client.call("send.failTransfer", transferId=transfer, errorMessage="over")
    client.call("send.deleteTransfer", transferId=transfer)
    assert "result" in client.call("send.setPriorityLanes", destinationId=destination, priorityLanes=fewer)


def test_a_lane_in_use_keeps_its_name(client: Lines, destination: str) -> None:
    """Others may be renamed meanwhile."""
    _start(client, destination, "Low")
    renamed = {"High": 0.7, "Normal": 0.25, "Slow": 0.05, "Idle": 0.0}
    assert "lane 'Low' has a transfer in progress, so its name cannot be changed" in _refused(
        client, destination, renamed, "send.setPriorityLanes"
    )
    others = {"Up": 0.7, "Middle": 0.25, "Low": 0.05, "Rest": 0.0}
    assert "result" in client.call("send.setPriorityLanes", destinationId=destination, priorityLanes=others)
