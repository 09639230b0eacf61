"""The database thread: every use of `server.db` by the control process, one transaction a call."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from agent.server.store.schema import open_database

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """One connection, one thread. Calls are carried out in the order in which they are made."""

    def __init__(self, path: Path) -> None:
        self._connection = open_database(path)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")

    def submit(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]:
        """Queue `function(connection, …)` as one transaction; for threads. An error rolls back."""

        def transaction() -> T:
            connection = self._connection
            connection.execute("BEGIN")
            try:
                result = function(connection, *args, **kwargs)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return self._executor.submit(transaction)

    async def run(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same from the event loop."""
        return await asyncio.wrap_future(self.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Finish what is queued, then close. Idempotent."""
        self._executor.shutdown(wait=True)
        self._connection.close()
