"""What a connection begins with, and what protects it: ClientHellos, keys, levels, rules, TLS streams."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jetstream import keys
from agent.server import clienthello, identity
from agent.server.callers import DATA_PREAMBLE, DISCOVER_PREAMBLE, Caller, recognise
from agent.server.clienthello import ClientHello, ClientHelloError
from agent.server.data import proof, secure
from agent.server.data.greetings import Greetings
from agent.server.data.rules import Rules, UnauthorizedError
from agent.server.data.secure import Contexts, SecureError, SecureSocket
from agent.server.data.target import Target
from agent.server.data.wire import Header, Kind, Stream, WireError
from agent.server.errors import StartError
from agent.server.identity import Identities

NOW = 1_800_000_000.0
DAY = 86400


def hello(*, protocols: list[str] | None = None, name: str | None = None) -> bytes:
    """A ClientHello as this machine's TLS library makes it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message cut into records of at most `size` bytes."""
    body = data[5:]
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(data[:3] + len(part).to_bytes(2, "big") + part for part in parts)


# --- ClientHellos --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1 << 14, 100, 7])
def test_protocols_and_server_name_are_read_from_any_cutting_into_records(size: int) -> None:
    """What openssl sends is read whole, and by no byte less; each answer before that asks for more."""
    data = in_records(hello(protocols=["h2", "lanesync-data/1"], name="studio.example"), size)
    found = clienthello.parse(data + b"what follows")
    assert found == ClientHello((b"h2", b"lanesync-data/1"), "studio.example")
    have = 0
    while isinstance(needed := clienthello.parse(data[:have]), int):
        assert have < needed <= len(data)
        have = needed
    assert have == len(data) and needed == found


def test_a_hello_without_protocols_is_one_of_the_api() -> None:
    """Only the data protocol's name makes a data session, wherever it stands among others."""
    assert recognise(hello()) is Caller.API_TLS
    assert recognise(hello(protocols=["http/1.1"])) is Caller.API_TLS
    assert recognise(hello(protocols=["x", "lanesync-data/1"])) is Caller.DATA_TLS


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x02\x00\x00\x05hello",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x7f\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
    ],
)
def test_what_only_begins_like_a_hello_is_refused(data: bytes) -> None:
    """Other versions, empty and overlong records, other messages, a length beyond the bound, a short body."""
    with pytest.raises(ClientHelloError):
        clienthello.parse(data)
    assert recognise(data) is Caller.BAD_TLS


def test_a_hello_is_bounded_however_it_is_cut() -> None:
    """A peer cannot make us look at more and more by sending one byte a record."""
    endless = b"".join(b"\x16\x03\x01\x00\x01" + part for part in (b"\x01", b"\x00", b"\x3f", b"\xff"))
    with pytest.raises(ClientHelloError, match="more than 16384"):
        for _ in range(10_000):
            needed = clienthello.parse(endless)
            assert isinstance(needed, int) and needed <= clienthello.MAX_BYTES
            endless += b"\x16\x03\x01\x00\x01\x00"


@given(st.binary(max_size=400))
def test_any_bytes_are_recognised_or_ask_for_more(data: bytes) -> None:
    """Never another error, and never a request for what is there already."""
    found = recognise(data)
    assert isinstance(found, Caller) or len(data) < found <= clienthello.MAX_BYTES


_HELLO = hello(protocols=["lanesync-data/1"], name="studio.example")


@given(st.data())
def test_a_damaged_hello_is_read_or_refused(data: st.DataObject) -> None:
    """Flipped, dropped and doubled bytes of a real one give an answer or the parser's own error."""
    damaged = bytearray(_HELLO)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        found = clienthello.parse(bytes(damaged))
    except ClientHelloError:
        return
    assert isinstance(found, ClientHello) or found > len(damaged)


@pytest.mark.parametrize(
    ("preamble", "caller"), [(DATA_PREAMBLE, Caller.DATA), (DISCOVER_PREAMBLE, Caller.DISCOVER)]
)
def test_preambles_are_recognised_whole(preamble: bytes, caller: Caller) -> None:
    """Every beginning asks for the rest; one other byte makes a stranger of it."""
    for size in range(1, len(preamble)):
        assert recognise(preamble[:size]) == len(preamble)
        assert recognise(preamble[:size] + b"?") is Caller.STRANGER
    assert recognise(preamble) is caller and recognise(preamble + b"more") is caller


