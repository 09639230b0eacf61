"""Takes files from the queue: which links have room, and whose turn it is there."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .app import App
from .config import shares_of
from .scheduling import Limits, Link, activity_weights, draw
from .storage import SCHEMES

WAITING = (
    "file_state = 'SUBMITTED' AND source_se = ? AND dest_se = ? AND files.vo_name = ?"
    " AND (SELECT job_finished FROM jobs WHERE jobs.job_id = files.job_id) IS NULL"
)
A_ROUND = 500  # files a link starts in one round: requests are answered between rounds


@dataclass
class Running:
    """A file that holds a slot; of a reuse job the first of the files that share one."""

    file_id: int
    job_id: str
    link: Link
    rest: list[int] = field(default_factory=list)
    abort: threading.Event = field(default_factory=threading.Event)
    copying: bool = False
    leftover: bool = False


class Slots:
    """What is under way, by file, link and storage."""

    def __init__(self) -> None:
        self.running: dict[int, Running] = {}
        self.copying = 0
        self.links: Counter[Link] = Counter()
        self.storages: Counter[tuple[str, str]] = Counter()

    def hold(self, running: Running) -> None:
        self.running[running.file_id] = running
        self._count(running.link, 1)

    def free(self, running: Running) -> None:
        del self.running[running.file_id]
        self._count(running.link, -1)

    def _count(self, link: Link, change: int) -> None:
        self.links[link] += change
        self.storages[link[0], "outbound"] += change
        self.storages[link[1], "inbound"] += change


class Picker:
    """Hands files to `start`, as many as there are free slots; `start` returns the ids that it took."""

    def __init__(self, app: App, slots: Slots, start: Callable[[sqlite3.Row], list[int]]) -> None:
        self._app, self._slots, self._start = app, slots, start
        self._database = app.database
        self._chance = random.Random(app.settings.seed)

    def fill(self) -> None:
        """Fill the free slots of every link, its VOs sharing them by weight."""
        limits = self._limits()
        links: dict[Link, list[str]] = {}
        for row in self._database.rows("SELECT * FROM links"):
            links.setdefault((row["source_se"], row["dest_se"]), []).append(row["vo_name"])
        for link, vos in links.items():
            free = min(self._free(limits, link), A_ROUND)
            waiting = {vo: self._count(link, vo, free) for vo in vos} if free else {}
            if any(waiting.values()):
                weights = self._vo_weights(link, vos)
                for vo, slots in draw(waiting, weights, free, self._chance).items():
                    self._start_of_vo(link, vo, slots)

    def force(self) -> None:
        """Files out of the queue; they still need a free slot."""
        limits = self._limits()
        for row in self._database.rows("SELECT * FROM files WHERE file_state = 'FORCE_START'"):
            if self._free(limits, (row["source_se"], row["dest_se"])):
                self._start(row)

    def _limits(self) -> Limits:
        database = self._database
        optimized = {
            (v["source_se"], v["dest_se"]): v["active"] for v in database.documents("optimizer").values()
        }
        links = list(database.documents("link").values())
        return Limits(links, database.documents("se"), optimized, self._app.settings.default_active)

    def _free(self, limits: Limits, link: Link) -> int:
        free = limits.free(link, self._slots.links, self._slots.storages)
        if self._app.settings.copy and link[0].partition(":")[0] in SCHEMES:
            free = min(free, self._app.settings.max_copies - self._slots.copying)
        return max(0, free)

    def _vo_weights(self, link: Link, vos: list[str]) -> dict[str, float]:
        shares = self._database.documents("share").values()
        found = {s["vo"]: float(s["share"]) for s in shares if (s["source"], s["destination"]) == link}
        return {vo: found.get(vo, 0.0 if found else 1.0) for vo in vos}

    def _count(self, link: Link, vo: str, most: int) -> int:
        """How many files wait, counted up to `most`."""
        row = self._database.row(
            f"SELECT count(*) AS n FROM (SELECT 1 FROM files WHERE {WAITING} LIMIT ?)", (*link, vo, most)
        )
        return 0 if row is None else int(row["n"])

    def _start_of_vo(self, link: Link, vo: str, slots: int) -> None:
        """Only files of the highest priority that waits, be it for a retry; the oldest first."""
        top = self._database.row(
            f"SELECT priority FROM files WHERE {WAITING} ORDER BY priority DESC LIMIT 1", (*link, vo)
        )
        if top is None:
            return
        where = f"{WAITING} AND priority = ? AND retry_at <= ?"
        values = (*link, vo, top["priority"], self._app.settings.now())
        shares = shares_of(self._app, vo)
        if shares is None:
            self._start_rows(f"{where} ORDER BY file_id LIMIT ?", (*values, slots))
            return
        rows = self._database.rows(
            f"SELECT activity, count(*) AS n FROM files WHERE {where} GROUP BY activity", values
        )
        waiting = {row["activity"]: int(row["n"]) for row in rows}
        drawn = draw(waiting, activity_weights(list(waiting), shares), slots, self._chance)
        for activity, share in drawn.items():
            self._start_rows(f"{where} AND activity = ? ORDER BY file_id LIMIT ?", (*values, activity, share))

    def _start_rows(self, where: str, values: tuple[Any, ...]) -> None:
        taken: set[int] = set()
        for row in self._database.rows(f"SELECT * FROM files WHERE {where}", values):
            if row["file_id"] not in taken:  # else its reuse job took it along
                taken.update(self._start(row))
