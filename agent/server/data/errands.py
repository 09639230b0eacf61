"""What a session asks for that may take minutes: done beside the streams, by a few threads.

What is quick (renames, listings) does not wait for what is slow (digests of contents). Of one session one
errand of each sort is carried out at a time, so that the threads go round among the sessions.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

QUICK_THREADS, SLOW_THREADS = 4, 2
MAX_WAITING = 64  # of one session and sort

Work = Callable[[], None]


class Errands:
    """For any thread."""

    def __init__(self) -> None:
        self.over = threading.Event()  # nobody waits for any of them any more
        self._quick = _Sort(QUICK_THREADS, "quick errand")
        self._slow = _Sort(SLOW_THREADS, "slow errand")

    def add(self, owner: object, work: Work, *, slow: bool) -> bool:
        """Have `work` done, which raises nothing; False when too much waits already."""
        return (self._slow if slow else self._quick).add(owner, work)


class _Sort:
    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: defaultdict[object, deque[Work]] = defaultdict(deque)
        """By owner; the first of each is being done."""

    def add(self, owner: object, work: Work) -> bool:
        with self._lock:
            queue = self._waiting[owner]
            if len(queue) > MAX_WAITING:
                return False
            queue.append(work)
            if len(queue) == 1:
                self._pool.submit(self._work, owner, work)
            return True

    def _work(self, owner: object, work: Work) -> None:
        try:
            work()
        finally:
            with self._lock:
                queue = self._waiting[owner]
                queue.popleft()
                if queue:
                    self._pool.submit(self._work, owner, queue[0])
                else:
                    del self._waiting[owner]
