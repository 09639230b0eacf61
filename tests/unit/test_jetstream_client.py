"""The JetStream client against a small real TCP server that answers line by line."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.jetstream import (
    APIInterface,
    AuthenticationError,
    CommandError,
    ConnectionFailedError,
    JetStream,
    Jetstream,
    NotConnectedError,
    NotFoundError,
    ProtocolError,
    RequestTimeoutError,
    VersionMismatchError,
    constants,
)
from agent.jetstream.wire import encode

Answer = Callable[[dict[str, Any]], Any]
INFO = {"apiVersion": constants.API_VERSION}
SILENT = object()


class RefusedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Server:
    """Answers each request by `answer(request)` in a thread of its own; SILENT = no answer."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[dict[str, Any]] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        lock = threading.Lock()
        with peer, peer.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                self.requests.append(request)
                threading.Thread(target=self._one, args=(peer, lock, request), daemon=True).start()

    def _one(self, peer: socket.socket, lock: threading.Lock, request: dict[str, Any]) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            result = self._answer(request)
            if result is SILENT:
                return
            if isinstance(result, bytes):
                with lock:
                    peer.sendall(result)
                return
            message["result"] = result
        except RefusedError as failure:
            message["error"] = {"code": failure.code, "message": str(failure)}
        with lock:
            peer.sendall((json.dumps(message) + "\n").encode())

    def drop(self) -> None:
        for peer in self._peers:
            peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        def with_info(request: dict[str, Any]) -> Any:
            result = answer(request)
            return INFO if result is None and request["method"] == "server.getServerInfo" else result

        servers.append(Server(with_info))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def connected(server: Server, **options: Any) -> APIInterface:
    api = Jetstream().api("127.0.0.1", server.port, **options)
    api.connect()
    return api


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_both_spellings_of_the_entry_class_are_one() -> None:
    """Scripts written for either generation of the API run."""
    assert JetStream is Jetstream


def test_the_context_manager_connects_and_disconnects(serve: Callable[[Answer], Server]) -> None:
    """`with api:` is connected inside and not after."""
    api = Jetstream().api("127.0.0.1", serve(lambda request: None).port)
    with api:
        assert api.connected
    assert not api.connected
    with pytest.raises(NotConnectedError, match="connect"):
        api.server.getServerInfo()


def test_nobody_listening_says_where_and_what_to_do() -> None:
    """A refused connection names host and port, and is an ordinary ConnectionError too."""
    port = closed_port()
    with pytest.raises(ConnectionFailedError, match=f"127.0.0.1:{port}.*start the server"):
        Jetstream().api("127.0.0.1", port).connect()
    with pytest.raises(ConnectionError):
        Jetstream().api("127.0.0.1", port).connect()


def test_another_api_version_is_refused(serve: Callable[[Answer], Server]) -> None:
    """A server of another version raises and leaves nothing connected."""
    server = serve(lambda request: {"apiVersion": 1})
    api = Jetstream().api("127.0.0.1", server.port)
    with pytest.raises(VersionMismatchError, match="version 1"):
        api.connect()
    assert not api.connected


def test_the_version_is_checked_after_log_in_where_strangers_learn_nothing(
    serve: Callable[[Answer], Server],
) -> None:
    """A server that answers only authToken first is still checked for its version."""
    known = threading.Event()

    def answer(request: dict[str, Any]) -> Any:
        if request["method"] == "server.authToken":
            known.set()
            return None
        if not known.is_set():
            raise RefusedError(constants.ERROR_AUTHENTICATION, "log in first")
        return {"apiVersion": 1}

    api = connected(serve(answer))
    with pytest.raises(VersionMismatchError):
        api.server.authToken("secret")


def test_parameters_that_are_none_are_not_sent(serve: Callable[[Answer], Server]) -> None:
    """The server's own defaults hold for what the caller leaves out."""
    server = serve(lambda request: None if request["method"] == "server.getServerInfo" else {})
    api = connected(server)
    api.send.createDestination("host", destinationPort=9)
    api.send.createTransfer("1", "2")
    assert server.requests[-2]["params"] == {"destinationAddress": "host", "destinationPort": 9}
    assert server.requests[-1]["params"] == {"destinationId": "1", "manifestId": "2"}


def test_an_id_may_be_the_structure_that_holds_it(serve: Callable[[Answer], Server]) -> None:
    """Structures stand for their ids; of a transfer's three ids each method takes its own."""
    server = serve(lambda request: None if request["method"] == "server.getServerInfo" else {})
    api = connected(server)
    transfer = {"transferId": "17", "destinationId": "42", "manifestId": "2"}
    api.send.getTransfer(transfer)
    api.send.getDestination(transfer)
    api.send.updateObjectUserData(transfer, "key", "value")
    api.server.getRequestStatus({"requestId": 1})
    sent = [request["params"] for request in server.requests[1:]]
    assert sent[0] == {"transferId": "17"}
    assert sent[1] == {"destinationId": "42"}
    assert sent[2] == {"objId": "17", "key": "key", "value": "value"}
    assert sent[3] == {"requestId": 1}
    with pytest.raises(TypeError, match="transferId"):
        api.send.getTransfer({"destinationId": "42"})


