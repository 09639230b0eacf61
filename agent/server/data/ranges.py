"""Sets of byte ranges of one file."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right

Range = tuple[int, int]


class RangeSet:
    """Half-open ranges, merged where they touch. O(log n) to find, and n is small: chunks come in order."""

    def __init__(self, ranges: list[Range] | None = None) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges or ():
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def __len__(self) -> int:
        return len(self._starts)

    def covers(self, start: int, end: int) -> bool:
        if start >= end:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._ends[at] >= end

    def missing(self, start: int, end: int) -> list[Range]:
        """What of [start, end) is not in the set."""
        found = []
        for left, right in zip(self._starts, self._ends, strict=True):
            if right <= start:
                continue
            if left >= end:
                break
            if start < left:
                found.append((start, left))
            start = max(start, right)
        if start < end:
            found.append((start, end))
        return found

    def largest(self, count: int) -> list[Range]:
        """So many at most, in order."""
        found = self.ranges()
        if len(found) <= count:
            return found
        return sorted(heapq.nlargest(count, found, key=lambda span: span[1] - span[0]))

    def ranges(self) -> list[Range]:
        return list(zip(self._starts, self._ends, strict=True))
