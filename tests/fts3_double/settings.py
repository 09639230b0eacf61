"""Options of the double: all can be given at the start, and changed while it runs by the admin port."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Settings:
    """Times are in seconds. The defaults are quick; REAL_PACE has what was seen on the real service."""

    poll: float = 0.02  # how often the engine looks for work
    ready_seconds: float = 0.0  # READY → ACTIVE
    end_seconds: float = 0.0  # end of the copy → end state of the file
    job_lag: float = 0.0  # end of the last file → end state of the job
    cancel_poll: float = 0.05  # how often canceled copies are looked for and stopped
    staging_seconds: float = 0.05
    archive_seconds: float = 0.05
    token_prep_seconds: float = 0.05
    force_start_seconds: float = 5.0
    retention: float = 7 * 86400.0  # ended jobs leave /jobs for /archive after that
    max_copies: int = 16  # copies under way on this host, all links together
    default_active: int = 66  # slots of a link without a configuration
    default_retry_delay: float = 120.0
    copy: bool = True  # False: files end by schedule, no byte is moved
    schedule_seconds: float = 0.0  # how long a file is ACTIVE without copying
    clock_skew: float = 0.0  # added to the service's clock
    engine_paused: bool = False  # nothing new starts, as with a host in drain
    oauth2: bool = True  # tokens are accepted; False: any bearer token is 400
    gridsite: bool = True  # a proxy counts as its user; False: it is a user of its own
    idle_seconds: float = 60.0  # then an idle connection is closed; Apache's own default is 5
    ban_memory: int = 0  # server threads that go on refusing a user after his ban is lifted
    seed: int = 1  # of the draws by activity and VO share

    def change(self, values: dict[str, Any]) -> None:
        """Set some options; ValueError names an unknown one."""
        types = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        unknown = set(values) - set(types)
        if unknown:
            raise ValueError(f"no such option: {sorted(unknown)}")
        for name, value in values.items():
            setattr(self, name, types[name](value))

    def now(self) -> float:
        """The service's clock, Unix time."""
        return time.time() + self.clock_skew

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


REAL_PACE = {
    "poll": 2.0,
    "ready_seconds": 1.0,
    "end_seconds": 1.0,
    "job_lag": 1.0,
    "cancel_poll": 10.0,
    "force_start_seconds": 30.0,
    "idle_seconds": 5.0,
}


def stamp(moment: float) -> str:
    """A time as the service writes it: UTC, whole seconds, no zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


def add_options(parser: argparse.ArgumentParser) -> None:
    for option in fields(Settings):
        kind = type(option.default)
        parser.add_argument(
            "--" + option.name.replace("_", "-"),
            type=(lambda text: text.lower() in ("1", "true", "yes")) if kind is bool else kind,
            default=option.default,
        )


def from_options(options: argparse.Namespace) -> Settings:
    return Settings(**{f.name: getattr(options, f.name) for f in fields(Settings)})
