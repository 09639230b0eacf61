"""The JetStream adapter over restarts, log-in and servers without our extensions."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import Server, eventually, start_server

from agent.engines.jetstream import Credentials, JetstreamEngine
from agent.engines.port import DestinationRequest, Entry, TransferRequest
from agent.jetstream import APIInterface, Jetstream
from agent.model.observed import Tag, TransferState
from agent.model.outcome import AuthenticationError, NotFoundError, PermanentError, UnreachableError
from agent.model.spec import Overwrite

pytestmark = pytest.mark.e2e
TAG = Tag("agent", "Mapping/m", "digest:1", "d", 1, "c")
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with start_server(tmp_path / "server") as started:
        yield started


def request(destination: str, *entries: Entry) -> TransferRequest:
    return TransferRequest(destination, entries, "Normal", 100, None, Overwrite.ALWAYS, True, 30, 0, 0, TAG)


def deliver(engine: JetstreamEngine, server: Server, source: Path) -> str:
    destination = engine.create_destination(DestinationRequest("127.0.0.1", server.port, None, TAG))
    entry = Entry("/" + source.name, str(source), source.stat().st_size, False, False)
    return engine.start_transfer(request(destination, entry)).id


def token_file(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


def test_the_adapter_reconnects_after_a_restart(server: Server, tmp_path: Path) -> None:
    """While the server is away calls are unreachable; afterwards the same objects are there."""
    source = tmp_path / "a"
    source.write_bytes(b"a")
    engine = JetstreamEngine("127.0.0.1", server.port)
    transfer = deliver(engine, server, source)
    eventually(lambda: engine.transfer(transfer).state is TransferState.COMPLETE)
    before = engine.observe("agent")
    server.kill()
    with pytest.raises(UnreachableError):
        engine.observe("agent")
    server.start()
    after = engine.observe("agent")
    assert [d.id for d in after.destinations] == [d.id for d in before.destinations]
    assert [(t.id, t.state, t.tag) for t in after.transfers] == [(transfer, TransferState.COMPLETE, TAG)]
    assert [r.path for r in engine.results(transfer, 0)[0]] == ["/a"]
    engine.close()


def test_the_watcher_survives_a_restart(server: Server, tmp_path: Path) -> None:
    """It tells that the server was lost and regained, and of transfers after that."""
    source = tmp_path / "a"
    source.write_bytes(b"a")
    told: list[tuple[str, str]] = []
    engine = JetstreamEngine("127.0.0.1", server.port)
    engine.watch(lambda kind, found: told.append((kind, found)))
    first = deliver(engine, server, source)
    eventually(lambda: ("transfer", first) in told)
    server.kill()
    eventually(lambda: ("server", "") in told, what="the loss is told")
    told.clear()
    server.start()
    eventually(lambda: ("server", "") in told, what="the return is told")
    second = deliver(engine, server, source)
    eventually(lambda: ("transfer", second) in told)
    engine.close()


def test_manifests_name_their_owner(server: Server, tmp_path: Path) -> None:
    """Everything that the agent makes says whose it is, the manifest of a transfer too."""
    source = tmp_path / "a"
    source.write_bytes(b"a")
    engine = JetstreamEngine("127.0.0.1", server.port)
    transfer = deliver(engine, server, source)
    with server.api() as api:
        manifest = api.send.getManifest(engine.transfer(transfer).manifest_id)
        assert manifest["userData"] == {"lanesync.agent": "agent"}
        assert api.send.getTransfer(transfer)["userData"] == TAG.to_user_data()
    engine.close()


def test_closing_ends_the_watcher(server: Server) -> None:
    """After close() no thread of the adapter is left and nothing is told any more."""
    engine = JetstreamEngine("127.0.0.1", server.port)
    engine.watch(lambda kind, found: None)
    engine.connect()
    engine.close()
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("jetstream")])
    with pytest.raises(UnreachableError):
        engine.connect()


def test_a_deletion_of_an_earlier_launch_is_not_found(server: Server) -> None:
    """Request numbers of another launch are never taken for ours."""
    engine = JetstreamEngine("127.0.0.1", server.port)
    destination = engine.create_destination(DestinationRequest("127.0.0.1", server.port, None, TAG))
    deletion = engine.start_deletion(destination, ("/none",), ())
    eventually(lambda: engine.deletion(deletion).done)
    server.restart()
    with pytest.raises(NotFoundError):
        engine.deletion(deletion)
    engine.close()


def test_a_token_is_used_at_every_log_in(tmp_path: Path) -> None:
    """Without the right token nothing is answered; with it also after a restart."""
    with start_server(tmp_path / "server", control_token_file=token_file(tmp_path)) as server:
        for wrong in (None, Credentials(token="not the token at all")):
            engine = JetstreamEngine("127.0.0.1", server.port, wrong)
            with pytest.raises(AuthenticationError):
                engine.observe("agent")
            engine.close()
        asked: list[int] = []

        def login() -> Credentials:
            asked.append(1)
            return Credentials(token=TOKEN)

        engine = JetstreamEngine("127.0.0.1", server.port, login)
        assert engine.connect().events
        server.restart()
        assert engine.connect().delete
        assert len(asked) == 2
        engine.close()


def test_a_server_without_extensions_is_polled(server: Server, tmp_path: Path) -> None:
    """The documented API alone is enough to deliver and to notice that it was delivered."""

    class Plain:
        """The server with its announcement taken away, as another vendor's would answer."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def getServerInfo(self) -> dict[str, Any]:
            return {k: v for k, v in self._real.getServerInfo().items() if k != "lanesync"}

    def plain(address: str, port: int) -> APIInterface:
        api = Jetstream().api(address, port)
        api.server = Plain(api.server)  # type: ignore[assignment]
        return api

    source = tmp_path / "a"
    source.write_bytes(b"a")
    told: list[tuple[str, str]] = []
    engine = JetstreamEngine("127.0.0.1", server.port, make_api=plain)
    capabilities = engine.connect()
    assert not (capabilities.events or capabilities.file_results or capabilities.delete)
    engine.watch(lambda kind, found: told.append((kind, found)))
    transfer = deliver(engine, server, source)
    eventually(lambda: engine.transfer(transfer).state is TransferState.COMPLETE)
    eventually(lambda: ("transfer", transfer) in told)
    assert engine.results(transfer, 0) == ((), 0)
    engine.close()


