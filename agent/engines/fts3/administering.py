"""What only some identities may do at a service: weights of activities (our lanes), and bans of storages.

Both act on everybody of the VO, so both are done with care: weights of others' activities are kept, and only
a ban that we made is lifted. Where we may not, our own window does the same for our own files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from agent.engines.fts3 import urls
from agent.engines.fts3.service import Service
from agent.engines.fts3.store import Place, Store
from agent.fts3 import FTS3ClientException, Kind, WhoAmI
from agent.model.condition import Reason
from agent.model.observed import Notice
from agent.model.spec import DEFAULT_LANES

_IDLE_WEIGHT = 0.001
"""Of a lane with a share of 0: FTS3 would never start an activity of weight 0."""

_TOLERANCE = 1e-6

_NOBODY_SET = {lane.name: lane.share for lane in DEFAULT_LANES}

_MESSAGE = "LaneSync: destination {} is suspended"

_FORBIDDEN = (Kind.NOT_PERMITTED, Kind.NEEDS_CREDENTIAL)

Json = dict[str, Any]


def wanted_shares(places: Iterable[Place]) -> dict[str, float]:
    """The weight of each lane name that somebody has set: the lanes that every destination begins with are no
    reason to touch what all of a VO shares. Where destinations differ the highest counts."""
    found: dict[str, float] = {}
    for place in places:
        if place.shares == _NOBODY_SET:
            continue
        for lane, share in place.shares.items():
            found[lane] = max(found.get(lane, 0.0), share, _IDLE_WEIGHT)
    return found


def differing(wanted: dict[str, float], there: dict[str, float]) -> bool:
    return any(abs(there.get(lane, -1.0) - weight) > _TOLERANCE for lane, weight in wanted.items())


class Administration:
    def __init__(self, service: Service, store: Store) -> None:
        self._service = service
        self._store = store
        self._banned: set[str] = set()  # storages that a ban of ours holds

    # -- activity shares

    def share_lanes(self, who: WhoAmI) -> Notice | None:
        """Compare and set; what cannot be set is told, with what an administrator has to send."""
        wanted = wanted_shares(self._store.places().values())
        if not wanted or not who.vos:
            return None
        vo = who.vos[0]
        try:
            config = self._service.working().config
            there = _weights(config.activity_shares().get(vo))
            if differing(wanted, there):
                config.set_activity_shares(vo, {**there, **wanted})
        except FTS3ClientException as error:
            if error.kind not in _FORBIDDEN:
                return None  # it is tried again
            body = json.dumps({"vo": vo, "share": wanted, "active": True})
            return Notice(
                Reason.NOT_PERMITTED,
                f"the shares of the lanes hold among our own files only: the service does not let us set "
                f"activity shares; an administrator may POST /config/activity_shares {body}",
            )
        return None

    # -- bans

    def hold(self, place: Place) -> str:
        """Ban the storage with `wait`. Says what holds the destination now."""
        own = "nothing new is submitted; what runs goes on"
        element = urls.element(place.url)
        others = [p for p in self._store.places().values() if urls.element(p.url) == element and not p.held]
        if any(other.number != place.number for other in others):
            return f"{own}; {element} is not banned, because another destination of ours is there"
        try:
            bans = self._service.asking().bans
            there = _ban_of(bans.banned_ses(), element)
            if there is not None and not self._ours(there):
                return f"{own}; {element} is banned by others, too"
            if there is None:
                bans.ban_se(element, "wait", message=_MESSAGE.format(place.id))
        except FTS3ClientException as error:
            if error.kind in _FORBIDDEN:
                return f"{own}; banning {element} is not permitted to us"
            return f"{own}; {element} could not be banned: {error}"
        self._banned.add(element)
        return f"{element} is banned with `wait` for the whole VO; what runs goes on"

    def release(self, place: Place) -> None:
        """Lift the ban that we made, and no other. Raises the client's errors."""
        element = urls.element(place.url)
        bans = self._service.asking().bans
        try:
            there = _ban_of(bans.banned_ses(), element)
        except FTS3ClientException as error:
            if error.kind not in _FORBIDDEN:
                raise
            there = None  # who may not look has made none
        if there is not None and self._ours(there):
            bans.unban_se(element)
        self._banned.discard(element)

    def banned(self, place: Place) -> bool:
        """Whether a ban of ours holds its storage, as far as we know."""
        return urls.element(place.url) in self._banned

    def _ours(self, ban: Json) -> bool:
        """A ban's only mark is its message; it names the destination that it was made for."""
        return ban.get("message") in {_MESSAGE.format(place.id) for place in self._store.places().values()}


def _ban_of(bans: Iterable[Json], element: str) -> Json | None:
    return next((ban for ban in bans if ban.get("se") == element), None)


def _weights(entry: object) -> dict[str, float]:
    share = entry.get("share") if isinstance(entry, dict) else None
    if isinstance(share, list):  # a list of objects with one name each, on some versions
        share = {name: value for one in share if isinstance(one, dict) for name, value in one.items()}
    if not isinstance(share, dict):
        return {}
    return {str(name): float(value) for name, value in share.items() if isinstance(value, int | float)}
