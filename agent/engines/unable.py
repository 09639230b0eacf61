"""The part of the port for engines that can neither rename nor list at the destination."""

# ruff: noqa: ARG002 - the port's parameters

from __future__ import annotations

from agent.engines.port import InventoryState, ReceiverCredentials, RemoteState
from agent.model.outcome import NotFoundError, PermanentError


class NoFarVerbs:
    def start_renaming(
        self,
        destination_id: str,
        renames: tuple[tuple[str, str], ...],
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        raise PermanentError("this server cannot rename at the destination")

    def renaming(self, renaming_id: str) -> RemoteState:
        raise NotFoundError("nothing is renamed by this server")

    def start_inventory(
        self,
        destination_id: str,
        directory: str,
        after: str = "",
        *,
        checksum: bool = False,
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        raise PermanentError("this server cannot tell what is at the destination")

    def inventory(self, inventory_id: str) -> InventoryState:
        raise NotFoundError("nothing is listed by this server")
