"""Receivers that answer a sender with anything at all: other transfers go on, and it says what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from servers import Server, eventually, start_server

from agent.jetstream import CommandError, constants
from agent.server.data import wire
from agent.server.data.wire import Header, Kind, Stream

pytestmark = pytest.mark.fault

MIB = 1 << 20
RSS_BOUND = 400 * MIB  # of the sender worker
HELLO = {"protocol": wire.PROTOCOL, "features": [], "epoch": "e", "serverId": "x", "serverUid": "x"}
Reply = Callable[[Stream, Header, bytes], None]


class Place(NamedTuple):
    sender: Server
    receiver: Server
    folder: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("receivers")
    (folder / "small").write_bytes(os.urandom(1000))
    (folder / "large").write_bytes(os.urandom(3 * MIB))
    with start_server(folder / "s") as sender, start_server(folder / "r") as receiver:
        made = Place(sender, receiver, folder)
        send_soundly(made)
        worker = sender.worker("sender")
        yield made
        assert sender.worker("sender") == worker, "the worker was started anew"
        assert resident(worker or 0) < RSS_BOUND
        assert "Traceback" not in sender.log()


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def _manifest(api: Any, place: Place) -> Any:
    sources = {f"/{name}": str(place.folder / name) for name in ("small", "large")}
    return api.send.waitForManifest(api.send.createManifest(mappings=sources))


def send_soundly(place: Place) -> None:
    with place.sender.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=place.receiver.port)
        ended = api.send.waitForTransfer(api.send.createTransfer(destination, _manifest(api, place)))
        assert ended["status"] == "complete", ended["errorMessage"]


class Impostor:
    """Takes data sessions and answers each frame with `reply`; a HELLO by itself unless `rude`."""

    def __init__(self, reply: Reply, *, rude: bool = False) -> None:
        self._reply = reply
        self._rude = rude
        self.sessions = 0
        self._socks: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self.sessions += 1
                self._socks.append(sock)
                threading.Thread(target=self._serve, args=(Stream(sock),), daemon=True).start()

    def _serve(self, stream: Stream) -> None:
        with contextlib.suppress(OSError, wire.WireError, AssertionError), stream.sock:
            stream.receive_preamble()
            while (received := stream.receive()) is not None:
                header, payload = received[0], bytes(received[1])
                if header.kind == Kind.HELLO and not self._rude:
                    stream.send_json(Header(Kind.HELLO), HELLO)
                else:
                    self._reply(stream, header, payload)

    def leave(self) -> None:
        """Nothing answers any more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


def _json(kind: Kind, value: Any) -> Reply:
    """Answers everything with that."""

    def reply(stream: Stream, header: Header, _payload: bytes) -> None:
        data = json.dumps(value).encode()
        head = (kind, 0, header.generation, header.handle, header.seq, len(data), header.offset, 0)
        stream.sock.sendall(wire.HEADER.pack(*head) + data)

    return reply


def _raw(data: bytes) -> Reply:
    return lambda stream, _header, _payload: stream.sock.sendall(data)


def _opened_then(answer: Callable[[Stream, Header], None], **more: Any) -> Reply:
    """A sound OPENED, then `answer` to each frame of content."""

    def reply(stream: Stream, header: Header, payload: bytes) -> None:
        if header.kind == Kind.OPEN:
            _json(Kind.OPENED, {"runs": [], "partials": []} | more)(stream, header, payload)
        else:
            answer(stream, header)

    return reply


def _frame(kind: Kind, payload: bytes = b"", **fields: int) -> Callable[[Stream, Header], None]:
    def answer(stream: Stream, header: Header) -> None:
        stream.send(Header(kind, handle=header.handle)._replace(**fields), payload)

    return answer


