"""`verify`: destinations compared with what was delivered, by a running agent or alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from agent.model.outcome import LaneSyncError, NotFoundError
from agent.model.spec import EngineKind, Key, Kind, MappingSpec
from agent.planning.effective import effective
from agent.reconcile.act import Scene
from agent.reconcile.agent import Agent
from agent.reconcile.destination import own_destination
from agent.reconcile.oversight import Watched, conclude_look, new_look
from agent.reconcile.suspension import delivery_suspension
from agent.reconcile.verify import Wanted

Document = dict[str, Any]
Told = Callable[[Document], None]


class Verifying:
    """The verbs of a running agent. LaneSyncError with a message for whoever asked."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def verify(self, names: list[str], checksum: bool) -> Document:
        """Begin. `verification` says how far it is."""
        specs = mappings_of(self._agent, names)
        oversight, context = self._agent.mappings.oversight, self._agent.context
        pairs = [(spec.name, destination) for spec in specs for destination in spec.destinations]
        request = oversight.requests.ask(pairs, checksum)
        for spec in specs:
            context.queue.add(Key(Kind.MAPPING, spec.name), urgent=True)
        return {"request": request}

    def verification(self, request: str) -> Document:
        found = self._agent.mappings.oversight.requests.document(request)
        if found is None:
            raise NotFoundError(f"there is no verification {request}; it may have been forgotten: ask again")
        return found


def mappings_of(agent: Agent, names: Sequence[str]) -> list[MappingSpec]:
    """`dailies` or `Mapping/dailies`; without names all."""
    known = agent.context.desired.mappings
    if not names:
        return list(known.values())
    found = []
    for name in names:
        key = agent.find(name if "/" in name else f"Mapping/{name}")
        if key.kind is not Kind.MAPPING:
            raise LaneSyncError(f"{key} is no mapping; known mappings: {', '.join(sorted(known))}")
        found.append(known[key.name])
    return found


def verify_alone(agent: Agent, names: Sequence[str], checksum: bool, told: Told) -> Document:
    """The same without a running agent: its servers are started for it, and nothing is delivered."""
    specs = mappings_of(agent, names)
    context = agent.context
    servers = [
        name
        for name, server in context.desired.servers.items()
        if server.engine is not EngineKind.EMBEDDED or agent.servers.has_run(server)
    ]
    agent.servers.start_all(servers)
    wanted = [Wanted(spec.name, d, checksum) for spec in specs for d in spec.destinations]
    document = {"request": "", "over": False, "deliveries": []}
    for one in wanted:
        one.state = "looking"
        try:
            one.found = _look(agent, one, lambda: told({**document, "deliveries": _all(wanted)}))
            one.state = "done"
        except LaneSyncError as error:
            one.state, one.error = "failed", str(error)
        one.look = None
    return {**document, "over": True, "deliveries": _all(wanted)}


def _all(wanted: list[Wanted]) -> list[Document]:
    return [one.document() for one in wanted]


def _look(agent: Agent, wanted: Wanted, progress: Callable[[], None]) -> Document:
    context = agent.context
    spec = context.desired.mappings[wanted.mapping]
    suspended = delivery_suspension(context, spec, wanted.destination)
    if suspended is not None:
        raise LaneSyncError(suspended.text)
    scene = _scene(agent, wanted.destination)
    if not scene.connected.capabilities.inventory:
        raise LaneSyncError("its server cannot tell what is there")
    overwrite = effective(spec, scene.destination, context.desired.lanes_of(scene.destination)).overwrite
    before = context.state.looks.get(spec.name, wanted.destination, "drift") or {}
    look = wanted.look = new_look(scene, spec, overwrite, before, wanted.checksum, Watched())
    try:
        while not look.turn():
            progress()
            time.sleep(look.listing.wait)
    finally:
        look.close()
    return conclude_look(context, spec, look, verifies=True)


def _scene(agent: Agent, name: str) -> Scene:
    context = agent.context
    destination = context.desired.destinations[name]
    connected = context.reached(destination)
    if connected is None:
        raise LaneSyncError(f"Server/{destination.server} is not reached")
    observed = own_destination(connected.engine.observe(context.state.agent_id), Key(Kind.DESTINATION, name))
    if observed is None:
        raise LaneSyncError(f"nothing has been delivered to Destination/{name} yet")
    context.set_destination_id(name, connected, observed.id)
    return Scene(context, connected, destination)
