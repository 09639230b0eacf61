"""From paths to the URLs that a storage serves them under. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from agent.model.outcome import PermanentError
from agent.model.paths import is_below
from agent.model.spec import Storage

_PERCENT_ENCODED = frozenset({"http", "https", "dav", "davs", "s3", "s3s", "gcloud", "swift", "swifts"})
"""Schemes whose servers decode `%20`. The others (root, gsiftp, srm) take a path as it is written."""

_NOT_IN_PLAIN_PATHS = frozenset("?#")


def source_url(storage: Sequence[Storage], path: str) -> str:
    """The URL of a local file. PermanentError when no storage serves it, or its name fits in no URL."""
    found = serving(storage, path)
    return join(found.url, path[len(found.path.rstrip("/")) :])


def serving(storage: Sequence[Storage], path: str) -> Storage:
    """The entry of the server's `storage` with the longest path that holds this one, or PermanentError."""
    held = [entry for entry in storage if is_below(path, entry.path)]
    if not held:
        known = ", ".join(entry.path for entry in storage)
        raise PermanentError(
            f"{_shown(path)} is below no path of the server's `storage` ({known}); FTS3 fetches files from "
            "storages only: add an entry with the directory and the URL under which a storage serves it"
        )
    return max(held, key=lambda entry: len(entry.path))


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
