"""`/dm`: calls that go through to a storage with the user's delegated credentials."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from .app import App, input_of, need
from .front import Answer, Request, json_answer
from .problems import ServiceError, bad_request
from .storage import Entry, Storage, StorageError

STATUS = {
    errno.EPERM: 403,
    errno.EACCES: 403,
    errno.ENOENT: 404,
    errno.EAGAIN: 503,
    errno.EBUSY: 503,
    errno.ETIMEDOUT: 503,
    errno.ENOTDIR: 400,
    errno.EPROTONOSUPPORT: 400,
}


def stat(app: App, request: Request) -> Answer:
    surl = _surl(request)
    entry = _call(app, request, lambda storage: storage.stat(surl))
    times = {"atime": 0, "mtime": entry.mtime, "ctime": 0}
    return json_answer({"mode": _mode(entry), "nlink": 0, "size": entry.size, **times})


def listing(app: App, request: Request) -> Answer:
    """An object by name; folders' names end with a slash. Names are as in URLs: the library decodes none."""
    surl = _surl(request)

    def entries(storage: Storage) -> list[Entry]:
        if not storage.stat(surl).folder:
            raise StorageError(errno.ENOTDIR, f"{surl} is not a collection, listing impossible")
        return storage.listing(surl)

    return json_answer(
        {
            quote(os.fsencode(e.name)) + "/" * e.folder: {"size": e.size, "mode": _mode(e), "mtime": e.mtime}
            for e in sorted(_call(app, request, entries), key=lambda e: e.name)
        }
    )


def mkdir(app: App, request: Request) -> Answer:
    (surl,) = _given(request, "surl")
    return _done(app, request, lambda storage: storage.make_folder(surl))


def unlink(app: App, request: Request) -> Answer:
    (surl,) = _given(request, "surl")

    def remove(storage: Storage) -> None:
        if storage.stat(surl).folder:
            raise StorageError(errno.EISDIR, f"{surl} is a directory, impossible to unlink")
        storage.delete(surl)

    return _done(app, request, remove)


def rmdir(app: App, request: Request) -> Answer:
    """One DELETE, without a look inside: a storage that deletes trees loses a tree."""
    (surl,) = _given(request, "surl")

    def remove(storage: Storage) -> None:
        if not storage.stat(surl).folder:
            raise StorageError(errno.ENOTDIR, "Can not rmdir a file")
        storage.delete(surl)

    return _done(app, request, remove)


def rename(app: App, request: Request) -> Answer:
    """What is at the new place is replaced."""
    old, new = _given(request, "old", "new")
    return _done(app, request, lambda storage: storage.move(old, new))


def _done(app: App, request: Request, action: Callable[[Storage], None]) -> Answer:
    _call(app, request, action)
    return json_answer(0)


def _surl(request: Request) -> str:
    surl = request.query.get("surl")
    if not surl:
        raise bad_request("Missing surl parameter")
    if urlsplit(surl).scheme == "file":
        raise bad_request("Forbiden SURL scheme")
    return surl


def _given(request: Request, *names: str) -> list[str]:
    given = input_of(request)
    for name in names:
        if name not in given:
            raise bad_request(f"Missing parameter: '{name}'")
        if not given[name]:
            raise bad_request(f'No parameter "{name}" specified')
    return [str(given[name]) for name in names]


def _call(app: App, request: Request, action: Callable[[Storage], Any]) -> Any:
    """Do it with what the user has delegated; a storage's refusal becomes a status."""
    user = need(request, "datamanagement")
    row = app.database.row(
        "SELECT proxy, termination FROM credentials WHERE dlg_id = ? AND dn = ?",
        (user.delegation_id, user.user_dn),
    )
    if row is None and user.method != "oauth2":
        raise ServiceError(419, "No delegated proxy available")
    if row is not None and row["termination"] <= app.settings.now():
        raise ServiceError(419, f"Delegated proxy expired ({user.delegation_id})")
    try:
        with Storage(app.ca_file, row["proxy"] if row is not None else "", user.token) as storage:
            return action(storage)
    except StorageError as error:
        raise ServiceError(STATUS.get(error.number, 500), f"[{error.number}] {error.text}") from None


def _mode(entry: Entry) -> int:
    return (modes.S_IFDIR | 0o777) if entry.folder else (modes.S_IFREG | 0o777)
