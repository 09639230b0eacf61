"""The control side of the sender: what it is told, and what its reports do to the store."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.jetstream import constants
from agent.server import supervisor
from agent.server.access import Credentials
from agent.server.clock import SystemClock
from agent.server.core import open_core
from agent.server.data import pacing
from agent.server.errors import CommandError
from agent.server.main import _Server, _wire
from agent.server.options import ServeOptions
from agent.server.session import Session
from agent.server.store.database import Database

FAKE = Path(__file__).with_name("fake_sender.py")


class Harness:
    """A server's inside with the stand-in sender; methods are called as the dispatcher does."""

    def __init__(self, server: _Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.session = Session(user="me")

    async def call(self, method: str, **params: Any) -> Any:
        line = await self.server.dispatcher.handle(
            self.session, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        )
        assert line is not None
        answer = json.loads(line)
        if "error" in answer:
            raise CommandError(answer["error"]["message"])
        return answer["result"]

    async def transfer(self, priority: int, *, destination: Any = None, **params: Any) -> Any:
        if destination is None:
            destination = await self.destination()
        entries = {f"/d/{number}": {"src": f"/s/{number}", "size": 5} for number in range(2)}
        manifest = await self.call("send.createManifest", mappings=entries)
        params |= {"destinationId": destination, "manifestId": manifest, "priority": priority}
        return await self.call("send.createTransfer", destinationPath="/base", **params)

    async def destination(self, **params: Any) -> Any:
        return await self.call(
            "send.createDestination", destinationAddress="127.0.0.1", destinationPort=1, **params
        )

    def told(self, op: str) -> list[dict[str, Any]]:
        file = self.folder / "told.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [message for line in lines if (message := json.loads(line))["op"] == op]

    async def until(self, what: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not what():
                await asyncio.sleep(0.005)


@pytest.fixture
def play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Harness], Awaitable[None]]], None]:
    monkeypatch.setattr(supervisor, "_COMMAND", (sys.executable, str(FAKE)))

    async def run(scenario: Callable[[Harness], Awaitable[None]]) -> None:
        database = Database(tmp_path / "server.db")
        try:
            core = await open_core(ServeOptions(tmp_path), database, SystemClock())
            with open(tmp_path / "lock", "w") as lock:
                server = _wire(core, Credentials("me"), lock.fileno())
                try:
                    await scenario(Harness(server, tmp_path))
                finally:
                    await server.stop()
        finally:
            database.close()

    return lambda scenario: asyncio.run(run(scenario))


Play = Callable[[Callable[[Harness], Awaitable[None]]], None]


def test_reports_become_status_counters_and_results(play: Play) -> None:
    """What the sender reports is in the structure, the flags and the per-file results, with full paths."""

    async def scenario(harness: Harness) -> None:
        made = await harness.transfer(1)
        ended = await harness.call("send.waitForTransfer", transferId=made)
        assert (ended["status"], ended["errorMessage"]) == ("error", "1 file failed: /d/1")
        assert (ended["bytesSent"], ended["filesComplete"]) == (7, 1)
        assert ended["requestTime"] <= ended["startTime"] <= ended["endTime"] <= ended["snapshotTime"]
        flags = await harness.call("send.getTransfer", transferId=made, getCompleteFlags=True)
        assert flags["completeFlags"] == [True, False]
        first = await harness.call("lanesync.getTransferResults", transferId=made, limit=1)
        delivered = {"path": "/base/d/0", "outcome": "delivered", "size": 5, "mtimeNs": 111, "ctimeNs": 222}
        assert first["files"] == [{**delivered, "digest": "0000000000000abc", "error": ""}]
        rest = await harness.call("lanesync.getTransferResults", transferId=made, after=first["next"])
        assert [(file["path"], file["outcome"], file["error"]) for file in rest["files"]] == [
            ("/base/d/1", "failed", "permission denied")
        ]
        end = await harness.call("lanesync.getTransferResults", transferId=made, after=rest["next"])
        assert end == {"files": [], "next": rest["next"]}

    play(scenario)


