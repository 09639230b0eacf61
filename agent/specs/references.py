"""What specs say about each other: references, lanes that exist, places that collide. Pure functions."""

from __future__ import annotations

import ipaddress
import posixpath
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NamedTuple
from urllib.parse import urlsplit

from agent.model.paths import is_below
from agent.model.spec import (
    DEFAULT_LANES,
    IMPLICIT_SERVER,
    AlertSpec,
    DestinationSpec,
    EngineKind,
    Key,
    Kind,
    MappingSpec,
    Overwrite,
    PriorityLanesSpec,
    Publish,
    Release,
    ServerSpec,
    ShareSpec,
    Spec,
)
from agent.specs.build_publish import IN_PLACE
from agent.specs.errors import nearest

Objects = dict[Key, Spec]
Path = tuple[str | int, ...]


class Problem(NamedTuple):
    key: Key
    path: Path
    message: str


@dataclass(slots=True)
class Index:
    """Objects by kind. `broken` are keys that exist but are invalid themselves: not reported as missing.
    `left_out` are those that are not selected."""

    servers: dict[str, ServerSpec] = field(default_factory=dict)
    lanes: dict[str, PriorityLanesSpec] = field(default_factory=dict)
    destinations: dict[str, DestinationSpec] = field(default_factory=dict)
    mappings: dict[str, MappingSpec] = field(default_factory=dict)
    shares: dict[str, ShareSpec] = field(default_factory=dict)
    alerts: dict[str, AlertSpec] = field(default_factory=dict)
    broken: frozenset[Key] = frozenset()
    left_out: frozenset[Key] = frozenset()

    @classmethod
    def of(
        cls, objects: Objects, broken: frozenset[Key] = frozenset(), left_out: frozenset[Key] = frozenset()
    ) -> Index:
        index = cls(broken=broken, left_out=left_out)
        for key, spec in objects.items():
            match spec:
                case ServerSpec():
                    index.servers[key.name] = spec
                case PriorityLanesSpec():
                    index.lanes[key.name] = spec
                case DestinationSpec():
                    index.destinations[key.name] = spec
                case MappingSpec():
                    index.mappings[key.name] = spec
                case ShareSpec():
                    index.shares[key.name] = spec
                case AlertSpec():
                    index.alerts[key.name] = spec
        return index

    def names(self, kind: Kind) -> set[str]:
        found = {
            Kind.SERVER: self.servers.keys(),
            Kind.PRIORITY_LANES: self.lanes.keys(),
            Kind.DESTINATION: self.destinations.keys(),
            Kind.MAPPING: self.mappings.keys(),
            Kind.SHARE: self.shares.keys(),
            Kind.ALERT: self.alerts.keys(),
        }[kind]
        return set(found) | {key.name for key in self.broken if key.kind is kind}


def problems(index: Index) -> Iterator[Problem]:
    """Everything that is wrong between objects. A collision yields one problem for each side."""
    yield from _embedded(index)
    for name, destination in index.destinations.items():
        yield from references(index, Key(Kind.DESTINATION, name), destination)
    for name, mapping in index.mappings.items():
        yield from references(index, Key(Kind.MAPPING, name), mapping)
    for name, share in index.shares.items():
        yield from references(index, Key(Kind.SHARE, name), share)
    yield from _overlaps(index)
    yield from _taken_away(index)
    yield from _cycles(index)


def references(index: Index, key: Key, spec: Spec) -> Iterator[Problem]:
    """What is wrong with what one object refers to."""
    if isinstance(spec, DestinationSpec):
        yield from _destination(index, key, spec)
    elif isinstance(spec, MappingSpec):
        yield from _mapping(index, key, spec)
    elif isinstance(spec, ShareSpec):
        yield from _share(index, key, spec)


