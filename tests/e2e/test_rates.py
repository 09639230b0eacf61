"""Rates between real servers. Upper bounds are laws (bytes by the server's own clock), lower ones loose."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface, CommandError, constants

pytestmark = pytest.mark.e2e

MBIT = 1000  # kbit/s
SIZE = 64 << 20
BURST = 2 << 20  # bytes: what may pass at once, and the headers
_names = itertools.count()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes long at the rates of these tests."""
    path = tmp_path_factory.mktemp("source") / "large"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(SIZE >> 20):
            file.write(block)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with _servers(tmp_path_factory.mktemp("pair")) as servers:
        yield servers


@contextlib.contextmanager
def _servers(
    folder: Path, sender: dict[str, Any] | None = None, receiver: dict[str, Any] | None = None
) -> Iterator[tuple[Server, Server]]:
    with (
        start_server(folder / "sender", **(sender or {})) as one,
        start_server(folder / "receiver", **(receiver or {})) as other,
    ):
        yield one, other


class Run:
    """One transfer of the large file, to a destination of its own."""

    def __init__(self, api: APIInterface, receiver: Server, source: Path, name: str) -> None:
        self.api = api
        self.destination = api.send.createDestination(
            "127.0.0.1", destinationPort=receiver.port, exclusive=True, permanent=True
        )
        mappings = {f"/{name}": {"src": str(source), "size": source.stat().st_size}}
        self.manifest = api.send.waitForManifest(api.send.createManifest(mappings=mappings))
        self.transfer: dict[str, Any] = {}

    def start(self, **params: Any) -> Run:
        self.transfer = dict(self.api.send.createTransfer(self.destination, self.manifest, **params))
        return self

    @property
    def connection(self) -> dict[str, Any]:
        return dict(self.api.send.getConnection(self.destination["connectionId"]))

    def look(self) -> tuple[int, float]:
        """(bytes sent, seconds since the request), one after the other: the time is never too early."""
        found = self.api.send.getTransfer(self.transfer)
        assert found["status"] in ("pending", "sending", "complete"), found
        snapshot = found["snapshotTime"]
        assert snapshot is not None
        return found["bytesSent"], (snapshot - found["requestTime"]) / 1e6

    def until(self, nbytes: int) -> tuple[int, float]:
        eventually(lambda: self.look()[0] >= nbytes, seconds=60, what=f"{nbytes} bytes are sent")
        return self.look()

    def end(self) -> None:
        with contextlib.suppress(CommandError):  # it is over, or suspended
            self.api.send.failTransfer(self.transfer, "seen enough")
        self.api.send.deleteTransfer(self.transfer)
        self.api.send.deleteDestination(self.destination)


@pytest.fixture
def begin(pair: tuple[Server, Server], source: Path) -> Iterator[Callable[..., Run]]:
    """Makes a transfer that is not started yet; all end with the test."""
    runs: list[Run] = []
    with pair[0].api() as api:

        def make() -> Run:
            runs.append(Run(api, pair[1], source, f"{next(_names)}"))  # nothing is there that could be of use
            return runs[-1]

        yield make
        for run in runs:
            if run.transfer:
                run.end()


def _kept(sent: int, seconds: float, rate: float) -> bool:
    return sent <= rate * 125 * seconds * 1.02 + BURST


# --- one destination, one transfer -------------------------------------------------------------------------


def test_a_destination_keeps_its_limit_until_it_is_changed(begin: Callable[..., Run]) -> None:
    """Bytes never exceed rate times time; what is set while it runs acts at once, -1 lifts it."""
    run = begin()
    assert run.api.send.setSendRateMax(run.destination, 16 * MBIT) == {"sendRateMax": 16 * MBIT}
    run.start()
    assert _kept(*run.until(4 << 20), 16 * MBIT)
    before, at = run.look()
    run.api.send.setSendRateMax(run.destination, 4 * MBIT)
    sent, then = run.until(before + (1 << 20))
    assert _kept(sent - before, then - at + 0.5, 4 * MBIT)
    assert run.api.send.setSendRateMax(run.destination, -1) == {"sendRateMax": -1}
    run.until(SIZE)


