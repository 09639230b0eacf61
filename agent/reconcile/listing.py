"""What is at a destination, asked for page by page. A turn never waits for an answer: it comes back."""

from __future__ import annotations

import os
from dataclasses import dataclass

from agent.model.observed import FarFile
from agent.model.outcome import NotFoundError, PermanentError, RetryableError
from agent.reconcile.act import Scene, receiver_credentials

FIRST_WAIT, LONGEST_WAIT, GROWTH = 0.02, 2.0, 1.5


@dataclass(frozen=True, slots=True)
class Page:
    """Everything at or below `directory` that sorts behind `after`, up to and with `until` (None: to the
    end)."""

    number: int  # of the directory
    directory: str
    after: str
    until: str | None
    files: tuple[FarFile, ...]
    asked_at: float  # Unix seconds: what happened since may not be in it


@dataclass(slots=True)
class Listing:
    """One listing of several directories, one after the other."""

    directories: tuple[str, ...]
    checksum: bool = False
    seen: int = 0
    _number: int = 0
    _after: str = ""
    _asked: str = ""
    _asked_at: float = 0.0
    _polls: int = 0

    @property
    def done(self) -> bool:
        return self._number >= len(self.directories)

    @property
    def wait(self) -> float:
        """Seconds after which it is worth looking for the answer."""
        return float(min(LONGEST_WAIT, FIRST_WAIT * GROWTH ** min(self._polls, 20)))

    def page(self, scene: Scene) -> Page | None:
        """The next page; None while it is on its way. RetryableError when the destination cannot tell,
        PermanentError when it will not."""
        directory = self.directories[self._number]
        if not self._asked:
            self._asked_at, self._polls = scene.context.clock.time(), 0
            self._asked = scene.engine.start_inventory(
                scene.destination_id(),
                directory,
                self._after,
                checksum=self.checksum,
                credentials=receiver_credentials(scene),
            )
        try:
            answer = scene.engine.inventory(self._asked)
        except NotFoundError:  # the server was restarted and forgot that it was asked
            self._asked = ""
            return None
        if not answer.done:
            self._polls += 1
            return None
        self._asked = ""
        if answer.error:
            raise RetryableError(f"{scene.destination.name} cannot tell what is there: {answer.error}")
        if answer.next is not None and os.fsencode(answer.next) <= os.fsencode(self._after):
            raise PermanentError(f"{scene.destination.name} tells the same names again and again")
        page = Page(self._number, directory, self._after, answer.next, answer.files, self._asked_at)
        self.seen += len(answer.files)
        self._number, self._after = (
            (self._number + 1, "") if answer.next is None else (self._number, answer.next)
        )
        return page

    def again(self, page: Page) -> None:
        """Ask for this page once more: things moved while it was on its way."""
        self._number, self._after = page.number, page.after
        self.seen -= len(page.files)