def dependents(index: Index) -> Iterator[tuple[Key, Key]]:
    """(object, what it refers to) for references to objects that are there but broken."""
    for name, destination in index.destinations.items():
        key = Key(Kind.DESTINATION, name)
        for needed in (
            Key(Kind.SERVER, destination.server),
            Key(Kind.SERVER, destination.control_server or ""),
            Key(Kind.PRIORITY_LANES, destination.lanes or ""),
        ):
            if needed in index.broken:
                yield key, needed
    for name, mapping in index.mappings.items():
        destinations = [Key(Kind.DESTINATION, d) for d in mapping.destinations]
        for needed in [*destinations, *(Key(Kind.MAPPING, m) for m in mapping.depends_on)]:
            if needed in index.broken:
                yield Key(Kind.MAPPING, name), needed
    for name, share in index.shares.items():
        if (needed := Key(Kind.MAPPING, share.mapping)) in index.broken:
            yield Key(Kind.SHARE, name), needed


def _embedded(index: Index) -> Iterator[Problem]:
    """Two embedded servers that listen on one port or receive below one directory."""
    taken: dict[tuple[str, str], str] = {}
    for name, server in sorted(index.servers.items()):
        if server.engine is not EngineKind.EMBEDDED:
            continue
        claims = []
        if server.port:
            claims.append(("listen", f"{server.address}:{server.port}", "listens on"))
        if server.receive_root is not None:
            claims.append(("receiveRoot", posixpath.normpath(server.receive_root), "receives below"))
        for field_name, place, does in claims:
            other = taken.setdefault((field_name, place), name)
            if other == name:
                continue
            for mine, theirs in ((name, other), (other, name)):
                message = f"Server/{theirs} {does} {place} too"
                yield Problem(Key(Kind.SERVER, mine), ("spec", field_name), message)


def _missing(index: Index, kind: Kind, name: str) -> str | None:
    names = index.names(kind)
    if name in names:
        return None
    known = tuple(sorted(names))
    hint = nearest(name, known)
    return f"there is no {kind} `{name}`{hint or ('; there is none at all' if not known else '')}"


def _destination(index: Index, key: Key, destination: DestinationSpec) -> Iterator[Problem]:
    server = destination.server
    if server != IMPLICIT_SERVER and (message := _missing(index, Kind.SERVER, server)):
        yield Problem(key, ("spec", "server"), message)
    elif message := _wrong_engine(index, destination):
        yield Problem(key, ("spec", "address" if destination.port else "url"), message)
    if message := _wrong_control(index, destination):
        yield Problem(key, ("spec", "controlServer"), message)
    if destination.lanes is not None and (message := _missing(index, Kind.PRIORITY_LANES, destination.lanes)):
        yield Problem(key, ("spec", "lanes"), message)
    lane = destination.transfer_defaults.lane
    if lane is not None and (message := _no_lane(index, destination, lane)):
        yield Problem(key, ("spec", "transferDefaults", "lane"), message)


def _wrong_engine(index: Index, destination: DestinationSpec) -> str | None:
    """A URL is for FTS3, a host for the others."""
    server = index.servers.get(destination.server, ServerSpec(IMPLICIT_SERVER))
    if destination.server in {key.name for key in index.broken if key.kind is Kind.SERVER}:
        return None
    if server.engine is EngineKind.FTS3 and destination.port:
        return f"Server/{server.name} has engine fts3, which sends to a `url`"
    if server.engine is not EngineKind.FTS3 and not destination.port:
        return f"a URL is for a server with engine fts3; Server/{server.name} sends to an `address`"
    return None


def _wrong_control(index: Index, destination: DestinationSpec) -> str | None:
    """The API of a JetStream server at the receiving side, for one that sends and cannot do it itself."""
    name = destination.control_server
    if name is None:
        return None
    if problem := _missing(index, Kind.SERVER, name):
        return problem
    found = index.servers.get(name)
    if found is not None and found.engine is not EngineKind.JETSTREAM:
        return f"Server/{name} has engine {found.engine}; a control server has engine jetstream"
    if name == destination.server:
        return f"Server/{name} is the one that sends; name the server at the receiving side, or leave it out"
    sender = index.servers.get(destination.server, ServerSpec(IMPLICIT_SERVER))
    if sender.engine is not EngineKind.JETSTREAM and Key(Kind.SERVER, sender.name) not in index.broken:
        return f"Server/{sender.name} has engine {sender.engine}, which needs no control server; leave it out"
    return None