# --- keys ----------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """0600 in 0700; the second start finds the first one's key."""
    first = identity.ensure(tmp_path, ["localhost", "127.0.0.1"], NOW)
    again = identity.ensure(tmp_path, ["other"], NOW + DAY)
    assert again.public_key == first.public_key and first.days_left(NOW) == identity.CERTIFICATE_DAYS
    folder = tmp_path / "identity"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()] == [0o600]


def test_a_certificate_that_ends_soon_is_renewed_for_the_same_key(tmp_path: Path) -> None:
    """Whoever has pinned the key notices nothing."""
    first = identity.ensure(tmp_path, ["localhost"], NOW)
    later = NOW + (identity.CERTIFICATE_DAYS - 10) * DAY
    renewed = identity.ensure(tmp_path, ["localhost"], later)
    assert renewed.public_key == first.public_key
    assert renewed.days_left(later) == identity.CERTIFICATE_DAYS > first.days_left(later)


def test_after_a_rotation_both_keys_are_good_until_the_time_stated(tmp_path: Path) -> None:
    """The new one first; holders of the keys see it at their next look, without a restart."""
    old = identity.ensure(tmp_path, [], NOW)
    held = Identities(tmp_path)
    assert held.current().public_key == old.public_key
    new = identity.rotate(tmp_path, [], 7 * DAY, NOW)
    assert [one.public_key for one in held.valid(NOW + 6 * DAY)] == [new.public_key, old.public_key]
    assert [one.public_key for one in held.valid(NOW + 8 * DAY)] == [new.public_key]
    third = identity.rotate(tmp_path, [], 0, NOW + 8 * DAY)
    assert [one.public_key for one in held.valid(NOW)] == [third.public_key]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.chmod(0o640), "chmod 600"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "is damaged; restore it from a backup"),
        (lambda path: path.unlink(), "lanesync keygen"),
    ],
)
def test_a_key_that_cannot_be_used_says_what_to_do(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    """Nothing is replaced by itself: others have pinned the key."""
    identity.ensure(tmp_path, [], NOW)
    spoil(tmp_path / "identity" / "current.pem")
    with pytest.raises(StartError, match=message):
        Identities(tmp_path).current()


# --- what is asked for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "asked", "level"),
    [
        (Target("h", 1), [], 0),
        (Target("h", 1), [0, 0], 0),
        (Target("h", 1), [0, 1], 2),
        (Target("h", 1), [2, 3, 0], 3),
        (Target("h", 1, min_cipher=3), [0], 3),
        (Target("h", 1, public_key="K", authenticate=True), [0], 2),
        (Target("h", 1, public_key="K"), [0], 0),
        (Target("h", 1, relay_address="r"), [0], 2),
    ],
)
def test_a_session_is_as_well_protected_as_the_most_careful_asks(
    target: Target, asked: list[int], level: int
) -> None:
    """Transfers, the server's own minimum, a pinned key, a relay; "authenticated" alone means encrypted."""
    assert target.level(asked) == level


def test_rules_name_both_values_and_what_to_add_where() -> None:
    """A key that is listed passes; an unlisted one and a plain session are told what to do."""
    rules = Rules(3, only_authorized=True, authorized=frozenset({"GOOD"}), server="studio:8886")
    assert Rules.parse(rules.told()) == rules
    rules.check_sender("GOOD")
    with pytest.raises(UnauthorizedError, match=r"studio:8886 .* key BAD added there: recv.addAuthorized"):
        rules.check_sender("BAD")
    with pytest.raises(UnauthorizedError, match="minCipher 2 or better"):
        rules.check_sender(None)
    Rules().check_sender(None)
    assert rules.refuses(3, 3) is None
    assert "takes minCipher 3 or better, the transfer came with 0" in str(rules.refuses(3, 0))
    assert "the session has 2" in str(rules.refuses(2))


# --- TLS streams ---------------------------------------------------------------------------------------


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    identity.ensure(tmp_path, ["localhost"], NOW)
    return Contexts(Identities(tmp_path))


def _in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, found


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        return ours, listening.accept()[0]


def _pair(contexts: Contexts, level: int = 3, pin: str | None = None) -> tuple[SecureSocket, SecureSocket]:
    ours, theirs = _connected()
    thread, found = _in_thread(lambda: secure.accept(theirs, contexts, 10))
    client = secure.connect(ours, contexts, level, pin, 10)
    thread.join()
    assert isinstance(found[0], SecureSocket)
    return client, found[0]


