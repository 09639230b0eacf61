"""Who can be reached through a relay: receivers by their keys and addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.jetstream import keys
from agent.server.relay.protocol import RefusedError

L = TypeVar("L")


@dataclass(frozen=True, slots=True, eq=False)
class Receiver(Generic[L]):
    keys: tuple[str, ...]
    addresses: tuple[str, ...]
    link: L

    @property
    def name(self) -> str:
        """For people: an address if it has one, else the beginning of its key."""
        return self.addresses[0] if self.addresses else keys.short(self.keys[0])


class Roster(Generic[L]):
    """A key or an address leads to at most one receiver."""

    def __init__(self, accepted: Iterable[str], limit: int) -> None:
        """`accepted`: keys that may register, none = every receiver under its own."""
        self._accepted = frozenset(accepted)
        self._limit = limit
        self._by_key: dict[str, Receiver[L]] = {}
        self._by_address: dict[str, Receiver[L]] = {}

    def __len__(self) -> int:
        return len(self.all())

    def register(
        self, shown: tuple[str, ...], addresses: tuple[str, ...], link: L
    ) -> tuple[Receiver[L], list[Receiver[L]]]:
        """(the receiver, those that it replaces: earlier links of the same keys). RefusedError when no key is
        accepted, an address belongs to another, or there is no room."""
        taken = tuple(key for key in shown if not self._accepted or key in self._accepted)
        if not taken:
            raise RefusedError(
                f"this relay does not accept the key {shown[0]}; start it with --accept-key {shown[0]}"
            )
        replaced = list(dict.fromkeys(self._by_key[key] for key in taken if key in self._by_key))
        for address in addresses:
            holder = self._by_address.get(address)
            if holder is not None and holder not in replaced:
                raise RefusedError(
                    f"the address {address} is registered by the receiver with the key "
                    f"{keys.short(holder.keys[0])}; give this one another --external-address"
                )
        if len(self) - len(replaced) >= self._limit:
            raise RefusedError(f"this relay takes at most {self._limit} receivers")
        for old in replaced:
            self.leave(old.link)
        made = Receiver(taken, addresses, link)
        self._by_key.update(dict.fromkeys(taken, made))
        self._by_address.update(dict.fromkeys(addresses, made))
        return made, replaced

    def leave(self, link: L) -> None:
        """The link is gone, and whoever registered over it. What another link took over meanwhile stays."""
        for table in (self._by_key, self._by_address):
            for name in [name for name, found in table.items() if found.link is link]:
                del table[name]

    def by_key(self, key: str) -> Receiver[L] | None:
        return self._by_key.get(key)

    def by_address(self, address: str) -> Receiver[L] | None:
        return self._by_address.get(address)

    def all(self) -> list[Receiver[L]]:
        return list(dict.fromkeys(self._by_key.values()))