RUDE: dict[str, Reply] = {
    "nothing at all": lambda stream, _header, _payload: stream.sock.close(),
    "another protocol": _raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    "a HELLO of other shape": _json(Kind.HELLO, [1]),
    "a HELLO of another version": _json(Kind.HELLO, HELLO | {"protocol": 99}),
    "a HELLO of lists": _json(
        Kind.HELLO, HELLO | {"epoch": [], "serverId": {}, "serverUid": 5, "protocol": "1"}
    ),
    "an endless HELLO": _raw(wire.HEADER.pack(Kind.HELLO, 0, 0, 0, 0, wire.MAX_JSON, 0, 0)),
    "an error of any type": _json(Kind.ERROR, {"error": {"deep": [1]}, "code": [1]}),
    "a long error": _json(Kind.ERROR, {"error": "x" * 60_000}),
    "content": _raw(wire.HEADER.pack(Kind.CHUNK, 0, 0, 0, 0, 4, 0, 0) + b"evil"),
}
POLITE: dict[str, Reply] = {
    "runs of no sense": _json(Kind.OPENED, {"runs": [[0, 1 << 70, 999], [-5, -5, -5]], "partials": []}),
    "runs of no shape": _json(Kind.OPENED, {"runs": {"a": 1}, "partials": 5}),
    "runs of infinity": _json(Kind.OPENED, {"runs": [[1e999, 1, 1]], "partials": []}),
    "partials of no shape": _json(Kind.OPENED, {"runs": [], "partials": [[1, 2, 3]]}),
    "partials of no sense": _json(
        Kind.OPENED, {"runs": [], "partials": [[0, 1 << 40, [1, 2, 3, 4], [[-9, 1 << 80], [5, 1]]]]}
    ),
    "half an outcome": _opened_then(_frame(Kind.DONE, b"\0\0\0")),
    "outcomes of files that there are not": _opened_then(
        _frame(Kind.DONE, struct.pack(">IB", 999, 255) * 1000)
    ),
    "outcomes that there are not": _opened_then(_frame(Kind.DONE, struct.pack(">IBIB", 0, 77, 1, 78))),
    "failures of no shape": _opened_then(_frame(Kind.FAILED, b'{"files":[[1]]}')),
    "failures without files": _opened_then(_frame(Kind.FAILED, b"{}")),
    "failures of text": _opened_then(_frame(Kind.FAILED, b'{"files":["ab"]}')),
    "damage that there was not": _opened_then(
        _frame(Kind.NAK, seq=1, generation=1, offset=1 << 60, digest=1 << 60)
    ),
    "damage without end": _opened_then(_frame(Kind.NAK)),
    "an older version that nobody asked for": _opened_then(
        _frame(Kind.BASE, seq=1, generation=1, offset=1 << 63)
    ),
    "what it wants of what it was not offered": _opened_then(
        _frame(Kind.WANT, struct.pack(">II", 0, 1 << 31), seq=1, generation=1, offset=1 << 63)
    ),
    "a checkpoint before it was asked for": _opened_then(_frame(Kind.CHECKPOINTED, flags=1)),
    "closed before it was asked for": _opened_then(_frame(Kind.CLOSED)),
    "answers to nobody": _opened_then(_frame(Kind.REMOTE_RESULT, b'{"results":[]}', offset=12345)),
    "frames for senders' receivers": _opened_then(_frame(Kind.OPEN, b"{}")),
    "noise": _opened_then(lambda stream, _header: stream.sock.sendall(os.urandom(5000))),
    "nested": _opened_then(_frame(Kind.FAILED, b"[" * 50_000)),
}

WAITING = {
    *(
        "runs of no sense",
        "partials of no sense",
        "outcomes of files that there are not",
        "answers to nobody",
    ),
    *("outcomes that there are not", "damage without end", "a checkpoint before it was asked for"),
    *("closed before it was asked for", "an endless HELLO"),
    *("an older version that nobody asked for", "what it wants of what it was not offered"),
}
"""What the sender passes over, and goes on waiting as it has to."""


@pytest.mark.parametrize("what", [*RUDE, *POLITE])
def test_a_receiver_that_says_what_it_likes_harms_its_own_transfer_only(place: Place, what: str) -> None:
    """The destination says what is wrong or the transfer ends; a sound one beside it arrives."""
    reply = RUDE.get(what) or POLITE[what]
    with Impostor(reply, rude=what in RUDE) as impostor, place.sender.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=impostor.port)
        transfer = api.send.createTransfer(destination, _manifest(api, place))
        eventually(lambda: impostor.sessions > 0, what="it is connected to")
        send_soundly(place)

        def told() -> bool:
            found = api.send.getDestination(destination)["lastErrorMessage"]
            return bool(found) or api.send.getTransfer(transfer)["status"] in ("complete", "error")

        if what not in WAITING:
            eventually(told, what="what is wrong is told")
        impostor.leave()
        eventually(lambda: api.send.getDestination(destination)["lastErrorMessage"], what="it is missed")


_NO_RESULTS: list[Any] = [
    *("text", {"a": [1]}, 5, None, [], [[1e999]], [["\ud800"]], [["/x", "deleted"]], [["/x", 1, ""]]),
    *([["/y", "deleted", ""]], [["/x", "burnt", ""]], [["/x", "deleted", ""], ["/x", "deleted", ""]]),
]


@pytest.mark.parametrize("results", _NO_RESULTS, ids=repr)
def test_what_a_receiver_says_of_a_change_is_believed_only_where_it_makes_sense(
    place: Place, results: Any
) -> None:
    """Whatever else it says of a deletion or a renaming is an error that names it."""
    with Impostor(_json(Kind.REMOTE_RESULT, {"results": results})) as impostor, place.sender.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=impostor.port)
        for request in (
            api.lanesync.deletePathsAsync(destination, ["/x"]),
            api.lanesync.renamePathsAsync(destination, [("/old", "/x")]),
        ):
            with pytest.raises(CommandError, match=f"what 127.0.0.1:{impostor.port} answers cannot be"):
                api.server.getRequestResult(request)


def _listed(path: str, **changed: Any) -> list[Any]:
    row = {"path": path, "kind": "file", "size": 1, "mtime": 1, "executable": False, "digest": ""} | changed
    return list(row.values())


