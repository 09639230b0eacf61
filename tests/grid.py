"""A small grid for tests: a service of FTS3, a storage with the sources and one that receives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fts3_double.run import Double, WebDav, start_double, start_webdav

from agent.engines.fts3.engine import Access, Fts3Engine, Settings
from agent.fts3 import Client, Context, Job, JobState
from agent.model.spec import Storage

QUICK = Settings(poll_min=0.05, poll_max=0.5, files_every=0.1, retry_delay=0.2, requests_per_second=200.0)
"""Without the patience that a real service wants."""


@dataclass
class Grid:
    service: Double
    source: WebDav
    target: WebDav

    def url(self, path: str) -> str:
        """Of a destination."""
        return self.target.url(path)

    def access(self, user: str = "alice", **fields: Any) -> Access:
        pair = self.service.user(user)
        storage = Storage(str(self.source.root), self.source.url().rstrip("/"))
        access = Access(
            self.service.url,
            "grid",
            str(pair.cert),
            str(pair.key),
            ca=str(self.service.ca),
            storage=(storage,),
        )
        return replace(access, **fields)

    def engine(
        self, directory: Path, settings: Settings = QUICK, *, user: str = "alice", **fields: Any
    ) -> Fts3Engine:
        return Fts3Engine(self.access(user, **fields), str(directory), settings)

    def client(self, user: str = "alice") -> Client:
        """To look at the service as one of its users."""
        pair = self.service.user(user)
        return Client(Context(self.service.url, str(pair.cert), str(pair.key), capath=str(self.service.ca)))

    def jobs(self, user: str = "alice") -> list[Job]:
        """All jobs of the user's VO, ended or not."""
        with self.client(user) as client:
            return client.jobs.list_jobs(state_in=[str(s) for s in JobState], limit=500)

    def posts(self) -> int:
        """How many submissions have reached the service."""
        return sum((r["method"], r["path"]) == ("POST", "/jobs") for r in self.service.requests())

    def reset(self) -> None:
        """As after the start, for tests that share one grid."""
        if not self.service.running:
            self.service.start()
        self.service.clear_faults()
        self.service.reset()
        self.source.clear()
        self.target.clear()


@contextlib.contextmanager
def start_grid(folder: Path, **options: Any) -> Iterator[Grid]:
    """`options` are those of the service."""
    with (
        start_double(folder / "fts3", **options) as service,
        start_webdav(folder / "source", pki=service.pki) as source,
        start_webdav(folder / "target", pki=service.pki) as target,
    ):
        yield Grid(service, source, target)
