"""Accounts of a server: a JSON file of names and scrypt hashes.

    {"accounts": {"jsmith": {"scrypt": "<hex>", "salt": "<hex>", "n": 16384, "r": 8, "p": 1,
                             "superuser": true}}}

The file is read anew when it changes. Others than its owner and group must not read it, and its owner alone
may write it. Who changes it holds a lock on its directory, and replaces it as a whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.server import passwords
from agent.server.errors import ServerError
from agent.server.passwords import PasswordHash

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")
_MAX_FILE = 4 * 1024 * 1024
_FORBIDDEN = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


class AccountsError(ServerError):
    """The accounts file, a name or a new password is not acceptable."""


@dataclass(frozen=True, slots=True)
class Account:
    password: PasswordHash
    superuser: bool = False


class Accounts:
    """The accounts of one file. Thread-safe: what is read is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._accounts: Mapping[str, Account] = {}
        self.reload()

    def reload(self) -> None:
        """Read the file if it changed. AccountsError when it cannot be read; what was read before stays."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise _unreadable(self._path, error) from error
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._stamp or found.st_mode & _FORBIDDEN:
            self._accounts = read(self._path)
            self._stamp = stamp

    def get(self, name: str) -> Account | None:
        """The account as it was read last."""
        return self._accounts.get(name)

    def names(self) -> list[str]:
        return sorted(self._accounts)

    def verify(self, name: str, password: str) -> Account | None:
        """The account, when the password is its own. Takes as long for unknown names; call it in a thread.
        AccountsError when the file cannot be read."""
        self.reload()
        accounts = self._accounts
        account = accounts.get(name)
        if account is None:
            like = next(iter(accounts.values()), None)
            passwords.nobody(None if like is None else like.password).matches(password)
            return None
        return account if account.password.matches(password) else None


def read(path: Path) -> dict[str, Account]:
    """All accounts of a file. AccountsError names the line that is damaged."""
    text, entries = _load(path)
    found: dict[str, Account] = {}
    for name, entry in entries.items():
        try:
            if _NAME.fullmatch(name) is None:
                raise ValueError("that is not a user name")  # noqa: TRY301 - said with the line, below
            flag = entry.get("superuser", False)
            if not isinstance(flag, bool):
                raise ValueError("superuser must be true or false")  # noqa: TRY301, TRY004
            found[name] = Account(passwords.from_object(entry), flag)
        except (ValueError, AttributeError) as error:
            line = text[: max(0, text.find(json.dumps(name)))].count("\n") + 1
            raise AccountsError(
                f"accounts file {path}, line {line}: account {name!r} is damaged ({error}); restore the "
                "file, or take that entry out and add the account again"
            ) from error
    return found


def add(path: Path, name: str, password: str, *, superuser: bool | None = None) -> bool:
    """Add an account or change its password; True when it is new. `superuser` None leaves the flag as it
    is. AccountsError."""
    if _NAME.fullmatch(name) is None:
        raise AccountsError(f"{name!r} is not a user name; use letters, digits and . _ @ - (at most 64)")
    entry = _hash(password)
    with _editing(path) as entries:
        old = entries.get(name)
        flag = superuser if superuser is not None else bool((old or {}).get("superuser"))
        entries[name] = entry | ({"superuser": True} if flag else {})
    return old is None


def change_password(path: Path, name: str, password: str) -> None:
    """AccountsError when there is no such account."""
    entry = _hash(password)
    with _editing(path) as entries:
        if name not in entries:
            raise _unknown(path, name)
        entries[name] |= entry


def _hash(password: str) -> dict[str, Any]:
    try:
        return passwords.make(password).as_object()
    except ValueError as error:
        raise AccountsError(str(error)) from error


def remove(path: Path, name: str) -> None:
    """AccountsError when there is no such account."""
    with _editing(path) as entries:
        if entries.pop(name, None) is None:
            raise _unknown(path, name)


def _unknown(path: Path, name: str) -> AccountsError:
    return AccountsError(f"there is no account {name!r} in {path}; see: lanesync user list --accounts {path}")


@contextmanager
def _editing(path: Path) -> Iterator[dict[str, Any]]:
    """The file's entries, to be changed; written when the block ends well. One editor at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        entries: dict[str, Any] = {}
        if path.exists():
            read(path)  # a damaged file is not written over
            entries = _load(path)[1]
        yield entries
        _write(path, {"accounts": entries})
        os.fsync(directory)
    finally:
        os.close(directory)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace the file, which keeps its owner and mode."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            _keep_owner(path, file.fileno())
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _keep_owner(path: Path, fd: int) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    made = os.fstat(fd)
    try:
        if (old.st_uid, old.st_gid) != (made.st_uid, made.st_gid):
            os.fchown(fd, old.st_uid, old.st_gid)
        os.fchmod(fd, stat.S_IMODE(old.st_mode))
    except PermissionError as error:
        raise AccountsError(
            f"accounts file {path} belongs to another user; change it as that user"
        ) from error


def _load(path: Path) -> tuple[str, dict[str, Any]]:
    """Text and entries. AccountsError when the file is open to others, cannot be read or is damaged."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if mode & _FORBIDDEN:
        raise AccountsError(f"accounts file {path} is open to others; run: chmod 600 {path}")
    restore = "restore it, or remove it and add the accounts again"
    if len(data) > _MAX_FILE:
        raise AccountsError(f"accounts file {path} is larger than {_MAX_FILE} bytes; {restore}")
    try:
        text = data.decode("utf-8")
        entries = json.loads(text)["accounts"]
    except json.JSONDecodeError as error:
        raise AccountsError(
            f"accounts file {path} is damaged at line {error.lineno} ({error.msg}); {restore}"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AccountsError(f"accounts file {path} is damaged: it holds no accounts; {restore}") from error
    if not isinstance(entries, dict):
        raise AccountsError(f"accounts file {path} is damaged: it holds no accounts; {restore}")
    return text, entries


def _unreadable(path: Path, error: OSError) -> AccountsError:
    return AccountsError(
        f"accounts file {path} cannot be read ({error.strerror}); "
        f"make it with: lanesync user add NAME --accounts {path}"
    )
