"""The push hook: a repository's host says, signed with a shared secret, that there may be something new.

It is a hint and nothing else: its body is not even read as JSON, and all it can do is have the agent look.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import threading
import time
from collections.abc import Callable

from agent.model.outcome import PermanentError

HEADER = "x-hub-signature-256"
MIN_SECRET = 16
BURST, PER_SECOND = 10, 0.2
"""So many hooks at once, and one each five seconds after that. They coalesce anyhow."""

_PREFIX = "sha256="


def check_secret(secret: str) -> bytes:
    """The secret as it is used. PermanentError when it is too short to keep anybody out."""
    if len(secret) < MIN_SECRET:
        raise PermanentError(
            f"the hook's secret is shorter than {MIN_SECRET} characters; make one with `openssl rand -hex 32`"
        )
    return secret.encode("utf-8")


def signed(body: bytes, header: str, secret: bytes) -> bool:
    """Whether `header` is `sha256=` and the HMAC of the body. Takes as long whatever it is."""
    wanted = _PREFIX + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode("ascii"), header.encode("utf-8", "surrogateescape"))


class Allowance:
    """A token bucket, thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left = float(BURST)
        self._at = clock()

    def take(self) -> int:
        """0, or after how many seconds to come again."""
        with self._lock:
            now = self._clock()
            self._left = min(float(BURST), self._left + (now - self._at) * PER_SECOND)
            self._at = now
            if self._left < 1:
                return math.ceil((1 - self._left) / PER_SECOND)
            self._left -= 1
            return 0
