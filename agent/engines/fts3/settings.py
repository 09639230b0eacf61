"""Numbers that steer the adapter, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    window: int = 2_000
    """Files under way on one link. Some thirty times what a link copies at once (66 by default), so that it
    never runs dry between two looks; no more, because what the service has queued can hardly be reordered."""

    batch: int = 200
    """Files of one job: small, so that a priority or a cancel touches little; large enough for 4,000 files a
    second with some twenty requests."""

    tries: int = 2
    """Of one file, before its failure is told: enough for what passes by itself. The mapping goes on trying
    after that, at its own pace and with the reason in its status."""

    retry_delay: float = 5.0
    """Seconds before the second try; doubled for each one after that."""

    max_retry_delay: float = 300.0

    poll_min: float = 0.25
    """Seconds between two looks at the jobs while files end."""

    poll_max: float = 3.0
    """The same while nothing changes. It is one request for a hundred jobs."""

    files_every: float = 5.0
    """Seconds between two looks at the files of a job that is not over."""

    requests_per_second: float = 40.0
    """To one service, of all kinds together. Bursts of a second are let through."""

    unsettled: float = 60.0
    """Seconds for which a job that is over and its files may disagree, before we look at the destination."""

    stuck_base: float = 3_600.0
    """Seconds that a running file may take in any case. The service gives up by itself after 600 s and 2 s a
    megabyte; this is for services that do not."""

    stuck_per_megabyte: float = 6.0

    ban_recheck: float = 10.0
    """Seconds between two tries to submit to a banned storage."""

    delegation_check: float = 300.0
    """Seconds between two looks at what is left of the delegation."""

    posting: int = 4
    """Jobs that are submitted at once."""

    storage_calls: int = 4
    """Files that are deleted, or directories that are made, at once."""

    request_timeout: float = 8.0
    """Seconds for a call that somebody waits for."""