def test_a_start_carries_all_that_the_sender_needs(play: Play) -> None:
    """The destination is told before its transfer, lanes in order, rates in kbit/s."""

    async def scenario(harness: Harness) -> None:
        destination = await harness.destination(sendRateMax=8000)
        made = await harness.transfer(2, destination=destination, priorityLane="High", timeoutSeconds=9)
        await harness.until(lambda: harness.told("start"))
        (told,) = harness.told("destination")
        assert told["lanes"] == [["High", 0.7], ["Normal", 0.25], ["Low", 0.05], ["Idle", 0.0]]
        assert (told["rate"], told["address"], told["port"]) == (8000, "127.0.0.1", 1)
        (start,) = harness.told("start")
        assert (
            start.items()
            >= {
                "id": made["transferId"],
                "destinationId": made["destinationId"],
                "manifestId": made["manifestId"],
                "destinationPath": "/base",
                "lane": "High",
                "priority": 2,
                "rate": None,
                "flags": 7,
                "overwriteMode": 4,
                "checkpointSeconds": 30,
                "timeoutSeconds": 9.0,
            }.items()
        )
        assert len(start["uid"]) == 32

    play(scenario)


def test_a_transfer_that_completes_while_it_is_suspended_is_complete(play: Play) -> None:
    """The suspension is refused with the truth; nothing that was delivered is forgotten."""

    async def scenario(harness: Harness) -> None:
        made = await harness.transfer(3)
        await harness.until(lambda: harness.told("start"))
        with pytest.raises(CommandError, match="it is complete"):
            await harness.call("send.suspendTransfer", transferId=made)
        assert (await harness.call("send.getTransfer", transferId=made))["status"] == "complete"

    play(scenario)


def test_a_sender_that_dies_is_told_everything_again(play: Play) -> None:
    """The next worker gets destinations and active transfers with the same uid; suspended ones are left."""

    async def scenario(harness: Harness) -> None:
        paused = await harness.transfer(2)
        await harness.until(lambda: len(harness.told("start")) == 1)
        await harness.call("send.suspendTransfer", transferId=paused)
        dying = await harness.transfer(4)
        await harness.until(lambda: len(harness.told("start")) == 3)
        starts = [message for message in harness.told("start") if message["id"] == dying["transferId"]]
        assert len(starts) == 2 and starts[0]["uid"] == starts[1]["uid"]
        assert len(harness.told("destination")) == 2

    play(scenario)


def test_changes_reach_the_sender_live(play: Play) -> None:
    """Priority, lane and rate of a transfer; lanes and rate of its destination."""

    async def scenario(harness: Harness) -> None:
        made = await harness.transfer(2)
        await harness.until(lambda: harness.told("start"))
        await harness.call("send.setTransferPriority", transferId=made, priority=9, priorityLane="Low")
        await harness.call("send.setTransferSendRateMax", transferId=made, sendRateMax=64)
        lanes = {"High": 0.1, "Normal": 0.1, "Low": 0.8, "Idle": 0}
        await harness.call("send.setPriorityLanes", destinationId=made, priorityLanes=lanes)
        await harness.call("send.setSendRateMax", destinationId=made, sendRateMax=-1)
        await harness.call("send.setSendRateMax", destinationId=made, sendRateMax=500)
        await harness.until(lambda: harness.told("destination")[-1]["rate"] == 500)
        updates = [(update["lane"], update["priority"], update["rate"]) for update in harness.told("update")]
        assert updates == [("Low", 9, None), ("Low", 9, 64)]
        assert harness.told("destination")[-1]["lanes"] == [[name, share] for name, share in lanes.items()]

    play(scenario)


def test_a_change_of_a_connection_reaches_all_its_destinations(play: Play) -> None:
    """Two destinations that reach the same server are told its rates, beside their own."""

    async def scenario(harness: Harness) -> None:
        one, two = await harness.destination(exclusive=True), await harness.destination(exclusive=True)
        for destination in (one, two):
            await harness.transfer(2, destination=destination)
        await harness.until(lambda: len(harness.told("start")) == 2)
        await harness.call("send.updateConnectionParams", connectionId=one, sendRateMax=1000, sendRateMin=10)
        await harness.call("send.setSendRateMax", destinationId=two, sendRateMax=700)
        await harness.until(lambda: len(harness.told("destination")) == 5)
        told = {message["id"]: message for message in harness.told("destination")}
        assert [told[each["destinationId"]]["rate"] for each in (one, two)] == [None, 700]
        paces = [told[each["destinationId"]]["pace"] for each in (one, two)]
        assert paces[0] == paces[1]
        assert (paces[0]["connection"], paces[0]["rate_max"]) == (one["connectionId"], 1000)

    play(scenario)