@pytest.fixture
def pair(contexts: Contexts) -> Iterator[tuple[SecureSocket, SecureSocket]]:
    made = _pair(contexts)
    yield made
    for one in made:
        one.close()


def test_both_ends_learn_the_others_key_and_the_level(contexts: Contexts) -> None:
    """256 bits when asked for; 128 will do for level 2. The sender's key is proven, and for this session."""
    own = contexts.own()[0]
    bindings = set()
    for level in (2, 3):
        client, server = _pair(contexts, level)
        assert client.peer_key == own.public_key and client.binding == server.binding
        assert proof.check(proof.make(own, client.binding), server.binding) == own.public_key
        bindings.add(client.binding)
        assert client.level == server.level == level
        client.close()
        server.close()
    assert len(bindings) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said: said.pop("proof"),
        lambda said: said.pop("publicKey"),
        lambda said: said.update(proof="AAAA"),
        lambda said: said.update(proof=7),
        lambda said: said.update(publicKey=_OTHER.public_key),
        lambda said: said.update(proof=proof.make(_OTHER, b"this session")["proof"]),
        lambda said: said.update(proof_of="another session"),
    ],
)
def test_a_key_that_is_not_proven_is_not_believed(spoil: Callable[[dict[str, object]], object]) -> None:
    """None, malformed, another's, another session's: all are refused in the same words."""
    own = identity.make(identity.Ed25519PrivateKey.generate(), [], NOW)
    said = proof.make(own, b"this session")
    assert proof.check(said, b"this session") == own.public_key
    spoil(said)
    session = b"another session" if "proof_of" in said else b"this session"
    with pytest.raises(WireError, match="does not prove"):
        proof.check(said, session)


_OTHER = identity.make(identity.Ed25519PrivateKey.generate(), [], NOW)


def test_a_peer_that_expects_the_old_key_gets_it_while_it_is_good(tmp_path: Path, contexts: Contexts) -> None:
    """Who expects nothing gets the new one; nothing was restarted."""
    old = contexts.own()[0].public_key
    new = identity.rotate(tmp_path, [], 3600, time.time()).public_key
    assert _pair(contexts, pin=old)[0].peer_key == old
    assert _pair(contexts, pin=new)[0].peer_key == new
    assert _pair(contexts)[0].peer_key == new


def test_both_directions_flow_while_both_ends_only_write(pair: tuple[SecureSocket, SecureSocket]) -> None:
    """16 MiB each way at once, far more than the buffers hold: writers do not keep readers from reading."""
    count, payload = 16, bytes(range(256)) * 4096
    failed: list[object] = []

    def write(stream: Stream) -> None:
        for number in range(count):
            stream.send(Header(Kind.CHUNK, offset=number), payload)

    def read(stream: Stream) -> None:
        for number in range(count):
            received = stream.receive()
            if received is None or received[0].offset != number or received[1] != payload:
                failed.append(received)

    streams = [Stream(sock) for sock in pair]
    threads = [
        threading.Thread(target=role, args=(stream,), daemon=True)
        for stream in streams
        for role in (write, read)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)


def test_a_shutdown_wakes_who_reads_and_who_writes(pair: tuple[SecureSocket, SecureSocket]) -> None:
    """The reader sees the end or a loss, the writer an error; a closed one is never written to again."""
    ours, theirs = Stream(pair[0]), pair[1]
    reading, read = _in_thread(ours.receive)

    def write() -> None:
        while True:
            ours.send(Header(Kind.CHUNK), bytes(1 << 20))

    writing, wrote = _in_thread(write)
    ours.shutdown()
    reading.join(60)
    writing.join(60)
    assert len(read) == 1 and (read[0] is None or isinstance(read[0], OSError))
    assert isinstance(wrote[0], OSError)
    theirs.close()
    ours.sock.close()
    with pytest.raises(OSError, match="was closed"):
        ours.send(Header(Kind.CLOSE))


def test_a_peer_that_takes_nothing_is_given_up(pair: tuple[SecureSocket, SecureSocket]) -> None:
    """The time limit of sending holds as it does for plain connections."""
    pair[0].limit_sends(0.2)
    with pytest.raises(TimeoutError):
        for _ in range(100):
            pair[0].sendall(bytes(1 << 20))