def test_a_transfer_keeps_its_limit_until_it_is_lifted(begin: Callable[..., Run]) -> None:
    """-1 turns it off; the destination has none."""
    run = begin().start(sendRateMax=16 * MBIT)
    assert _kept(*run.until(4 << 20), 16 * MBIT)
    before, at = run.look()
    run.api.send.setTransferSendRateMax(run.transfer, 4 * MBIT)
    sent, then = run.until(before + (1 << 20))
    assert _kept(sent - before, then - at + 0.5, 4 * MBIT)
    assert run.api.send.setTransferSendRateMax(run.transfer, -1) == {"sendRateMax": -1}
    run.until(SIZE)


def test_the_rate_of_an_existing_destination_is_not_changed_by_creating_it(
    pair: tuple[Server, Server],
) -> None:
    """Documented: the value is ignored then."""
    with pair[0].api() as api:
        made = api.send.createDestination("127.0.0.1", sendRateMax=5 * MBIT, destinationPort=9)
        again = api.send.createDestination("127.0.0.1", sendRateMax=7 * MBIT, destinationPort=9)
        assert (made["sendRateMax"], again["sendRateMax"]) == (5 * MBIT, 5 * MBIT)
        assert made["destinationId"] == again["destinationId"]
        api.send.deleteDestination(made)


# --- connections -------------------------------------------------------------------------------------------


def test_destinations_of_a_connection_share_its_limit_and_leave_nothing_of_it(
    begin: Callable[..., Run],
) -> None:
    """Both get about the same; when one has nothing to send, the other has it all. Nothing is divided
    beforehand."""
    one, two = begin(), begin()
    assert one.destination["connectionId"] == two.destination["connectionId"]
    one.api.send.updateConnectionParams(one.destination["connectionId"], sendRateMax=32 * MBIT)
    try:
        one.start(), two.start()
        eventually(lambda: one.look()[0] + two.look()[0] >= 8 << 20, seconds=60)
        (first, _), (second, seconds) = one.look(), two.look()
        assert _kept(first + second, seconds + 0.5, 32 * MBIT)
        assert min(first, second) >= 0.35 * (first + second)
        before = one.api.send.getTransfer(two.transfer)
        one.api.send.suspendTransfer(two.transfer)
        alone, at = one.look()
        sent, then = one.until(alone + (12 << 20))
        assert _kept(sent - alone, then - at + 0.5, 32 * MBIT)
        assert sent - alone >= 0.6 * 32 * MBIT * 125 * (then - at) - BURST, "half would be its share"
        assert before["processing"]
    finally:
        one.api.send.updateConnectionParams(one.destination["connectionId"], sendRateMax=-1)


def test_lanes_keep_their_shares_of_what_a_connection_leaves_them(begin: Callable[..., Run]) -> None:
    """While another destination takes its half of the connection's limit."""
    other, run = begin(), begin()
    run.api.send.updateConnectionParams(run.destination["connectionId"], sendRateMax=96 * MBIT)
    try:
        other.start()
        lanes = {"High": 0.70, "Normal": 0.25, "Low": 0.05, "Idle": 0.0}
        made = {lane: run.start(priorityLane=lane, destinationPath=f"/{lane}").transfer for lane in lanes}

        def sent() -> dict[str, int]:
            return {lane: run.api.send.getTransfer(each)["bytesSent"] for lane, each in made.items()}

        eventually(lambda: all(count for lane, count in sent().items() if lane != "Idle"))
        before = sent()
        eventually(lambda: sum(sent().values()) - sum(before.values()) >= 12 << 20, seconds=60)
        counts = {lane: count - before[lane] for lane, count in sent().items()}
        for lane, share in lanes.items():
            assert abs(counts[lane] / sum(counts.values()) - share) < 0.06, counts
        for each in made.values():
            run.api.send.failTransfer(each, "seen enough")
    finally:
        run.api.send.updateConnectionParams(run.destination["connectionId"], sendRateMax=-1)


