"""What is done at a destination through the API of its own server (`controlServer`), by documented methods.

For a sending server that cannot delete, rename and list there itself. The server that is named here must see
the files by the paths by which they are sent. Its methods work on one path at a time, so each request is
carried out by a thread of the adapter; it is forgotten with the adapter.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

from agent.engines.jetstream_far import Answer
from agent.engines.jetstream_files import DIRECTORY, Files
from agent.engines.jetstream_session import Session
from agent.engines.port import Engine, InventoryState, ReceiverCredentials, RemoteState
from agent.model.observed import Capabilities, FarFile, FileOutcome, FileResult
from agent.model.outcome import LaneSyncError, NotFoundError, PermanentError, UnreachableError
from agent.model.paths import parent

THREADS = 2
MAX_KEPT = 64  # answers that nobody has fetched
PAGE_FILES = 5000
PAGE_SECONDS = 5.0
STAYS = "directories stay: the documented methods remove one only with all that is in it"

Changed = Callable[[str, str], None]


class Control:
    """Requests and their answers. For any thread."""

    def __init__(self, session: Session, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._files = Files(session)
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="control")
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, Future[Answer]] = OrderedDict()
        self._launch = secrets.token_hex(4)
        self._number = 0
        self.changed: Changed = lambda _kind, _id: None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def delete(self, files: tuple[str, ...], directories: tuple[str, ...]) -> str:
        return self._ask(lambda: self._deleted(files, directories))

    def rename(self, renames: tuple[tuple[str, str], ...]) -> str:
        return self._ask(lambda: Answer(True, tuple(self._rename(old, new) for old, new in renames)))

    def list(self, directory: str, after: str) -> str:
        return self._ask(lambda: self._page(directory, after))

    def answer(self, ident: str) -> Answer:
        """NotFoundError when it was not asked for by this adapter, or fetched already."""
        with self._lock:
            future = self._asked.get(ident)
            if future is None or future.cancelled():
                raise NotFoundError("the agent was restarted and no longer knows this request")
            if not future.done():
                return Answer(done=False)
            del self._asked[ident]
        try:
            return future.result()
        except LaneSyncError as error:
            return Answer(done=True, error=str(error))

    def _ask(self, work: Callable[[], Answer]) -> str:
        with self._lock:
            self._number += 1
            ident = f"{self._launch}/control-{self._number}"
            done = [key for key, future in self._asked.items() if future.done()]
            for key in done[: max(0, len(done) - MAX_KEPT)]:
                del self._asked[key]
            try:
                future = self._asked[ident] = self._pool.submit(work)
            except RuntimeError:
                raise UnreachableError("the connection to this server was closed by the agent") from None
        future.add_done_callback(lambda _future: self.changed("deletion", ident))
        return ident

    def _deleted(self, files: tuple[str, ...], directories: tuple[str, ...]) -> Answer:
        kept = tuple(FileResult(path, FileOutcome.SKIPPED, error=STAYS) for path in directories)
        return Answer(True, tuple(self._delete(path) for path in files) + kept)

    def _delete(self, path: str) -> FileResult:
        try:
            found = self._files.find(path)
            if found is not None and found.kind == DIRECTORY:
                return FileResult(path, FileOutcome.SKIPPED, error="it is a directory at the destination")
            if found is not None:
                self._files.remove(path)
        except NotFoundError:
            pass  # as it is wanted
        except PermanentError as error:
            return FileResult(path, FileOutcome.FAILED, error=str(error))
        return FileResult(path, FileOutcome.DELIVERED)

    def _rename(self, old: str, new: str) -> FileResult:
        taken = FileResult(new, FileOutcome.SKIPPED, error="something is there already")
        try:
            found = self._files.find(old)
            if found is None:
                return FileResult(new, FileOutcome.VANISHED)
            if found.kind == DIRECTORY:
                return FileResult(new, FileOutcome.FAILED, error=f"{old} is a directory at the destination")
            if self._files.find(new) is not None:
                return taken
            if parent(new) != "/":
                self._files.make(parent(new))
            self._files.move(old, new)
        except NotFoundError:
            return FileResult(new, FileOutcome.VANISHED)
        except PermanentError as error:
            if self._files.find(old) is not None and self._files.find(new) is not None:
                return taken  # by somebody who was faster
            return FileResult(new, FileOutcome.FAILED, error=str(error))
        return FileResult(new, FileOutcome.DELIVERED, found.size, found.mtime_ns)

    def _page(self, directory: str, after: str) -> Answer:
        deadline = self._monotonic() + PAGE_SECONDS
        files: list[FarFile] = []
        for file in self._files.below(directory, os.fsencode(after)):
            files.append(file)
            if len(files) >= PAGE_FILES or self._monotonic() > deadline:
                return Answer(True, files=tuple(files), next=file.path)
        return Answer(True, files=tuple(files))


class Controlled:
    """An engine whose work at the destination goes through a control server; all else is the engine's own."""

    def __init__(self, engine: Engine, control: Control) -> None:
        self._engine = engine
        self._control = control

    def connect(self) -> Capabilities:
        return widened(self._engine.connect())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def start_deletion(
        self,
        destination_id: str,  # noqa: ARG002 - the port's parameter
        files: tuple[str, ...],
        directories: tuple[str, ...],
        credentials: ReceiverCredentials | None = None,  # noqa: ARG002 - the port's parameter
    ) -> str:
        return self._control.delete(files, directories)

    def deletion(self, deletion_id: str) -> RemoteState:
        return self._control.answer(deletion_id)

    def start_renaming(
        self,
        destination_id: str,  # noqa: ARG002 - the port's parameter
        renames: tuple[tuple[str, str], ...],
        credentials: ReceiverCredentials | None = None,  # noqa: ARG002 - the port's parameter
    ) -> str:
        return self._control.rename(renames)

    def renaming(self, renaming_id: str) -> RemoteState:
        return self._control.answer(renaming_id)

    def start_inventory(
        self,
        destination_id: str,  # noqa: ARG002 - the port's parameter
        directory: str,
        after: str = "",
        *,
        checksum: bool = False,  # noqa: ARG002 - there are no digests among the documented methods
        credentials: ReceiverCredentials | None = None,  # noqa: ARG002 - the port's parameter
    ) -> str:
        return self._control.list(directory, after)

    def inventory(self, inventory_id: str) -> InventoryState:
        return self._control.answer(inventory_id)


def widened(can: Capabilities) -> Capabilities:
    """What an engine can do with the help of a control server."""
    return replace(can, delete=True, rename=True, inventory=True, digests=False)


def through(engine: Engine, other: Engine) -> Engine:
    """`engine`, working at the destination through the server of `other`, which is a JetStream server."""
    control = getattr(other, "control", None)
    return cast("Engine", Controlled(engine, control)) if isinstance(control, Control) else engine