def test_a_server_that_stands_still_is_unreachable(server: Server) -> None:
    """Nobody waits for ever: calls end in time, and work again when the server goes on."""

    def hasty(address: str, port: int) -> APIInterface:
        return Jetstream().api(address, port, timeout=2.0, requestTimeout=2.0, waitTimeout=2.0)

    engine = JetstreamEngine("127.0.0.1", server.port, make_api=hasty)
    engine.connect()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(UnreachableError):
            engine.observe("agent")
    finally:
        os.kill(server.pid, signal.SIGCONT)

    def answered() -> bool:
        try:
            return engine.observe("agent").destinations == ()
        except UnreachableError:
            return False

    eventually(answered)
    engine.close()


def test_what_was_accepted_survives_a_kill(server: Server, tmp_path: Path) -> None:
    """A transfer whose creation was answered is there after kill -9, tagged, and completes by itself."""
    engine = JetstreamEngine("127.0.0.1", server.port)
    for number in range(4):
        source = tmp_path / f"file-{number}"
        source.write_bytes(os.urandom(200_000))
        transfer = deliver(engine, server, source)
        server.kill()
        server.start()
        found = {t.id: t.tag for t in engine.observe("agent").transfers}
        assert found[transfer] == TAG
        eventually(lambda t=transfer: engine.transfer(t).state is TransferState.COMPLETE)
        assert (server.receive_root / source.name).read_bytes() == source.read_bytes()
    engine.close()


def test_a_refused_transfer_leaves_no_manifest(server: Server, tmp_path: Path) -> None:
    """What was made for a transfer that the server refuses is taken away again."""
    engine = JetstreamEngine("127.0.0.1", server.port)
    destination = engine.create_destination(DestinationRequest("127.0.0.1", server.port, None, TAG))
    entry = Entry("/a", str(tmp_path / "a"), 1, False, False)
    with pytest.raises(PermanentError, match="Nowhere"):
        engine.start_transfer(replace(request(destination, entry), lane="Nowhere"))
    with server.api() as api:
        assert api.send.getManifests() == []
    engine.close()


def test_twenty_thousand_entries_are_one_transfer(server: Server, tmp_path: Path) -> None:
    """The largest manifest an agent sends, with long names, is taken and read back whole."""
    engine = JetstreamEngine("127.0.0.1", server.port)
    destination = engine.create_destination(DestinationRequest("127.0.0.1", 1, None, TAG))
    folder = "長い名前の" * 6  # 8 MB of paths, what a plan puts into one attempt
    entries = tuple(
        Entry(f"/{folder}/{number:06}", f"/mnt/{folder}/{number:06}", number, False, False)
        for number in range(20_000)
    )
    transfer = engine.start_transfer(request(destination, *entries))
    assert (transfer.total_files, transfer.total_bytes) == (20_000, sum(range(20_000)))
    with server.api() as api:
        files = api.send.getManifestFiles(transfer.manifest_id)["fileMappings"]
    assert [found["destPath"] for found in files] == [entry.path for entry in entries]
    engine.cancel(transfer.id, "the test is over")
    engine.close()


def test_many_threads_may_use_one_adapter(server: Server, tmp_path: Path) -> None:
    """Reconciles run side by side on one connection."""
    engine = JetstreamEngine("127.0.0.1", server.port)
    failures: list[BaseException] = []
    done: list[str] = []

    def work(number: int) -> None:
        source = tmp_path / f"file-{number}"
        source.write_bytes(b"x" * number)
        transfer = deliver(engine, server, source)
        eventually(lambda: engine.transfer(transfer).state is TransferState.COMPLETE)
        done.append(transfer)

    _side_by_side([lambda n=n: work(n) for n in range(8)], failures)
    assert failures == []
    assert len(set(done)) == 8
    assert len(engine.observe("agent").transfers) == 8
    engine.close()


def _side_by_side(works: list[Callable[[], None]], failures: list[BaseException]) -> None:
    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_the_bytes_of_each_lane_are_counted(server: Server, tmp_path: Path) -> None:
    """Cumulative, by destination and lane; a lane that sent nothing stands at zero."""
    source = tmp_path / "large"
    source.write_bytes(os.urandom(3 << 20))
    engine = JetstreamEngine("127.0.0.1", server.port)
    engine.connect()
    try:
        deliver(engine, server, source)
        destination = engine.observe("agent").destinations[0].id
        eventually(lambda: engine.lane_bytes(destination).get("Normal", 0) >= 3 << 20, what="the count")
        found = engine.lane_bytes(destination)
        assert {"High": 0, "Low": 0, "Idle": 0, "Normal": found["Normal"]} == found
        assert found["Normal"] < 4 << 20
        with pytest.raises(NotFoundError):
            engine.lane_bytes("999999")
    finally:
        engine.close()
