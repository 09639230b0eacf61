"""What became of the files of a transfer, remembered for a sender that lost the connection before it heard.

It costs memory only where something became of a file, wherever in the manifest that is, and no more in all
than `Memory` has. What is not remembered is only sent again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

from agent.server.data.wire import MAX_SEQ, WireError
from agent.server.results import Outcome

PAGE = 4096  # files
MAX_PAGES = 65_536  # of all transfers together
MAX_RUNS = 50_000
_RUNS = re.compile(rb"\x01+|\x02+", re.DOTALL)


class Memory:
    """Pages that may be in use. For any thread."""

    def __init__(self, pages: int = MAX_PAGES) -> None:
        self._lock = threading.Lock()
        self.left = pages

    def take(self) -> bool:
        with self._lock:
            if self.left <= 0:
                return False
            self.left -= 1
            return True

    def give(self, pages: int) -> None:
        with self._lock:
            self.left += pages


class Outcomes:
    """Of one transfer. For any thread."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._pages: dict[int, bytearray] = {}

    def record(self, seq: int, outcome: Outcome) -> None:
        """WireError for a number that no manifest has."""
        self.record_all([(seq, outcome)])

    def record_all(self, found: Iterable[tuple[int, Outcome]]) -> None:
        """Likewise of many files."""
        last, page = -1, None  # most of them are neighbours
        with self._lock:
            for seq, outcome in found:
                if seq >= MAX_SEQ:
                    raise WireError(f"seq {seq} is out of range")
                number, at = divmod(seq, PAGE)
                if number != last:
                    last, page = number, self._page(number)
                if page is not None:
                    page[at] = outcome

    def _page(self, number: int) -> bytearray | None:
        """None where there is no memory for another one."""
        page = self._pages.get(number)
        if page is None and self._memory.take():
            page = self._pages[number] = bytearray(PAGE)
        return page

    def runs(self) -> list[tuple[int, int, int]]:
        """(first seq, count, outcome) of what is final. Cut off when there are too many."""
        found: list[tuple[int, int, int]] = []
        with self._lock:
            pages = sorted(self._pages.items())
        for number, page in pages:
            for match in _RUNS.finditer(bytes(page)):
                run = (number * PAGE + match.start(), match.end() - match.start(), match[0][0])
                last = found[-1] if found else (0, 0, 0)
                if last[0] + last[1] == run[0] and last[2] == run[2]:
                    found[-1] = (last[0], last[1] + run[1], run[2])
                elif len(found) == MAX_RUNS:
                    return found
                else:
                    found.append(run)
        return found

    def clear(self) -> None:
        with self._lock:
            self._memory.give(len(self._pages))
            self._pages = {}