def test_a_fixed_rate_is_kept_and_a_controlled_one_is_measured(begin: Callable[..., Run]) -> None:
    """`sendRate` without rate control is the rate; with it, it is what is sent now."""
    run = begin()
    connection = run.destination["connectionId"]
    run.api.send.updateConnectionParams(connection, sendRate=16 * MBIT, rateControlEnabled=False)
    run.start()
    assert _kept(*run.until(4 << 20), 16 * MBIT)
    assert (run.connection["sendRate"], run.connection["rateControllerActive"]) == (16 * MBIT, False)
    run.api.send.updateConnectionParams(
        connection, sendRate=-1, sendRateMax=24 * MBIT, rateControlEnabled=True
    )
    eventually(lambda: 20 * MBIT < run.connection["sendRate"] < 28 * MBIT, what="the rate is measured")
    assert run.connection["rateControllerActive"] is True
    run.api.send.updateConnectionParams(connection, sendRateMax=-1)


def test_the_congestion_control_is_chosen_for_a_session_that_runs(begin: Callable[..., Run]) -> None:
    """And its name is what the kernel says; by itself, within one machine, it is the kernel's default."""
    run = begin()
    connection = run.destination["connectionId"]
    run.api.send.setSendRateMax(run.destination, 16 * MBIT)
    run.start()
    run.until(1 << 20)
    default = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    here = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    if os.getuid() != 0:
        here = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
    eventually(lambda: run.connection["rateControlAlgorithm"] == default)
    wanted = {constants.RATE_CONTROL_CUBIC: "cubic", constants.RATE_CONTROL_BBR: "bbr"}
    for method, name in wanted.items():
        if name in here:
            run.api.send.updateConnectionParams(connection, rateControlMethod=method)
            eventually(lambda name=name: run.connection["rateControlAlgorithm"] == name)
            assert run.connection["rateControlMethod"] == method
        else:
            with pytest.raises(CommandError, match="sysctl"):
                run.api.send.updateConnectionParams(connection, rateControlMethod=method)
    for method in (constants.RATE_CONTROL_DEFAULT, constants.RATE_CONTROL_BEST):
        run.api.send.updateConnectionParams(connection, rateControlMethod=method)
        eventually(lambda: run.connection["rateControlAlgorithm"] == default)


# --- servers -----------------------------------------------------------------------------------------------


def test_a_server_s_limit_is_shared_by_its_connections_and_one_may_be_assured_more(
    tmp_path: Path, source: Path
) -> None:
    """Evenly, until `sendRateMin` says that one never yields below it. All together keep the limit, and
    nothing changes it that was fixed on the command line."""
    options = {"outgoing_rate_limit": 64 * MBIT}
    with (
        _servers(tmp_path, sender=options) as (sender, receiver),
        start_server(tmp_path / "other") as other,
        sender.api() as api,
    ):
        with pytest.raises(CommandError, match="--outgoing-rate-limit"):
            api.server.updateBandwidthLimits(outgoingRateLimit=99 * MBIT)
        runs = [Run(api, server, source, "x").start() for server in (receiver, other)]
        assert runs[0].connection["connectionId"] != runs[1].connection["connectionId"]
        first = [run.until(1) for run in runs]  # one may begin long before the other
        eventually(
            lambda: sum(run.look()[0] for run in runs) >= sum(n for n, _ in first) + (8 << 20), seconds=60
        )
        before = [run.look() for run in runs]
        assert _kept(sum(sent for sent, _ in before), before[0][1] + 0.5, 64 * MBIT)
        shared = [sent - early for (sent, _), (early, _) in zip(before, first, strict=True)]
        assert min(shared) >= 0.35 * sum(shared)
        api.send.updateConnectionParams(runs[0].connection, sendRateMin=52 * MBIT)
        eventually(lambda: runs[0].look()[0] >= before[0][0] + (8 << 20), seconds=60)
        more = [run.look()[0] - sent for run, (sent, _) in zip(runs, before, strict=True)]
        assert more[0] >= 0.7 * sum(more)
        assert more[1] > 0
        assert api.server.getServerInfo()["bandwidthLimits"]["fixed"] == ["outgoingRateLimit"]


