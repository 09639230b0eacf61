"""A destination that speaks no WebDAV, through the service: it asks the storage with what we delegated.

The service tells neither checksums nor, for most schemes, whether a rename replaces: what is there is looked
at first.
"""

from __future__ import annotations

import stat as modes
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import unquote

from agent.engines.fts3 import urls
from agent.engines.fts3.destination import ExistsError, NotEmptyError, Root, Stat, translated
from agent.engines.fts3.webdav_http import SCHEMES
from agent.fts3 import Client, FTS3ClientException
from agent.fts3 import storage as service_storage
from agent.model.outcome import LaneSyncError, NotFoundError, PermanentError

T = TypeVar("T")


class ServiceStorage:
    """See `Destination`."""

    def __init__(self, root: Root, service: Client) -> None:
        self._root = root
        self._files = service.storage

    def stat(self, url: str, checksum: str = "") -> Stat | None:  # noqa: ARG002 - the service tells none
        url = self._root.check(url)
        try:
            found = self._call(url, lambda: self._files.stat(url))
        except NotFoundError:
            return None
        return _stat(url, found)

    def listing(self, url: str) -> Iterator[Stat]:
        url = self._root.check(url)
        found = self._call(url, lambda: self._files.list(url))
        return iter([_stat(self._child(url, name), one) for name, one in found.items()])

    def delete(self, url: str) -> bool:
        url = self._root.check(url, below=True)
        found = self.stat(url)
        if found is None:
            return False
        if found.is_directory:
            raise ExistsError(f"{url} is a directory now; it was not deleted")
        return self._gone(url, lambda: self._files.unlink(url))

    def rmdir(self, url: str) -> bool:
        url = self._root.check(url, below=True)
        found = self.stat(url)
        if found is None:
            return False
        if not found.is_directory:
            raise ExistsError(f"{url} is a file now; it was not deleted")
        try:
            inside = self._call(url, lambda: self._files.list(url))
        except NotFoundError:
            return False
        if inside:
            raise NotEmptyError(f"{url} is not empty; it was not deleted")
        return self._gone(url, lambda: self._files.rmdir(url))

    def mkdir(self, url: str) -> None:
        url = self._root.check(url)
        if not self._is_directory(url):
            for one in self._root.down_to(url):
                if not self._is_directory(one):
                    self._make(one)

    def move(self, old: str, new: str) -> None:
        old, new = self._root.check(old, below=True), self._root.check(new, below=True)
        if self.stat(new) is not None:
            raise ExistsError(f"{new} exists already; {old} was not moved")
        self._call(old, lambda: self._files.rename(old, new))

    def close(self) -> None:
        """The connections are the service's."""

    # -- parts of the above

    def _child(self, url: str, name: str) -> str:
        """WebDAV's names come as they stand in URLs, others plain. Raw where the scheme
        cannot carry the name: it is told, and refused when it comes back."""
        plain = name.rstrip("/")
        if self._root.scheme in SCHEMES:
            plain = unquote(plain, errors="surrogateescape")
        try:
            return f"{url}/{urls.encoded(self._root.scheme, plain)}"
        except PermanentError:
            return f"{url}/{plain}"

    def _gone(self, url: str, delete: Callable[[], None]) -> bool:
        try:
            self._call(url, delete)
        except NotFoundError:
            return False
        return True

    def _is_directory(self, url: str) -> bool:
        """ExistsError for a file."""
        try:
            found = _stat(url, self._call(url, lambda: self._files.stat(url)))
        except NotFoundError:
            return False
        if not found.is_directory:
            raise ExistsError(f"{url} is a file; a directory is wanted there")
        return True

    def _make(self, url: str) -> None:
        try:
            self._call(url, lambda: self._files.mkdir(url))
        except LaneSyncError:
            if not self._is_directory(url):  # somebody else was faster
                raise

    def _call(self, url: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except FTS3ClientException as error:
            raise translated(error, url) from error


def _stat(url: str, found: service_storage.Stat) -> Stat:
    is_directory = modes.S_ISDIR(found.mode)
    return Stat(url, None if is_directory else found.size, found.mtime, is_directory)
