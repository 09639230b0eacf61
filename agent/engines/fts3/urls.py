"""From paths to the URLs that a storage serves them under. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from agent.model.outcome import PermanentError
from agent.model.spec import Storage

_PERCENT_ENCODED = frozenset({"http", "https", "dav", "davs", "s3", "s3s", "gcloud", "swift", "swifts"})
"""Schemes whose servers decode `%20`. The others (root, gsiftp, srm) take a path as it is written."""

_NOT_IN_PLAIN_PATHS = frozenset("?#")


class Sources:
    """The storages that serve local files: of several that hold a path the one with the longest counts."""

    def __init__(self, storage: Sequence[Storage]) -> None:
        self._served = {entry.path.rstrip("/"): entry.url for entry in storage}
        self._elements = {url: element(url) for url in self._served.values()}

    def url(self, path: str) -> str:
        """PermanentError when no storage serves it, or its name fits in no URL of that storage."""
        above = self._above(path)
        return join(self._served[above], path[len(above) :])

    def element(self, path: str) -> str:
        """The storage element that serves it; PermanentError when none does."""
        return self._elements[self._served[self._above(path)]]

    def _above(self, path: str) -> str:
        above = path.rstrip("/")
        while above not in self._served:
            if not above:
                known = ", ".join(sorted(self._served))
                raise PermanentError(
                    f"{_shown(path)} is below no path of the server's `storage` ({known}); FTS3 fetches "
                    "files from storages only: add an entry with the directory and the URL that serves it"
                )
            above = above.rpartition("/")[0]
        return above


def join(url: str, path: str) -> str:
    """The URL of a path (from the root, or relative) below a URL."""
    relative = path.strip("/")
    base = url.rstrip("/")
    return f"{base}/{encoded(urlsplit(url).scheme, relative)}" if relative else base


def encoded(scheme: str, path: str) -> str:
    """A path as it is written in a URL. PermanentError for a name that the scheme cannot carry."""
    if scheme.lower() in _PERCENT_ENCODED:
        return quote(os.fsencode(path), safe="/")
    odd = not path.isprintable() or any(c in _NOT_IN_PLAIN_PATHS or c == " " for c in path)
    if odd:
        raise PermanentError(
            f"{_shown(path)} cannot be written as a {scheme} URL; rename it, or use a davs storage"
        )
    return path


def element(url: str) -> str:
    """`scheme://host`, without port and path: what FTS3 queues, limits and bans by."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