_LIES: dict[str, Any] = {
    "no list": {"results": "text"},
    "outside": {"results": [_listed("/elsewhere/a")]},
    "dots": {"results": [_listed("/d/../a")]},
    "not below": {"results": [_listed("/dd")]},
    "a huge name": {"results": [_listed("/d/" + "n" * 300)]},
    "out of order": {"results": [_listed("/d/b"), _listed("/d/a")]},
    "before what was asked for": {"results": [_listed("/d/0")]},
    "more than was asked for": {"results": [_listed(f"/d/n{number:05}") for number in range(20_001)]},
    "a cursor that does not move": {"results": [], "next": "/d/1"},
    "a cursor that goes back": {"results": [_listed("/d/b")], "next": "/d/a"},
    "a cursor that leaps": {"results": [_listed("/d/b")], "next": "/d/z"},
    "a negative size": {"results": [_listed("/d/b", size=-1)]},
    "a size beyond all disks": {"results": [_listed("/d/b", size=1 << 80)]},
    "a digest of no shape": {"results": [_listed("/d/b", digest="x" * 100)]},
    "a kind that there is not": {"results": [_listed("/d/b", kind="door")]},
}


@pytest.mark.parametrize("lie", _LIES)
def test_a_list_of_files_that_cannot_be_is_refused(place: Place, lie: str) -> None:
    """The error names the destination; nothing of the page is told."""
    with Impostor(_json(Kind.REMOTE_RESULT, _LIES[lie])) as impostor, place.sender.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=impostor.port)
        request = api.lanesync.listPathsAsync(destination, "/d", after="/d/1")
        with pytest.raises(CommandError, match=f"what 127.0.0.1:{impostor.port} answers cannot be believed"):
            api.server.getRequestResult(request)


def test_an_answer_with_too_many_values_ends_the_session_alone(place: Place) -> None:
    """It is not even parsed; the caller hears that there is none."""
    values = b'{"results":[' + b"0," * wire.MAX_VALUES + b"0]}"
    answer = _frame(Kind.REMOTE_RESULT, values, offset=1)
    with (
        Impostor(lambda stream, header, _payload: answer(stream, header)) as impostor,
        place.sender.api() as api,
    ):
        destination = api.send.createDestination("127.0.0.1", destinationPort=impostor.port)
        with pytest.raises(CommandError):
            api.server.getRequestResult(api.lanesync.listPathsAsync(destination, "/"))
    send_soundly(place)


def test_partials_that_name_the_source_but_not_what_is_there(place: Place) -> None:
    """A receiver that has learnt what identifies the source claims impossible ranges of it."""
    learnt: dict[int, list[int]] = {}

    def reply(stream: Stream, header: Header, payload: bytes) -> None:
        if header.kind == Kind.OPEN:
            partials = [[seq, 1, identity, [[-5, 1 << 62], [7, 3]]] for seq, identity in learnt.items()]
            _json(Kind.OPENED, {"runs": [], "partials": partials})(stream, header, payload)
        elif header.kind == Kind.FILE:
            learnt[header.seq] = json.loads(payload)["identity"]
            stream.sock.close()

    with Impostor(reply) as impostor, place.sender.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=impostor.port)
        api.send.createTransfer(destination, _manifest(api, place))
        eventually(lambda: learnt and impostor.sessions > 4, what="it comes again")
        send_soundly(place)


def _obliging(stream: Stream, header: Header, _payload: bytes) -> None:
    """A receiver of an earlier version, to which nothing is sent."""
    if header.kind == Kind.OPEN:
        stream.send_json(Header(Kind.OPENED, handle=header.handle), {"runs": [], "partials": []})
    elif header.kind == Kind.CHECKPOINT:
        stream.send(Header(Kind.CHECKPOINTED, handle=header.handle))


@pytest.mark.parametrize(
    ("flag", "field"),
    [
        (constants.TRANSFER_FLAG_SET, "`publish: set`"),
        (constants.TRANSFER_FLAG_STRICT, "`durability: strict`"),
        (0, "`symlinks: preserve`"),
    ],
)
def test_a_receiver_of_an_earlier_version_is_asked_for_nothing_that_it_does_not_know(
    place: Place, flag: int, field: str
) -> None:
    """The transfer, or the link, fails for good, and the field of the spec is named with the remedy."""
    link = place.folder / "link"
    if not link.is_symlink():
        link.symlink_to("small")
    entry = {"src": str(link), "size": 5, "flags": constants.FILETYPE_SYMLINK}
    with Impostor(_obliging) as impostor, place.sender.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=impostor.port)
        manifest = api.send.waitForManifest(api.send.createManifest(mappings={"/link": entry}))
        flags = constants.DEFAULT_TRANSFER_FLAGS | flag
        ended = api.send.waitForTransfer(api.send.createTransfer(destination, manifest, transferFlags=flags))
        assert ended["status"] == "error"
        assert field in ended["errorMessage"] and "newer version" in ended["errorMessage"]
