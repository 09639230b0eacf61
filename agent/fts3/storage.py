"""Files at a storage, reached through the service with the delegated credential.

The service asks the storage while we wait. NeedDelegation when nothing is delegated, NotFound for what is not
there, Unauthorized for what the storage forbids, TryAgain while it is busy, ServerError for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.fts3.context import Context, encoded
from agent.fts3.errors import ServerError


@dataclass(frozen=True, slots=True)
class Stat:
    """size: bytes. mtime: seconds since 1970. mode: as in stat(2)."""

    size: int
    mode: int
    mtime: int

    @classmethod
    def read(cls, raw: object) -> Stat:
        numbers = [raw.get(name) for name in ("size", "mode", "mtime")] if isinstance(raw, dict) else []
        found = [int(one) for one in numbers if isinstance(one, int | float)]
        if len(found) != 3:
            raise ServerError("the service did not answer with size, mode and mtime")
        return cls(*found)


class Storage:
    def __init__(self, context: Context) -> None:
        self._context = context

    def stat(self, surl: str) -> Stat:
        return Stat.read(self._context.get("/dm/stat", {"surl": surl}))

    def list(self, surl: str) -> dict[str, Stat]:
        """Name -> stat of what is in a directory; names of directories end with a slash. Those of WebDAV
        storages are percent-encoded, as in URLs."""
        found = self._context.get("/dm/list", {"surl": surl})
        if not isinstance(found, dict):
            raise ServerError("the service did not answer with a listing")
        return {name: Stat.read(one) for name, one in found.items()}

    def mkdir(self, surl: str) -> None:
        self._do("mkdir", {"surl": surl})

    def rmdir(self, surl: str) -> None:
        """Look inside first: many a WebDAV storage deletes a directory with all that is in it."""
        self._do("rmdir", {"surl": surl})

    def unlink(self, surl: str) -> None:
        self._do("unlink", {"surl": surl})

    def rename(self, old: str, new: str) -> None:
        """What is at the new place may be replaced."""
        self._do("rename", {"old": old, "new": new})

    def _do(self, operation: str, body: dict[str, Any]) -> None:
        self._context.request("POST", f"/dm/{operation}", body=encoded(body))