def _no_lane(index: Index, destination: DestinationSpec, lane: str) -> str | None:
    if destination.lanes is None:
        owner, names = "the default lanes have", tuple(known.name for known in DEFAULT_LANES)
    elif destination.lanes in index.lanes:
        owner = f"PriorityLanes/{destination.lanes} has"
        names = tuple(known.name for known in index.lanes[destination.lanes].lanes)
    else:
        return None
    if lane in names:
        return None
    hint = nearest(lane, names) or "; there are " + ", ".join(f"`{n}`" for n in names[:20])
    return f"{owner} no lane `{lane[:60]}`{hint}"


def _mapping(index: Index, key: Key, mapping: MappingSpec) -> Iterator[Problem]:
    for number, name in enumerate(mapping.destinations):
        # the caller falls back to `destination` where the document has no `destinations`
        where: Path = ("spec", "destinations", number)
        if message := _missing(index, Kind.DESTINATION, name):
            yield Problem(key, where, message)
        elif mapping.lane is not None and name in index.destinations:
            problem = _no_lane(index, index.destinations[name], mapping.lane)
            if problem:
                yield Problem(key, ("spec", "lane"), f"{problem} (destination {name})")
        if _written_in_place(index, mapping, name):
            yield Problem(key, ("spec", "publish"), f"{IN_PLACE} (destination {name})")
    yield from _unserved(index, key, mapping)
    for number, name in enumerate(mapping.depends_on):
        where = ("spec", "dependsOn", number)
        if Key(Kind.MAPPING, name) in index.left_out:
            yield Problem(
                key,
                where,
                f"Mapping/{name} is not selected here: this agent cannot know when it is in sync; "
                "select both, or neither",
            )
        elif message := _missing(index, Kind.MAPPING, name):
            yield Problem(key, where, message)


def _written_in_place(index: Index, mapping: MappingSpec, destination: str) -> bool:
    """A set that would take the overwrite mode of its destination."""
    if mapping.publish is not Publish.SET or mapping.overwrite is not None:
        return False
    found = index.destinations.get(destination)
    return found is not None and found.transfer_defaults.overwrite is Overwrite.SAME_SIZE_IN_PLACE


def _share(index: Index, key: Key, share: ShareSpec) -> Iterator[Problem]:
    where: Path = ("spec", "mapping")
    if Key(Kind.MAPPING, share.mapping) in index.left_out:
        message = f"Mapping/{share.mapping} is not selected here: select both, or neither"
        yield Problem(key, where, message)
    elif problem := _missing(index, Kind.MAPPING, share.mapping):
        yield Problem(key, where, problem)


def _taken_away(index: Index) -> Iterator[Problem]:
    """Sources that one entry deletes while another one, of whatever mapping, reads them."""
    readers: dict[str, list[str]] = {}  # source: mappings, one that has it twice is named twice
    for name, mapping in index.mappings.items():
        for entry in mapping.paths:
            readers.setdefault(entry.source, []).append(name)
    ordered: list[str] = []
    for name, mapping in index.mappings.items():
        if mapping.release is not Release.DELETE_SOURCE:
            continue
        ordered = ordered or sorted(readers)
        for entry in mapping.paths:
            others = [other for place in _around(entry.source, ordered) for other in readers[place]]
            others.remove(name)  # this entry itself
            for other in dict.fromkeys(others):
                whose = "another entry of this mapping" if other == name else f"Mapping/{other}"
                message = f"would delete below {entry.source} what {whose} reads there, too"
                yield Problem(Key(Kind.MAPPING, name), ("spec", "release"), message)


def _around(source: str, ordered: list[str]) -> list[str]:
    """Which of these sources are the same one, above it, or below it."""
    base = source.rstrip("/") + "/"
    first = bisect_left(ordered, base)
    below = takewhile(lambda place: place.startswith(base), islice(ordered, first, None))
    above = {source, "/", *(source[:end] for end, letter in enumerate(source) if letter == "/" and end)}
    found = [p for p in above if (at := bisect_left(ordered, p)) < len(ordered) and ordered[at] == p]
    return list(dict.fromkeys([*found, *below]))