def test_a_receiver_keeps_its_limit_whatever_is_sent(tmp_path: Path) -> None:
    """Over all sessions: what became final is never more than rate and time allow, and it arrives."""
    small = tmp_path / "small"
    small.mkdir()
    for number in range(64):
        (small / f"{number}").write_bytes(os.urandom(128 << 10))
    total = 64 * (128 << 10)
    limit = 32 * MBIT
    with (
        _servers(tmp_path, receiver={"incoming_rate_limit": limit}) as (sender, receiver),
        sender.api() as api,
        receiver.api() as there,
    ):
        runs = [Run(api, receiver, small / "0", f"{n}") for n in range(2)]
        manifest = api.send.waitForManifest(api.send.createManifest(mappings={"/all": str(small)}))
        for number, run in enumerate(runs):
            run.transfer = api.send.createTransfer(
                run.destination, manifest, destinationPath=f"/{number}", checkpointFrequencySeconds=1
            )
        shares: list[int] = []

        def both() -> bool:
            found = [api.send.getTransfer(run.transfer) for run in runs]
            final = sum(each["bytesAcked"] for each in found)
            seconds = max((each["snapshotTime"] - each["requestTime"]) / 1e6 for each in found)
            assert _kept(final, seconds + 0.5, limit)
            shares[:] = [each["bytesAcked"] for each in found]
            return final >= total

        eventually(both, seconds=60)
        assert min(shares) > 0.2 * max(shares), "sessions share the limit"
        told = there.server.getServerInfo()["bandwidthLimits"]
        assert told["incomingRateLimit"] == told["incomingRateAllowed"] == limit
        eventually(lambda: there.server.getServerInfo()["bandwidthLimits"]["incomingRate"] > 0)
        assert there.server.getServerInfo()["bandwidthLimits"]["incomingRate"] < limit * 1.2


def test_sending_borrows_what_receiving_leaves_until_it_is_wanted_back(tmp_path: Path, source: Path) -> None:
    """Both together never have more than both limits."""
    options = {
        "incoming_rate_limit": 24 * MBIT,
        "outgoing_rate_limit": 8 * MBIT,
        "borrow_incoming_rate": True,
    }
    with (
        _servers(tmp_path, sender=options) as (sender, receiver),
        sender.api() as api,
        receiver.api() as there,
    ):

        def limits() -> tuple[float, float]:
            told = api.server.getServerInfo()["bandwidthLimits"]
            assert told["incomingRateAllowed"] + told["outgoingRateAllowed"] == pytest.approx(32 * MBIT)
            return told["incomingRateAllowed"], told["outgoingRateAllowed"]

        assert limits() == (24 * MBIT, 8 * MBIT)
        out = Run(api, receiver, source, "out").start()
        eventually(lambda: limits()[1] > 28 * MBIT, what="what receiving leaves is lent")
        sent, at = out.look()
        more, then = out.until(sent + (6 << 20))
        assert more - sent > 8 * MBIT * 125 * (then - at) * 1.3 - BURST / 4, "faster than its own limit"
        assert _kept(more, then + 0.5, 32 * MBIT)
        back = Run(there, sender, source, "back").start()
        eventually(lambda: limits() == (24 * MBIT, 8 * MBIT), what="the lender has its own again")
        arrived = back.look()[0]
        back.until(arrived + (6 << 20))


def test_limits_set_by_the_api_outlast_a_restart(tmp_path: Path) -> None:
    """-1 takes one back. What makes no sense is refused by name."""
    with start_server(tmp_path / "server", borrow_outgoing_rate=True) as server:
        with server.api() as api:
            api.server.updateBandwidthLimits(incomingRateLimit=500, outgoingRateLimit=700)
            api.server.updateBandwidthLimits(outgoingRateLimit=-1, borrowIncomingRate=True)
            with pytest.raises(CommandError, match="--borrow-outgoing-rate"):
                api.server.updateBandwidthLimits(borrowOutgoingRate=False)
            with pytest.raises(CommandError, match="incomingRateLimit must be"):
                api.server.updateBandwidthLimits(incomingRateLimit=0)
        server.restart()
        with server.api() as api:
            told = api.server.getServerInfo()["bandwidthLimits"]
    assert (told["incomingRateLimit"], told["outgoingRateLimit"]) == (500, None)
    assert (told["borrowIncomingRate"], told["borrowOutgoingRate"]) == (True, True)
    assert told["fixed"] == ["borrowOutgoingRate"]


def test_an_impossible_limit_on_the_command_line_is_refused(tmp_path: Path) -> None:
    """With the option's name."""
    with pytest.raises(AssertionError, match="--incoming-rate-limit is a rate in kbit/s above 0"):
        start_server(tmp_path / "server", incoming_rate_limit=0)
