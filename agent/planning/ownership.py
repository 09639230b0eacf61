"""What is ours on a server. Nothing else is ever planned for."""

from __future__ import annotations

from collections.abc import Iterable

from agent.model.observed import ObservedTransfer, Tag, TransferState
from agent.model.spec import Key, Kind


def owned_by_mapping(
    transfers: Iterable[ObservedTransfer], mapping: str, agent: str | None = None
) -> tuple[ObservedTransfer, ...]:
    """The transfers whose tag names this mapping (and this agent, where it is given)."""
    key = str(Key(Kind.MAPPING, mapping))
    return tuple(t for t in transfers if t.tag and t.tag.spec == key and agent in (None, t.tag.agent))


def is_destination(tag: Tag | None, name: str) -> bool:
    return tag is not None and tag.spec == str(Key(Kind.DESTINATION, name))


def mapping_of(transfer: ObservedTransfer) -> str | None:
    """The mapping that a transfer belongs to, by its tag; None when it is no mapping's."""
    kind, _, name = transfer.tag.spec.partition("/") if transfer.tag else ("", "", "")
    return name if kind == Kind.MAPPING and name else None


def alive(transfer: ObservedTransfer) -> bool:
    """Active or suspended: it may still deliver something."""
    return transfer.state.active or transfer.state is TransferState.SUSPENDED