@pytest.mark.parametrize("begin", [b"", _HELLO[:50], _HELLO], ids=["silence", "half a hello", "a hello"])
def test_a_stalled_handshake_ends_after_its_time(contexts: Contexts, begin: bytes) -> None:
    """Nothing, half a ClientHello, a whole one and then silence."""
    ours, theirs = _connected()
    with ours, theirs:
        ours.sendall(begin)
        with pytest.raises(SecureError, match="not agreed on in time"):
            secure.accept(theirs, contexts, 0.2)


@pytest.mark.parametrize(
    "said", [b"LSDATA/1\n" + bytes(100), b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", b""]
)
def test_what_is_no_tls_is_refused(contexts: Contexts, said: bytes) -> None:
    """A plain session where TLS is expected, a broken handshake, an end."""
    ours, theirs = _connected()
    with ours, theirs:
        ours.sendall(said)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(SecureError, match="agreed on"):
            secure.accept(theirs, contexts, 5)


def test_bytes_that_were_altered_on_the_way_are_never_delivered(contexts: Contexts) -> None:
    """One flipped bit of a record ends the connection with an error that says so."""
    ours, relayed = _connected()
    passed, theirs = _connected()

    def relay() -> None:
        """Both ways; the second large block towards the server is damaged."""
        large = 0
        while data := relayed.recv(65536):
            if len(data) > 4096:
                large += 1
                if large == 2:
                    data = data[:-1] + bytes((data[-1] ^ 1,))
            passed.sendall(data)

    def back() -> None:
        while data := passed.recv(65536):
            relayed.sendall(data)

    for role in (relay, back):
        _in_thread(role)
    thread, found = _in_thread(lambda: secure.accept(theirs, contexts, 10))
    client = secure.connect(ours, contexts, 3, None, 10)
    thread.join()
    server = found[0]
    assert isinstance(server, SecureSocket)
    _in_thread(lambda: client.sendall(bytes(1 << 20)))
    view = memoryview(bytearray(65536))
    with pytest.raises(SecureError, match="altered on its way"):
        while server.recv_into(view, len(view)):
            assert not any(view)
    for sock in (ours, relayed, passed, theirs):
        sock.close()


def test_keys_in_messages_are_told_apart() -> None:
    """All Ed25519 keys begin with the same 16 letters: what is shown goes beyond them."""
    one, other = (identity.make(identity.Ed25519PrivateKey.generate(), [], NOW).public_key for _ in "ab")
    assert keys.short(one) != keys.short(other) and one.startswith(keys.short(one)[:-1])


def test_when_too_many_begin_the_one_that_takes_longest_goes() -> None:
    """Those that are through do not count; each is given up once."""
    greetings = Greetings(limit=2)
    pairs = [socket.socketpair() for _ in range(4)]
    ours = [pair[0] for pair in pairs]
    greetings.begin(ours[0])
    greetings.begin(ours[1])
    greetings.end(ours[0])
    greetings.begin(ours[2])
    for _, theirs in pairs:
        theirs.setblocking(False)
    for _, theirs in pairs[:3]:
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
    greetings.begin(ours[3])
    assert pairs[1][1].recv(1) == b""
    for at in (0, 2, 3):
        with pytest.raises(BlockingIOError):
            pairs[at][1].recv(1)
    for pair in pairs:
        for sock in pair:
            sock.close()


_HARDENED = """
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    sys.exit(77)
import socket, threading, time
from pathlib import Path
from agent.server import identity
from agent.server.data import secure
identity.ensure(Path(sys.argv[1]), ["localhost"], time.time())
contexts = secure.Contexts(identity.Identities(Path(sys.argv[1])))
listening = socket.create_server(("127.0.0.1", 0))
ours = socket.create_connection(listening.getsockname())
theirs = listening.accept()[0]
accepting = threading.Thread(target=secure.accept, args=(theirs, contexts, 10))
accepting.start()
print(secure.connect(ours, contexts, 3, contexts.own()[0].public_key, 10).level)
accepting.join()
"""


def test_tls_works_where_memory_is_never_both_written_and_executed(tmp_path: Path) -> None:
    """As our systemd units have it (MemoryDenyWriteExecute): no callbacks out of the TLS library."""
    ended = subprocess.run(
        [sys.executable, "-c", _HARDENED, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    if ended.returncode == 77:
        pytest.skip("this kernel cannot deny it")
    assert ended.stdout == "3\n", ended.stderr
