"""What each user reaches: the mapping of the user, else that of everybody, else --sandbox-dir, else the
receive root. A mapping of the user's own takes the place of the one of everybody as a whole.
"""

from __future__ import annotations

import os

from agent.server import sandboxes
from agent.server.confine import FileError, reason, split
from agent.server.errors import CommandError
from agent.server.options import ServeOptions
from agent.server.sandboxes import WHOLE, Mapping, Root, Roots

EVERYBODY = ""
_PRIVATE = 0o700


class Reach:
    """The event loop changes mappings; any thread may ask."""

    def __init__(self, options: ServeOptions, mappings: dict[str, Mapping]) -> None:
        self._options = options
        self.mappings = mappings  # replaced entry by entry, never changed in place

    def _mapping(self, user: str) -> Mapping | None:
        return self.mappings.get(user) or self.mappings.get(EVERYBODY)

    def sandboxed(self, user: str) -> bool:
        return self._mapping(user) is not None or self._options.sandbox_dir is not None

    def roots(self, user: str, path: str = "") -> Roots:
        """The user's roots, seen from `path` (an API token's). CommandError when there can be none."""
        try:
            return Roots(self._roots(user), split(os.fsencode(path)))
        except FileError as error:
            raise CommandError(f"the token's path cannot be used: {error}") from None

    def _roots(self, user: str) -> tuple[Root, ...]:
        mapping = self._mapping(user)
        if mapping is not None:
            return tuple(
                Root(os.fsencode(name), sandboxes.expand(sandbox["path"], user))
                for name, sandbox in sorted(mapping.items())
            )
        if self._options.sandbox_dir is not None:
            return (Root(WHOLE, sandboxes.expand(self._options.sandbox_dir, user)),)
        return (Root(WHOLE, os.fsencode(self._options.receive_directory)),)

    def sources(self, user: str, path: str = "") -> Roots | None:
        """What a manifest of the user may read; None = whatever the server's process can."""
        return self.roots(user, path) if path or self.sandboxed(user) else None

    def ensure(self, user: str, roots: Roots) -> None:
        """For threads: make the directories that are the server's own to make. CommandError when one is
        missing that an administrator has to make or mount."""
        mapped = self._mapping(user) is not None
        for root in roots.roots:
            try:
                if not mapped:
                    private = self._options.sandbox_dir is not None
                    os.makedirs(root.base, _PRIVATE if private else 0o777, exist_ok=True)
                elif not os.path.isdir(root.base):
                    raise NotADirectoryError
            except OSError as error:
                why = reason(error) if error.errno else "it is missing"
                raise CommandError(
                    f"the directory of root {os.fsdecode(root.name)} cannot be used ({why}); "
                    "tell the server's administrator"
                ) from None
