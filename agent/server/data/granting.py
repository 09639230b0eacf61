"""Whose files a session may write: its credentials are judged by the control process.

A password check takes a core for a while and may be slowed down on purpose, so nobody waits for it: what is
to be done with the answer is handed in, and done by a few threads of their own. A session asks once for the
same credentials; its answers are kept for a moment and end with it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from agent.jetstream.constants import PERMISSION_DOWNLOAD, PERMISSION_MODIFY, PERMISSION_UPLOAD
from agent.server.data.wire import Json, WireError
from agent.server.ipc import Message
from agent.server.sandboxes import Roots, roots_from_json

KEEP_SECONDS = 10.0  # an account may be removed meanwhile; of all else we are told
THREADS = 8
MAX_CREDENTIAL = 1024
MAX_ASKED = 16  # different credentials of one session that are judged at once
MAX_QUEUED = 1000  # and that wait for it
_KEY = secrets.token_bytes(32)
_NAMES = {
    PERMISSION_UPLOAD: "PERMISSION_UPLOAD",
    PERMISSION_DOWNLOAD: "PERMISSION_DOWNLOAD",
    PERMISSION_MODIFY: "PERMISSION_MODIFY",
}


class RefusedError(Exception):
    """The receiving server does not take this from whoever asked; the message is for the sender's user."""


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, frame: Json) -> Credentials:
        """Those of an OPEN or REMOTE frame. WireError when they make no sense."""
        given = [frame.get(name) or "" for name in ("user", "password", "token")]
        if not all(isinstance(text, str) and len(text) <= MAX_CREDENTIAL for text in given):
            raise WireError("a frame's credentials are malformed")
        return cls(*given)

    def digest(self) -> bytes:
        """What stands for them in memory."""
        text = json.dumps([self.user, self.password, self.token]).encode("ascii")
        return hashlib.blake2b(text, key=_KEY).digest()


@dataclass(frozen=True, slots=True)
class Grant:
    """What credentials stand for. `user` is empty where there are no accounts: everybody is the same then."""

    user: str
    permissions: int
    roots: Roots

    def ident(self, uid: str) -> str:
        """Name of a transfer's unfinished files: one user's transfer is never another's, whatever it says."""
        if not self.user:
            return uid
        return hashlib.blake2b(f"{self.user}\0{uid}".encode(), digest_size=16).hexdigest()

    def require(self, permission: int) -> None:
        if permission & ~self.permissions:
            missing = " and ".join(
                name for bit, name in _NAMES.items() if permission & ~self.permissions & bit
            )
            raise RefusedError(f"the receiving server asks for a token with {missing}")


Answer = Grant | RefusedError
Then = Callable[[Answer], None]


def parse_answer(message: Message) -> Answer:
    """KeyError, TypeError or ValueError for a malformed one."""
    if "error" in message:
        return RefusedError(str(message["error"]))
    return Grant(str(message["user"]), int(message["permissions"]), roots_from_json(message))


class Authority:
    """Asks the control process. For any thread."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Then] = {}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="granted")

    def ask(self, credentials: Credentials, peer: str, then: Then) -> None:
        number = next(self._numbers)
        with self._lock:
            self._waiting[number] = then
        message: Message = {"op": "authorize", "number": number, "peer": peer}
        given = {"user": credentials.user, "password": credentials.password, "token": credentials.token}
        self._send({**message, **given})

    def answered(self, message: Message) -> None:
        """KeyError, TypeError or ValueError for a malformed answer."""
        answer = parse_answer(message)
        with self._lock:
            then = self._waiting.pop(int(message["number"]), None)
        if then is not None:
            self._pool.submit(then, answer)


@dataclass(frozen=True, slots=True)
class Question:
    digest: bytes
    credentials: Credentials
    peer: str


class Grants:
    """What one session has been granted."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[Grant, float]] = {}
        self._asked: dict[bytes, list[Then]] = {}
        self._queue: deque[Question] = deque()  # of what is asked, what has to wait for others
        self._forgotten = 0

    def get(self, credentials: Credentials, peer: str, then: Then) -> None:
        """Call `then` with the answer: now when it is known, else in another thread. `then` raises nothing.
        WireError when too much is asked at once."""
        question = Question(credentials.digest(), credentials, peer)
        with self._lock:
            grant, until = self._known.get(question.digest, (None, 0.0))
            if grant is None or until < time.monotonic():
                self._wait_for(question, then)
                grant = None
        if grant is not None:
            then(grant)
        self._ask_next()

    def _wait_for(self, question: Question, then: Then) -> None:
        """Under the lock."""
        asked = self._asked.get(question.digest)
        if asked is not None:
            asked.append(then)
            return
        if len(self._queue) >= MAX_QUEUED:
            raise WireError(f"more than {MAX_QUEUED} different credentials wait to be judged")
        self._asked[question.digest] = [then]
        self._queue.append(question)

    def _ask_next(self) -> None:
        while True:
            with self._lock:
                if not self._queue or len(self._asked) - len(self._queue) >= MAX_ASKED:
                    return
                question, forgotten = self._queue.popleft(), self._forgotten
            self._authority.ask(
                question.credentials,
                question.peer,
                partial(self._answered, question.digest, forgotten),
            )

    def forget(self) -> None:
        """Answers that are on their way count for what they were asked for, and no more."""
        with self._lock:
            self._known.clear()
            self._forgotten += 1

    def close(self) -> None:
        """The session is over: nothing more is asked."""
        with self._lock:
            dropped = [then for question in self._queue for then in self._asked.pop(question.digest)]
            self._queue.clear()
        for then in dropped:
            then(RefusedError("the session is over"))

    def _answered(self, digest: bytes, forgotten: int, answer: Answer) -> None:
        with self._lock:
            waiting = self._asked.pop(digest, [])
            self._known.pop(digest, None)
            if isinstance(answer, Grant) and forgotten == self._forgotten:
                self._known[digest] = (answer, time.monotonic() + KEEP_SECONDS)
        self._ask_next()
        for then in waiting:
            then(answer)
