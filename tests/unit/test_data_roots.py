"""The receiver's tables: transfers by root and user, sessions that end, roots that nobody uses any more."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import eventually

from agent.server.data import receiver as receiving
from agent.server.data import wire
from agent.server.data.granting import Grant
from agent.server.data.options import WorkerOptions
from agent.server.data.receiver import Receiver
from agent.server.data.sessions import Session
from agent.server.data.wire import Stream, WireError
from agent.server.ipc import Channel
from agent.server.sandboxes import Root, Roots

UID = "0123456789abcdef" * 2


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    ours, theirs = socket.socketpair()
    options = WorkerOptions("receiver", -1, tmp_path, 2, 2, "server", "uid")
    made = Receiver(options, Channel(theirs))
    yield made
    for one in (ours, theirs):
        one.close()


class Peer:
    """A session with one stream, as if a sender had just said HELLO."""

    def __init__(self, receiver: Receiver, ident: str) -> None:
        self.receiver = receiver
        self.ours, theirs = socket.socketpair()
        self.stream = Stream(theirs)
        self.session: Session = receiver.join(ident, self.stream)

    def leave(self) -> None:
        self.receiver.left(self.session, self.stream)
        self.ours.close()
        self.stream.sock.close()


def _root(tmp_path: Path, name: str) -> bytes:
    (tmp_path / name).mkdir()
    return os.fsencode(tmp_path / name)


def _grant(user: str, base: bytes) -> Grant:
    return Grant(user, 15, Roots((Root(b"/", base),)))


def test_one_user_cannot_take_over_the_transfer_of_another(receiver: Receiver, tmp_path: Path) -> None:
    """In one root, with the same uid: two transfers, each with unfinished files of its own."""
    base = _root(tmp_path, "shared")
    anna, bert = Peer(receiver, "anna"), Peer(receiver, "bert")
    first = receiver.open(base, _grant("anna", base).ident(UID), anna.session, 1)
    second = receiver.open(base, _grant("bert", base).ident(UID), bert.session, 1)
    assert first is not second and first.session is anna.session
    assert len(os.listdir(base + b"/.lanesync")) == 2
    receiver.discard(base, _grant("bert", base).ident(UID))
    anna.leave()
    again = Peer(receiver, "anna again")
    assert receiver.open(base, _grant("anna", base).ident(UID), again.session, 1) is first
    for peer in (again, bert):
        peer.leave()


def test_a_new_session_of_the_same_user_takes_the_transfer_over(receiver: Receiver, tmp_path: Path) -> None:
    """The older session ends first: no two write one file."""
    base = _root(tmp_path, "root")
    ident = _grant("anna", base).ident(UID)
    old, new = Peer(receiver, "old"), Peer(receiver, "new")
    transfer = receiver.open(base, ident, old.session, 1)
    taken: list[Any] = []
    thread = threading.Thread(target=lambda: taken.append(receiver.open(base, ident, new.session, 1)))
    thread.start()
    assert old.ours.recv(1) == b"", "its streams were shut down"
    old.leave()
    thread.join(60)
    assert taken == [transfer] and transfer.session is new.session
    new.leave()


def test_an_answer_that_comes_after_the_session_opens_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """Credentials may be judged while the connection breaks: the transfer stays free for the next one."""
    base = _root(tmp_path, "root")
    peer = Peer(receiver, "gone")
    peer.leave()
    with pytest.raises(WireError, match="session is over"):
        receiver.open(base, UID, peer.session, 1)
    following = Peer(receiver, "next")
    assert receiver.open(base, UID, following.session, 1).session is following.session
    following.leave()


def test_a_root_that_cannot_be_synced_ends_only_who_writes_there(receiver: Receiver, tmp_path: Path) -> None:
    bad, good = _root(tmp_path, "bad"), _root(tmp_path, "good")
    there, elsewhere = Peer(receiver, "there"), Peer(receiver, "elsewhere")
    receiver.open(bad, UID, there.session, 1)
    receiver.open(good, UID, elsewhere.session, 1)
    epoch = receiver.epoch
    receiver.sync_failed(bad, OSError(5, "Input/output error"))
    assert receiver.epoch != epoch, "what was published there without a checkpoint is sent again"
    assert there.session.ending and not elsewhere.session.ending
    for peer in (there, elsewhere):
        peer.leave()


def test_a_root_that_nobody_uses_is_given_up_with_its_thread(receiver: Receiver, tmp_path: Path) -> None:
    base = _root(tmp_path, "root")
    threads = threading.active_count()
    peer = Peer(receiver, "one")
    transfer = receiver.open(base, UID, peer.session, 1)
    root = receiver.use(base)
    receiver.release(transfer, wire.FINAL)
    peer.leave()
    later = transfer.idle_since + receiving.FORGET_SECONDS + 1
    receiver.sweep(later)
    assert receiver.use(base) is root, "a stream still writes there"
    receiver.unuse(base)
    receiver.unuse(base)
    receiver.sweep(later)
    assert eventually(lambda: threading.active_count() <= threads)
    assert receiver.use(base) is not root
    receiver.unuse(base)
    receiver.sweep(later)


def test_a_root_that_is_missing_is_an_error_and_not_made(receiver: Receiver, tmp_path: Path) -> None:
    peer = Peer(receiver, "one")
    with pytest.raises(FileNotFoundError, match="is missing"):
        receiver.open(os.fsencode(tmp_path / "unmounted"), UID, peer.session, 1)
    assert not (tmp_path / "unmounted").exists()
    peer.leave()
