"""Secrets that the server must remember, such as a password for a receiver that is away, are sealed.

The key is a file of its own in the state directory: a copy of the database alone tells no password.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import structlog
from cryptography.fernet import Fernet, InvalidToken

_log = structlog.get_logger(__name__)

KEY_FILE = "secrets.key"


class Seal:
    """The key is made when it is first needed. For any thread."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / KEY_FILE
        self._lock = threading.Lock()
        self._fernet: Fernet | None = None

    def seal(self, secret: str | None) -> str | None:
        """OSError when the key cannot be read or made."""
        return None if secret is None else self._key().encrypt(secret.encode("utf-8")).decode("ascii")

    def open(self, sealed: str | None) -> str | None:
        """None also for what was sealed with another key: then the receiver is shown nothing, and says so."""
        if sealed is None:
            return None
        try:
            return self._key().decrypt(sealed.encode("ascii")).decode("utf-8")
        except (InvalidToken, OSError, ValueError) as error:
            _log.error("a stored password cannot be read any more", key=str(self._path), error=repr(error))
            return None

    def _key(self) -> Fernet:
        with self._lock:
            if self._fernet is None:
                self._fernet = Fernet(self._load())
            return self._fernet

    def _load(self) -> bytes:
        if not self._path.exists():
            temporary = self._path.with_name(f".{KEY_FILE}.{os.getpid()}")
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(Fernet.generate_key())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        return self._path.read_bytes()
