"""Whose objects a caller sees and changes. What is outside of the scope is "not found" to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Owned(Protocol):
    """A row that somebody made. `owner_token`: the id of the token that its maker was logged in with, never
    the token itself: it is shown to all who see the row."""

    @property
    def id(self) -> int: ...
    @property
    def owner(self) -> str: ...
    @property
    def owner_token(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Owner:
    """Who makes an object; the three columns of every table of owned objects."""

    name: str
    token: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    owner: str | None = None  # None = everybody's objects
    token: str | None = None  # of these only what was made with it
    manifest: int | None = None  # and this one, to read and send

    def owns(self, row: Owned) -> bool:
        """Whether the row may be changed."""
        if self.owner is None:
            return True
        return row.owner == self.owner and self.token in (None, row.owner_token)

    def sees(self, row: Owned) -> bool:
        return self.owns(row) or row.id == self.manifest

    def condition(self) -> tuple[str, tuple[object, ...]]:
        """The same as SQL over the columns id, owner and owner_token, with its values."""
        if self.owner is None:
            return "1", ()
        own, values = "owner=?", (self.owner,)
        if self.token is None:
            return own, values
        return f"({own} AND owner_token=? OR id IS ?)", (*values, self.token, self.manifest)


EVERYTHING = Scope()
NOTHING = Scope(owner="", token="")