def test_a_destination_s_limit_pulls_down_what_its_connection_promises(play: Play) -> None:
    """The lowest and the actual rate of a connection are never above what its destinations may have."""

    async def scenario(harness: Harness) -> None:
        one = await harness.destination(exclusive=True)
        params = {"sendRateMin": 500, "sendRate": 900, "sendRateMax": 2000}
        await harness.call("send.updateConnectionParams", connectionId=one, **params)
        await harness.call("send.setSendRateMax", destinationId=one, sendRateMax=400)
        found = await harness.call("send.getConnection", connectionId=one)
        assert [found[name] for name in params] == [400, 400, 2000]
        two = await harness.destination(exclusive=True)
        await harness.call("send.setSendRateMax", destinationId=one, sendRateMax=100)
        found = await harness.call("send.getConnection", connectionId=two)
        assert [found[name] for name in params] == [400, 400, 2000], "the other one has no limit"

    play(scenario)


@pytest.mark.parametrize(
    ("params", "broken"),
    [
        ({"sendRateMin": 5, "sendRateMax": 4}, ["sendRateMin (5) must not be above sendRateMax (4)"]),
        ({"sendRate": 5, "sendRateMax": 4}, ["sendRate (5) must not be above sendRateMax (4)"]),
        ({"sendRate": 5, "sendRateMin": 6}, ["sendRate (5) must not be below sendRateMin (6)"]),
        ({"sendRate": 9, "sendRateMin": 5, "sendRateMax": 4}, ["sendRateMin (5)", "sendRate (9)"]),
        ({"rateControlMethod": 4}, ["rateControlMethod 4 is unknown"]),
        ({"rateControlMethod": -1}, ["rateControlMethod -1 is unknown"]),
    ],
)
@pytest.mark.parametrize("name", ["send.updateConnectionParams", "send.updateConnectionParamsAsync"])
def test_rates_that_contradict_each_other_are_refused_by_name(
    play: Play, name: str, params: dict[str, Any], broken: list[str]
) -> None:
    """At the call, with nothing changed."""

    async def scenario(harness: Harness) -> None:
        one = await harness.destination()
        with pytest.raises(CommandError) as refused:
            await harness.call(name, connectionId=one, **params)
        assert all(text in str(refused.value) for text in broken)
        found = await harness.call("send.getConnection", connectionId=one)
        assert found["sendRateMin"] is found["sendRateMax"] is found["sendRate"] is None
        assert found["rateControlMethod"] == 0

    play(scenario)


def test_rates_of_a_connection_are_taken_back(play: Play) -> None:
    """By -1, the lowest also by 0; what is not given stays."""

    async def scenario(harness: Harness) -> None:
        one = await harness.destination()
        names = ("sendRateMin", "sendRate", "sendRateMax")
        await harness.call(
            "send.updateConnectionParams", connectionId=one, sendRateMin=1, sendRate=2, sendRateMax=3
        )
        for params, expected in (
            ({"rateControlEnabled": False}, [1, 2, 3]),
            ({"sendRate": -1}, [1, None, 3]),
            ({"sendRateMin": 0, "sendRateMax": -1}, [None, None, None]),
        ):
            await harness.call("send.updateConnectionParams", connectionId=one, **params)
            found = await harness.call("send.getConnection", connectionId=one)
            assert [found[name] for name in names] == expected
        assert found["rateControllerActive"] is False

    play(scenario)


def test_a_congestion_control_that_is_not_there_names_what_to_do(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says whether it has it, and whether we may use it."""
    monkeypatch.setitem(pacing.ALGORITHMS, constants.RATE_CONTROL_BBR, "none_such")

    async def scenario(harness: Harness) -> None:
        one = await harness.destination()
        with pytest.raises(CommandError, match=r"modprobe tcp_none_such.*net\.ipv4\.tcp_available"):
            await harness.call("send.updateConnectionParams", connectionId=one, rateControlMethod=3)

    play(scenario)


def test_limits_of_the_whole_server_are_for_superusers(play: Play) -> None:
    """They reach a worker that starts later, too."""

    async def scenario(harness: Harness) -> None:
        with pytest.raises(CommandError, match="superuser"):
            await harness.call("server.updateBandwidthLimits", outgoingRateLimit=500)
        harness.session.superuser = True
        told = await harness.call("server.updateBandwidthLimits", outgoingRateLimit=500)
        assert (told["outgoingRateLimit"], told["incomingRateLimit"]) == (500, None)
        await harness.transfer(2)
        await harness.until(lambda: harness.told("start"))
        assert [message["rate"] for message in harness.told("limit")] == [500]
        await harness.call("server.updateBandwidthLimits", outgoingRateLimit=-1)
        await harness.until(lambda: len(harness.told("limit")) == 2)
        assert harness.told("limit")[-1]["rate"] is None

    play(scenario)
