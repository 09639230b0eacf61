"""A destination over WebDAV, and the choice between that and the service's own calls.

Some servers delete a directory with all that is in it, whoever asks for a file or an empty directory. So
nothing is deleted before the server said what it is, and that nothing is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote, urlsplit

from agent.engines.fts3 import multistatus
from agent.engines.fts3.destination import (
    BusyError,
    Destination,
    ExistsError,
    NotEmptyError,
    PermissionRefusedError,
    Root,
    Stat,
    translated,
    tree,
)
from agent.engines.fts3.dm import ServiceStorage
from agent.engines.fts3.webdav_http import SCHEMES, Requests, header, http_url
from agent.fts3 import Client, FTS3ClientException
from agent.fts3.context import authorities
from agent.fts3.credentials import Credential
from agent.fts3.errors import error_for
from agent.fts3.transport import Answer
from agent.model.outcome import (
    AuthenticationError,
    LaneSyncError,
    NotFoundError,
    PermanentError,
    RetryableError,
)

__all__ = [
    "BusyError",
    "Connections",
    "Destination",
    "ExistsError",
    "NotEmptyError",
    "PermissionRefusedError",
    "Stat",
    "WebDav",
    "open_destination",
    "tree",
]

_NO_PROPFIND = frozenset({405, 501})
_BELOW_A_FILE = frozenset({400, 500})
"""What Apache and XRootD say to a path that goes through a file; others say 404."""


class Connections:
    """Destinations that share their connections, so that hundreds of them need few.

    credential: `agent.fts3.credentials.Certificate` or `Token`, or None for nobody. verify: authorities to
    trust, a PEM file or a directory; True for those that a service is trusted by. service: whom to ask about
    storages that speak no WebDAV (root, srm, gsiftp, s3s); it acts with what was delegated to it.
    """

    def __init__(
        self, credential: Credential = None, *, verify: bool | str = True, service: Client | None = None
    ) -> None:
        """PermanentError when the authorities are not there."""
        self._requests = Requests(credential, _trusted(verify))
        self._service = service

    def open(self, url: str) -> Destination:
        """What is at and below `url`. Sends nothing yet.

        PermanentError when the URL cannot be a destination, or is none of WebDAV and there is no service.
        """
        root = Root(url)
        if root.scheme in SCHEMES:
            return WebDav(root, self._requests)
        if self._service is None:
            raise PermanentError(
                f"{url} is no WebDAV storage (davs or https), and there is no service to ask"
            )
        return ServiceStorage(root, self._service)

    def close(self) -> None:
        """Those to storages; the service stays open. Idempotent, a later call opens new ones."""
        self._requests.close()


def open_destination(
    url: str, credential: Credential = None, *, verify: bool | str = True, service: Client | None = None
) -> Destination:
    """One destination with connections of its own, see Connections."""
    return Connections(credential, verify=verify, service=service).open(url)


def _trusted(verify: bool | str) -> bool | str:
    """PermanentError when the authorities are not there."""
    try:
        return authorities(None if verify is True else verify) if verify is not False else False
    except FTS3ClientException as error:
        raise PermanentError(str(error)) from error


class WebDav:
    """See `Destination`."""

    def __init__(self, root: Root, requests: Requests) -> None:
        if urlsplit(root.url).query:
            raise PermanentError(f"{root.url} cannot be a destination: it has a query")
        requests.check(root.url)
        self._root, self._requests = root, requests
        self._ask = requests.ask

    def stat(self, url: str, checksum: str = "") -> Stat | None:
        url = self._root.check(url)
        answer = self._ask("PROPFIND", url, {"Depth": "0"})
        if answer.status in _NO_PROPFIND:
            return self._head(url, checksum)
        if answer.status in _BELOW_A_FILE and self._file_above(url):
            return None
        found = self._only(url, answer)
        wanted = checksum.lower()
        if found is None or found.is_directory or not wanted or wanted in found.checksums:
            return found
        told = self._head(url, wanted, optional=True)
        return replace(found, checksums={**found.checksums, **told.checksums}) if told else found

    def listing(self, url: str) -> Iterator[Stat]:
        url = self._root.check(url)
        own, children = self._children(url)
        if own is not None and not own.is_directory:
            raise ExistsError(f"{url} is a file, no directory")
        return iter(children)

    def delete(self, url: str) -> bool:
        url = self._root.check(url, below=True)
        found = self.stat(url)
        if found is None:
            return False
        if found.is_directory:
            raise ExistsError(f"{url} is a directory now; it was not deleted")
        return self._delete(url, url)

    def rmdir(self, url: str) -> bool:
        url = self._root.check(url, below=True)
        try:
            own, children = self._children(url)
        except NotFoundError:
            return False
        if own is None:
            raise PermanentError(f"{url}: the server does not list the directory itself; it was not deleted")
        if not own.is_directory:
            raise ExistsError(f"{url} is a file now; it was not deleted")
        if children:
            raise NotEmptyError(f"{url} is not empty; it was not deleted")
        return self._delete(url, url + "/")

    def mkdir(self, url: str) -> None:
        url = self._root.check(url)
        if self._make(url):
            return
        for one in self._root.down_to(url):
            if not self._make(one):
                raise NotFoundError(
                    f"{one} cannot be made: the directory above it is not there; make it first"
                )

    def move(self, old: str, new: str) -> None:
        old, new = self._root.check(old, below=True), self._root.check(new, below=True)
        found = self.stat(old)
        if found is None:
            raise NotFoundError(f"{old} is not there; nothing was moved")
        if self.stat(new) is not None:
            raise ExistsError(f"{new} exists already; {old} was not moved")
        if self.stat(_above(new)) is None:
            raise NotFoundError(f"{old} was not moved: the directory of {new} is not there")
        end = "/" if found.is_directory else ""
        headers = {"Destination": http_url(new + end), "Overwrite": "F"}
        answer = self._ask("MOVE", old + end, headers)
        if answer.status == 412:
            raise ExistsError(f"{new} exists already; {old} was not moved")
        if answer.status == 409:
            raise NotFoundError(f"{old} was not moved: the directory of {new} is not there")
        self._done(answer, old)
        if self.stat(new) is None:  # seen with XRootD 5.5, which takes the new name without decoding it
            raise PermanentError(f"{old} was moved, but it is not at {new}; look for it in {_above(new)}")

    def close(self) -> None:
        self._requests.close()

    # -- parts of the above

    def _only(self, url: str, answer: Answer) -> Stat | None:
        """The one entry of an answer of depth 0; None for nothing there."""
        if answer.status in (404, 410):
            return None
        entries = self._entries(url, answer)
        if len(entries) > 1:
            mine = multistatus.segments(url)
            entries = [entry for entry in entries if multistatus.segments(entry.href) == mine]
        if len(entries) != 1:
            raise PermanentError(f"{url}: the server answered about something else")
        entry = entries[0]
        if entry.status in (404, 410):
            return None
        if entry.status is not None and not 200 <= entry.status < 300:
            raise self._failure(Answer(entry.status, {}, b""), url)
        return _stat(url, entry)

    def _children(self, url: str) -> tuple[Stat | None, list[Stat]]:
        """The directory itself, if the server tells of it, and what is in it."""
        answer = self._ask("PROPFIND", url + "/", {"Depth": "1"})
        if answer.status in (404, 410):
            raise NotFoundError(f"{url} is not there")
        if answer.status in _BELOW_A_FILE:
            found = self.stat(url)
            if found is not None and not found.is_directory:
                raise ExistsError(f"{url} is a file; a directory was expected there")
        mine, own, children = multistatus.segments(url), None, []
        for entry in self._entries(url, answer):
            theirs = multistatus.segments(entry.href)
            if theirs == mine:
                own = _stat(url, entry)
            elif theirs[:-1] == mine:
                children.append(_stat(f"{url}/{quote(theirs[-1], safe='')}", entry))
            else:
                # Never ignored: a directory would look empty, and be deleted with all that is in it.
                raise PermanentError(f"{url}: the server answered about {entry.href[:200]!r} instead")
        return own, children

    def _entries(self, url: str, answer: Answer) -> list[multistatus.Response]:
        if answer.status != 207:
            raise self._failure(answer, url)
        try:
            return multistatus.read(answer.body)
        except multistatus.NotWebDavError as error:
            message = f"{url}: the answer cannot be read: {error}"
            raise (PermanentError if error.hostile else RetryableError)(message) from None

    def _head(self, url: str, checksum: str, *, optional: bool = False) -> Stat | None:
        """What the headers tell. optional: None also where the server does not like the question."""
        answer = self._ask("HEAD", url, {"Want-Digest": checksum} if checksum else {})
        if answer.status in (404, 410) or (optional and answer.status in (400, 405, 406, 501)):
            return None
        self._done(answer, url)
        size = multistatus.number(header(answer, "content-length"))
        mtime = multistatus.moment(header(answer, "last-modified"))
        return Stat(url, size, mtime, False, multistatus.checksums(header(answer, "digest")))

    def _delete(self, url: str, address: str) -> bool:
        answer = self._ask("DELETE", address)
        if answer.status in (404, 410):
            return False
        self._done(answer, url)
        return True

    def _make(self, url: str) -> bool:
        """Make one directory, or find it made; False when the one above it is missing."""
        answer = self._ask("MKCOL", url + "/", safe=True)
        if answer.status in (200, 201, 204):
            return True
        found = self.stat(url)
        if found is not None and found.is_directory:
            return True
        in_the_way = url if found is not None else self._file_above(url)
        if in_the_way:
            raise ExistsError(f"{in_the_way} is a file; a directory is wanted there")
        if answer.status in (404, 409):
            return False
        raise self._failure(answer, url)

    def _file_above(self, url: str) -> str:
        """The file where this path wants a directory; "" for none."""
        for above in self._root.down_to(url)[:-1]:
            found = self.stat(above)
            if found is None or not found.is_directory:
                return above if found is not None else ""
        return ""

    def _done(self, answer: Answer, url: str) -> None:
        if answer.status == 207:
            raise RetryableError(f"{url}: the server did a part of it only")
        if not 200 <= answer.status < 300:
            raise self._failure(answer, url)

    def _failure(self, answer: Answer, url: str) -> LaneSyncError:
        """For an answer that is no success."""
        if answer.status == 403 and self._requests.anonymous:
            return AuthenticationError(f"{url}: the storage wants to know who we are; give a credential")
        if answer.status == 412:
            return ExistsError(f"{url} exists already")
        if answer.status == 423:
            return BusyError(f"{url} is locked by somebody else")
        return translated(error_for(answer.status, answer.body, resource=url), url)


def _above(url: str) -> str:
    return url.rpartition("/")[0]


def _stat(url: str, entry: multistatus.Response) -> Stat:
    size = None if entry.is_directory else entry.size
    return Stat(url, size, entry.mtime, entry.is_directory, entry.checksums)
