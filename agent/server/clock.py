"""Time for the server: the wall clock in microseconds, and one that never jumps."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def wall_us(self) -> int:
        """Microseconds since 1970; may jump."""
        ...

    def steady_us(self) -> int:
        """Microseconds since boot, suspended time included; never jumps."""
        ...


class SystemClock:
    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def steady_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def since_request(request_us: int, request_clock_us: int, clock: Clock) -> int:
    """Now, as request time plus the duration since: differences within one transfer are exact."""
    return request_us + max(0, clock.steady_us() - request_clock_us)


def boot_id() -> str:
    """Identity of this boot of the machine; empty where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip()
    except OSError:
        return ""
