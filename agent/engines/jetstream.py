"""The engine port on a server that speaks the JetStream API.

Uses the documented API alone; per-file results, deletes and events through the bundled server's extension
namespace where the server announces it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from agent.engines import jetstream_convert as convert
from agent.engines import jetstream_starting as starting
from agent.engines.jetstream_control import Control
from agent.engines.jetstream_far import FarVerbs
from agent.engines.jetstream_session import (
    REQUEST_TIMEOUT,
    WAIT_TIMEOUT,
    Api,
    Credentials,
    Login,
    Session,
    agent_errors,
)
from agent.engines.jetstream_shares import ShareVerbs
from agent.engines.jetstream_watch import (
    Changed,
    Watch,
    list_transfers,
    stop_quietly,
)
from agent.engines.port import (
    DestinationRequest,
    TransferRequest,
)
from agent.jetstream import CommandError, Jetstream, JetstreamError
from agent.jetstream.structures import Transfer
from agent.model import outcome
from agent.model.observed import (
    Capabilities,
    EngineState,
    FileResult,
    ObservedTransfer,
    Tag,
    TransferState,
)
from agent.model.spec import Lane, TransferDefaults, default_lane

__all__ = ["Credentials", "JetstreamEngine", "Login", "builtin_api"]

_RESULTS_PAGE = 20_000
_MANIFEST_POLL_MIN, _MANIFEST_POLL_MAX = 0.001, 0.05


class JetstreamEngine(FarVerbs, ShareVerbs):
    """Implements agent.engines.port.Engine. Reconnects by itself; may be used from several threads.

    login: credentials, or what gives them at each log-in. make_api: makes the unconnected client; the
    default is this project's own.
    """

    def __init__(
        self,
        address: str,
        port: int,
        login: Credentials | Login | None = None,
        *,
        make_api: Callable[[str, int], Api] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        make = make_api or builtin_api()
        self._make_api: Callable[[], Api] = lambda: make(address, port)
        self._login: Login = login if callable(login) else lambda: login
        self._session = Session(self._make_api, self._login)
        super().__init__(self._session)
        self.control = Control(self._session)
        self._watch: Watch | None = None
        self._watch_lock = threading.Lock()
        self._sleep = sleep
        self._monotonic = monotonic

    # The connection

    def connect(self) -> Capabilities:
        self._session.ask()
        info, extensions = self._session.info, self._session.extensions
        facts = {name: info.get(name) for name in ("version", "serverId", "serverName")}
        return Capabilities(
            delete="deletePaths" in extensions,
            rename="renamePaths" in extensions,
            inventory="listPaths" in extensions,
            links="links" in extensions,
            sets="sets" in extensions,
            strict="strict" in extensions,
            file_results="results" in extensions,
            events="events" in extensions,
            shares=True,
            names={name: str(fact) for name, fact in facts.items() if fact is not None},
        )

    def close(self) -> None:
        with self._watch_lock:
            watch, self._watch = self._watch, None
        stop_quietly(watch)
        self.control.close()
        self._session.close()

    def watch(self, changed: Changed) -> None:
        self.control.changed = changed
        with self._watch_lock:
            stop_quietly(self._watch)
            # A connection of its own: a long poll must survive what happens to the other one.
            self._watch = Watch(Session(self._make_api, self._login), changed)
            self._watch.start()

    def observe(self, agent: str) -> EngineState:
        api = self._session.api()
        with agent_errors():
            destinations = [convert.destination(d) for d in api.send.getDestinations()]
            transfers = [convert.transfer(t) for t in list_transfers(api)]
        return EngineState(
            tuple(d for d in destinations if d.tag is not None and d.tag.agent == agent),
            tuple(t for t in transfers if t.tag is not None and t.tag.agent == agent),
        )

    # Destinations

    def create_destination(self, request: DestinationRequest) -> str:
        api = self._session.api()
        route = request.route
        with agent_errors():
            made = api.send.createDestination(
                request.address,
                sendRateMax=request.send_rate_max,
                destinationPort=request.port,
                authenticateDestination=route.authenticate or None,
                destinationPublicKey=route.public_key,
                relayAddress=route.relay_address or None,
                relayPort=route.relay_port or None,
                exclusive=True,
                permanent=True,
            )
            _set_tag(api, str(made["destinationId"]), request.tag)
        return str(made["destinationId"])

    def tag_destination(self, destination_id: str, tag: Tag) -> None:
        api = self._session.api()
        with agent_errors():
            _set_tag(api, destination_id, tag)

    def delete_destination(self, destination_id: str) -> None:
        api = self._session.api()
        with agent_errors():
            api.send.deleteDestination(destination_id)

    def set_lanes(self, destination_id: str, lanes: tuple[Lane, ...]) -> None:
        shares = {lane.name: lane.share for lane in lanes}
        try:
            self._request("setPriorityLanesAsync", destination_id, shares)
        except outcome.PermanentError as error:
            # Lanes in use keep their names and number; once the transfers are over it will pass.
            if self._busy(destination_id):
                raise outcome.RetryableError(str(error)) from error
            raise

    def _busy(self, destination_id: str) -> bool:
        api = self._session.api()
        with agent_errors():
            return bool(api.send.getDestination(destination_id).get("numTransfersQueued"))

    def knock(self, destination_id: str) -> None:
        """See agent.engines.port.Knocking."""
        api = self._session.api()
        with agent_errors():
            api.send.schedulePingAsync(destination_id, 1)

    def set_send_rate(self, destination_id: str, send_rate_max: float | None) -> None:
        self._request("setSendRateMaxAsync", destination_id, convert.to_rate(send_rate_max))

    def set_defaults(self, destination_id: str, defaults: TransferDefaults) -> None:
        api = self._session.api()
        with agent_errors():
            lane = defaults.lane or _default_lane(api, destination_id)
            api.send.updateTransferDefaults(
                destination_id,
                priority=defaults.priority,
                transferFlags=convert.transfer_flags(defaults.overwrite, preserve_mtime=True),
                checkpointFrequencySeconds=round(defaults.checkpoint_interval),
                priorityLane=lane,
                overwriteMode=convert.overwrite_mode(defaults.overwrite),
                minCipher=convert.min_cipher(defaults.min_cipher),
                fileTimeResolutionMicroseconds=round(defaults.modification_time_tolerance * 1e6),
            )

    # Transfers

    def start_transfer(self, request: TransferRequest) -> ObservedTransfer:
        api = self._session.api()
        extensions = self._session.extensions
        with agent_errors():
            if (made := starting.send_at_once(api, request, extensions)) is not None:
                return convert.transfer(made)
            manifest = starting.make_manifest(api, request, extensions)
            try:
                self._wait_for_manifest(api, manifest)
                made = api.send.createTransfer(
                    manifestId=manifest, **starting.parameters(request, extensions)
                )
            except (CommandError, outcome.LaneSyncError):
                with contextlib.suppress(CommandError):
                    api.send.deleteManifest(manifest)
                raise
        # After the transfer, which somebody waits for. Its owner is all that a manifest tells: the full tag
        # is on the transfer, through which the manifest is found when this call is cut off.
        with contextlib.suppress(JetstreamError):
            api.send.updateObjectUserData(manifest, starting.TAG_AGENT, request.tag.agent)
        return convert.transfer(made)

    def _wait_for_manifest(self, api: Api, manifest: str) -> None:
        """With explicit entries there is nothing to traverse: it is a matter of milliseconds."""
        give_up, pause = self._monotonic() + REQUEST_TIMEOUT, _MANIFEST_POLL_MIN
        while (found := api.send.getManifest(manifest))["processing"]:
            if self._monotonic() > give_up:
                raise outcome.RetryableError(
                    f"manifest {manifest} was not ready within {REQUEST_TIMEOUT:g} s"
                )
            self._sleep(pause)
            pause = min(pause * 2, _MANIFEST_POLL_MAX)
        if found["status"] != "complete":
            raise outcome.PermanentError(found.get("errorMessage") or f"manifest {manifest} failed")

    def transfer(self, transfer_id: str) -> ObservedTransfer:
        api = self._session.api()
        try:
            with agent_errors():
                return convert.transfer(api.send.getTransfer(transfer_id))
        except outcome.NotFoundError as error:
            return convert.lost_transfer(transfer_id, str(error))

    def results(self, transfer_id: str, after: int) -> tuple[tuple[FileResult, ...], int]:
        api = self._session.api()
        if "results" not in self._session.extensions:
            return (), after
        with agent_errors():
            found = api.lanesync.getTransferResults(transfer_id, after=after, limit=_RESULTS_PAGE)
        return tuple(convert.file_result(result) for result in found["files"]), int(found["next"])

    def suspend(self, transfer_id: str) -> None:
        self._settle_state("suspendTransferAsync", transfer_id, lambda state: not state.active)

    def resume(self, transfer_id: str) -> None:
        self._settle_state("resumeTransferAsync", transfer_id, _goes_on)

    def cancel(self, transfer_id: str, reason: str) -> None:
        api = self._session.api()
        with contextlib.suppress(outcome.NotFoundError), agent_errors():
            found: Transfer = api.send.getTransfer(transfer_id)
            # It may end by itself at any moment; then there is nothing to fail.
            with contextlib.suppress(CommandError):
                api.send.failTransfer(transfer_id, reason)
            self.forget(transfer_id, str(found.get("manifestId") or ""))

    def set_priority(self, transfer_id: str, lane: str, priority: int) -> None:
        self._request("setTransferPriorityAsync", transfer_id, priority, lane)

    def set_transfer_rate(self, transfer_id: str, send_rate_max: float | None) -> None:
        self._request("setTransferSendRateMaxAsync", transfer_id, convert.to_rate(send_rate_max))

    def forget(self, transfer_id: str, manifest_id: str) -> None:
        api = self._session.api()
        with contextlib.suppress(outcome.NotFoundError), agent_errors():
            api.send.deleteTransfer(transfer_id)
        if manifest_id:
            with contextlib.suppress(outcome.NotFoundError), agent_errors():
                api.send.deleteManifest(manifest_id)

    def lane_bytes(self, destination_id: str) -> dict[str, int]:
        api = self._session.api()
        if "laneBytes" not in self._session.extensions:
            return {}
        with agent_errors():
            lanes: dict[str, int] = api.lanesync.getLaneBytes(destination_id)["lanes"]
        return lanes

    # Inside

    def _request(self, method: str, *arguments: Any) -> None:
        """An asynchronous command and its result: what is refused is refused here."""
        api = self._session.api()
        with agent_errors():
            api.server.getRequestResult(getattr(api.send, method)(*arguments))

    def _settle_state(self, method: str, transfer_id: str, reached: Callable[[TransferState], bool]) -> None:
        """Refused because it is so already is success; a vanished transfer is NotFoundError."""
        try:
            self._request(method, transfer_id)
        except outcome.PermanentError:
            found = self.transfer(transfer_id)
            if not reached(found.state):
                raise


def _goes_on(state: TransferState) -> bool:
    """Resumed by a call before; it may have come to its end meanwhile."""
    return state.active or state is TransferState.COMPLETE


def builtin_api(**tls: Any) -> Callable[[str, int], Api]:
    """This project's own client; `tls` are options of `Jetstream().api` beside time-outs."""

    def make(address: str, port: int) -> Api:
        return Jetstream().api(address, port, requestTimeout=REQUEST_TIMEOUT, waitTimeout=WAIT_TIMEOUT, **tls)

    return make


def _set_tag(api: Api, object_id: str, tag: Tag) -> None:
    """Agent and spec come first: with these an object is known as ours, whatever happens next."""
    for key, value in tag.to_user_data().items():
        api.send.updateObjectUserData(object_id, key, value)


def _default_lane(api: Api, destination_id: str) -> str | None:
    lanes = api.send.getDestination(destination_id).get("priorityLanes")
    return default_lane(convert.lanes_of(lanes)) if lanes else None