def _cycles(index: Index) -> Iterator[Problem]:
    """Mappings that wait for themselves, one problem for each."""
    done: set[str] = set()
    for start in sorted(index.mappings):
        path: list[str] = []
        pending = [(start, 0)]
        while pending:
            name, depth = pending.pop()
            del path[depth:]
            if name in path:
                yield from _cycle(index, path[path.index(name) :])
            elif name not in done and name in index.mappings:
                path.append(name)
                done.add(name)
                pending += [(needed, depth + 1) for needed in index.mappings[name].depends_on]


def _cycle(index: Index, names: list[str]) -> Iterator[Problem]:
    for at, name in enumerate(names):
        needed = names[(at + 1) % len(names)]
        way = " → ".join([*names[at:], *names[: at + 1]])
        where = ("spec", "dependsOn", index.mappings[name].depends_on.index(needed))
        yield Problem(Key(Kind.MAPPING, name), where, f"waits for itself: {way}")


def _unserved(index: Index, key: Key, mapping: MappingSpec) -> Iterator[Problem]:
    """Sources that a server with engine fts3 cannot fetch: it copies from storages alone."""
    for name in mapping.destinations:
        destination = index.destinations.get(name)
        server = index.servers.get(destination.server) if destination is not None else None
        if server is None or server.engine is not EngineKind.FTS3:
            continue
        for entry in mapping.paths:
            if not any(is_below(entry.source, storage.path) for storage in server.storage):
                served = ", ".join(storage.path for storage in server.storage)
                message = (
                    f"{entry.source} is below no path of `storage` of Server/{server.name} ({served}); FTS3 "
                    "copies from storages alone: add the directory there, with the URL that serves it"
                )
                yield Problem(key, ("spec", "paths", entry.destination), message)


class _Place(NamedTuple):
    endpoint: tuple[str, int]
    parts: tuple[str, ...]
    key: Key
    where: Path


def _overlaps(index: Index) -> Iterator[Problem]:
    """Entries that write to the same directory of the same receiver, or one below the other."""
    above: list[_Place] = []
    for place in sorted(_places(index)):
        while above and (
            above[-1].endpoint != place.endpoint or place.parts[: len(above[-1].parts)] != above[-1].parts
        ):
            above.pop()
        if above:
            yield from _collision(above[-1], place)
        above.append(place)


def _places(index: Index) -> Iterator[_Place]:
    receivers = {name: _receiver(destination) for name, destination in index.destinations.items()}
    for name, mapping in index.mappings.items():
        key = Key(Kind.MAPPING, name)
        for number, target in enumerate(mapping.destinations):
            if target not in receivers:
                continue
            host, port, above = receivers[target]
            for entry in mapping.paths:
                path = f"{above}/{mapping.destination_path}/{entry.destination}"
                parts = tuple(part for part in path.split("/") if part)
                yield _Place((host, port), parts, key, ("spec", "paths", number, entry.destination))


def _receiver(destination: DestinationSpec) -> tuple[str, int, str]:
    """(host, port, directory above all paths). The protocol of a URL does not make another place of it."""
    if destination.port:
        return canonical_host(destination.address), destination.port, ""
    url = urlsplit(destination.address)
    return canonical_host(url.hostname or ""), 0, url.path


def _collision(first: _Place, second: _Place) -> Iterator[Problem]:
    host, port = first.endpoint
    address = f"{host}:{port}" if port else host
    for mine, other in ((second, first), (first, second)):
        whose = "this mapping" if mine.key == other.key else str(other.key)
        mine_path, other_path = "/" + "/".join(mine.parts), "/" + "/".join(other.parts)
        how = "too" if mine_path == other_path else f"({other_path})"
        message = f"writes {mine_path} at {address}, where {whose} writes {how}; one place has one owner"
        yield Problem(mine.key, ("spec", "paths", mine.where[-1]), message)


def canonical_host(address: str) -> str:
    """One text for one host as far as the text alone tells: no name service is asked."""
    host = address.strip("[]").rstrip(".").lower()
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return "127.0.0.1" if host == "localhost" else host
    return "127.0.0.1" if ip == ipaddress.ip_address("::1") else str(ip)