@pytest.mark.parametrize("name", ["plain", "日本語 é", "bad\udcff\udc80name", 'quote"\\\n'])
def test_any_file_name_survives_the_wire(serve: Callable[[Answer], Server], name: str) -> None:
    """Names that are not UTF-8 travel as surrogate escapes, both ways."""

    def answer(request: dict[str, Any]) -> Any:
        return request["params"].get("text")

    assert connected(serve(answer)).server.echo(name) == name
    assert b"\n" not in encode({"name": name})[:-1]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (constants.ERROR_COMMAND, CommandError),
        (constants.ERROR_NOT_FOUND, NotFoundError),
        (constants.ERROR_AUTHENTICATION, AuthenticationError),
        (12345, CommandError),
    ],
)
def test_refusals_raise_with_the_servers_message(
    serve: Callable[[Answer], Server], code: int, kind: type[CommandError]
) -> None:
    """The message is the server's, the class tells what it is about."""

    def answer(request: dict[str, Any]) -> Any:
        if request["method"] == "server.getServerInfo":
            return None
        raise RefusedError(code, "no such thing")

    with pytest.raises(CommandError, match="no such thing") as caught:
        connected(serve(answer)).send.getTransfer("9")
    assert type(caught.value) is kind
    assert caught.value.code == code


def test_a_blocking_wait_holds_up_no_other_call(serve: Callable[[Answer], Server]) -> None:
    """While one thread waits for a transfer, another's call on the same connection is answered."""
    release = threading.Event()

    def answer(request: dict[str, Any]) -> Any:
        if request["method"] == "send.waitForTransfer":
            release.wait(30)
            return {"status": "complete"}
        return request["params"].get("text")

    api = connected(serve(answer))
    results: list[Any] = []
    waiter = threading.Thread(target=lambda: results.append(api.send.waitForTransfer("1")))
    waiter.start()
    assert api.server.echo("meanwhile") == "meanwhile"
    assert results == []
    release.set()
    waiter.join(30)
    assert results == [{"status": "complete"}]


def test_many_threads_each_get_their_own_answer(serve: Callable[[Answer], Server]) -> None:
    """Side by side on one connection, with some calls given up, nothing is mixed up and nobody hangs."""

    def answer(request: dict[str, Any]) -> Any:
        text = request["params"].get("text")
        return SILENT if text == "silent" else text

    api = connected(serve(answer), requestTimeout=30)
    wrong: list[Any] = []

    def hammer(number: int) -> None:
        for turn in range(60):
            text = f"{number} {turn}"
            if (got := api.server.echo(text)) != text:
                wrong.append((text, got))

    def give_up() -> None:
        for _ in range(20):
            try:
                api._connection.call("server.echo", {"text": "silent"}, 0.005)  # type: ignore[union-attr]
            except RequestTimeoutError:
                continue
            wrong.append("an answer to nothing")

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(8)]
    threads += [threading.Thread(target=give_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_a_lost_connection_ends_every_wait(serve: Callable[[Answer], Server]) -> None:
    """Calls that wait raise when the server goes away, and connect() works again after."""
    arrived = threading.Event()

    def answer(request: dict[str, Any]) -> Any:
        if request["method"] == "send.waitForTransfer":
            arrived.set()
            return SILENT
        return None

    server = serve(answer)
    api = connected(server)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            api.send.waitForTransfer("1")
        except ConnectionFailedError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert arrived.wait(30)
    server.drop()
    waiter.join(30)
    assert len(errors) == 1
    assert not api.connected
    api.connect()
    assert api.server.getServerInfo() == INFO


def test_no_answer_in_time_is_an_error_of_its_own(serve: Callable[[Answer], Server]) -> None:
    """A silent server raises RequestTimeoutError and the connection stays usable."""
    api = connected(
        serve(lambda request: SILENT if request["method"] == "server.echo" else None), requestTimeout=0.05
    )
    with pytest.raises(RequestTimeoutError, match=r"server\.echo"):
        api.server.echo("x")
    api.requestTimeout = 30
    assert api.server.getServerInfo() == INFO


@pytest.mark.parametrize(
    "line",
    [
        b"SSH-2.0-OpenSSH\n",
        b"[1]\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"id":null,"result":1}\n',
        b"[" * 200_000 + b"\n",
    ],
    ids=["text", "array", "empty", "not-utf8", "no-id", "deep"],
)
def test_something_else_on_the_port_is_named(serve: Callable[[Answer], Server], line: bytes) -> None:
    """Answers that are not JSON-RPC end in ProtocolError, whatever they are."""
    server = serve(lambda request: line)
    with pytest.raises(ProtocolError, match=f"127.0.0.1:{server.port}"):
        connected(server)


def test_an_endless_line_is_given_up(serve: Callable[[Answer], Server]) -> None:
    """A server that never ends its line cannot fill the client's memory."""
    server = serve(lambda request: b"x" * (constants.MAX_MESSAGE_BYTES + 2))
    with pytest.raises(ProtocolError, match="longer than"):
        connected(server)


def test_a_message_too_long_is_refused_before_it_is_sent(serve: Callable[[Answer], Server]) -> None:
    """What the server would cut off is refused with what to do, and the connection lives on."""
    api = connected(serve(lambda request: None))
    with pytest.raises(ProtocolError, match="fewer entries"):
        api.server.echo("x" * constants.MAX_MESSAGE_BYTES)
    assert api.server.getServerInfo() == INFO
