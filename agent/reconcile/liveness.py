"""Whether the threads that keep everything in sync still move.

Each of them wakes at least every half a minute, so one whose CPU time has not changed for long hangs: in a
call of the kernel, on a lock, for an answer that never comes. However long a thread works, it is not blamed:
a look at ten million files takes hours on some storage, and to start it over would not make it shorter.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from agent.model.units import format_duration

log = structlog.get_logger(__name__)

STUCK_SECONDS = 900.0
"""Longer than any single wait of a thread that works: for a server's answer, a lock, a program."""

BLIND_SECONDS = 60.0
"""When nobody has looked for so long the whole process was stopped, and nothing follows for its threads."""

_THREAD_CPU_CLOCK = 6  # per thread, by the scheduler's account (linux/posix-timers.h)


def cpu_time(native_id: int) -> int | None:
    """Nanoseconds that a thread of this process has run; None when there is none of this number."""
    try:
        return time.clock_gettime_ns((~native_id << 3) | _THREAD_CPU_CLOCK)
    except OSError:
        return None


@dataclass(slots=True)
class Pulse:
    """Since when which thread has not moved. Pure: times are parameters, in seconds."""

    _still: dict[str, tuple[int, float]] = field(default_factory=dict)  # its CPU time, and since when
    _looked: float | None = None

    def look(self, readings: Mapping[str, int], now: float) -> dict[str, float]:
        """For how long each of these threads has not moved."""
        blind = self._looked is not None and now - self._looked > BLIND_SECONDS
        before = {} if blind else self._still
        self._looked = now
        self._still = {
            name: before[name] if name in before and before[name][0] == run else (run, now)
            for name, run in readings.items()
        }
        return {name: now - since for name, (_, since) in self._still.items()}


@dataclass(slots=True)
class Liveness:
    """Thread-safe. `look` is to be called every few seconds."""

    threads: Callable[[], Iterable[threading.Thread]]  # those that everything depends on
    clock: Callable[[], float]  # monotonic seconds
    patience: float = STUCK_SECONDS
    _pulse: Pulse = field(default_factory=Pulse)
    _told: frozenset[str] = frozenset()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> dict[str, str]:
        """What is wrong, by the thread's name; empty when all move."""
        with self._lock:
            return self._look({thread.name: thread for thread in self.threads()})

    def _look(self, threads: Mapping[str, threading.Thread]) -> dict[str, str]:
        found, readings = {}, {}
        for name, thread in threads.items():
            run = cpu_time(thread.native_id) if thread.is_alive() and thread.native_id else None
            if run is None:
                found[name] = "ended"
            else:
                readings[name] = run
        for name, seconds in self._pulse.look(readings, self.clock()).items():
            if seconds >= self.patience:
                found[name] = f"has not moved for {format_duration(seconds)}"
        self._tell(threads, found)
        return found

    def _tell(self, threads: Mapping[str, threading.Thread], found: Mapping[str, str]) -> None:
        """Once for each: where it hangs is what somebody will want to know."""
        for name in found.keys() - self._told:
            frame = sys._current_frames().get(threads[name].ident or 0)
            where = "" if frame is None else "".join(traceback.format_stack(frame)[-12:])
            log.error("a thread is stuck", thread=name, why=found[name], where=where)
        for name in self._told - found.keys():
            log.info("a thread moves again", thread=name)
        self._told = frozenset(found)
