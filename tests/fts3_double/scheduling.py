"""Which files start next: slots of a link shared between VOs and activities. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SE_DEFAULT = 200
Link = tuple[str, str]


@dataclass(frozen=True)
class Limits:
    """How many files may be under way at once. `links` and `storages` are configuration entries."""

    links: Sequence[Mapping[str, Any]]
    storages: Mapping[str, Mapping[str, Any]]
    optimized: Mapping[Link, int]
    default: int

    def of_link(self, link: Link) -> int:
        """The entry that fits best: both ends, source, destination, any; without one the default."""
        source, destination = link
        for pair in ((source, destination), (source, "*"), ("*", destination), ("*", "*")):
            for entry in self.links:
                if (entry["source"], entry["destination"]) == pair:
                    most, least = int(entry["max_active"]), int(entry["min_active"] or 0)
                    return max(least, min(most, self.optimized.get(link, most)))
        return self.optimized.get(link, self.default)

    def of_storage(self, storage: str, direction: str) -> int:
        for name in (storage, "*"):
            info = self.storages.get(name, {}).get("se_info") or {}
            if info.get(f"{direction}_max_active") is not None:
                return int(info[f"{direction}_max_active"])
        return max(SE_DEFAULT, self.default)

    def free(self, link: Link, links: Mapping[Link, int], storages: Mapping[tuple[str, str], int]) -> int:
        """Free slots, by what is under way on the link and on both its ends."""
        source, destination = link
        return max(
            0,
            min(
                self.of_link(link) - links.get(link, 0),
                self.of_storage(source, "outbound") - storages.get((source, "outbound"), 0),
                self.of_storage(destination, "inbound") - storages.get((destination, "inbound"), 0),
            ),
        )


def draw(
    waiting: Mapping[str, int], weights: Mapping[str, float], slots: int, chance: random.Random
) -> dict[str, int]:
    """How many of `slots` each name gets: drawn one by one by weight among those that still wait."""
    left = {name: count for name, count in waiting.items() if count > 0}
    drawn: Counter[str] = Counter()
    for _ in range(slots):
        if not left:
            break
        names = list(left)
        values = [max(0.0, float(weights.get(name, 0.0))) for name in names]
        if not any(values):
            values = [1.0] * len(names)
        name = chance.choices(names, values)[0]
        drawn[name] += 1
        left[name] -= 1
        if not left[name]:
            del left[name]
    return dict(drawn)


def activity_weights(activities: Sequence[str], shares: Mapping[str, float]) -> dict[str, float]:
    """The weight of each waiting activity; unknown ones divide the weight of `default` between them."""
    unknown = [name for name in activities if name not in shares or name == "default"]
    default = float(shares.get("default", 0.0)) / max(1, len(unknown))
    return {name: default if name in unknown else float(shares[name]) for name in activities}
