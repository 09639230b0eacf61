"""One look at a destination: what is there compared with the ledger, and what becomes of the differences.

What is on its way, was delivered since the page was asked for, or is gone from the source is no difference:
it changes by us. Differences are corrected by forgetting what the ledger says of them, so that the usual plan
sends them again; files of others are counted, and never touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.model.change import FileKind
from agent.model.known import Known, Origin
from agent.model.observed import FarFile
from agent.model.paths import destination_prefixes
from agent.model.spec import DriftPolicy, MappingSpec, Overwrite
from agent.planning.changes import difference as changed_since
from agent.planning.drift import Merge, Pair, Tally, What, difference, is_foreign, kept_by, rules_of
from agent.planning.receipts import is_receipt
from agent.reconcile.act import Scene
from agent.reconcile.listing import Listing, Page
from agent.reconcile.origins import Reader, look_up

TURN_SECONDS = 0.5
MAX_STALE = 3
"""So often a page is asked for again because something was delivered meanwhile; then each path is judged."""

BATCH = 500
FOREIGN_NAMED = 20
MAX_REMEMBERED = 1000
"""So many corrected paths are remembered; after more, every path counts as one of them."""


@dataclass(frozen=True, slots=True)
class _Suspect:
    what: What
    known: Known
    far: FarFile | None
    detail: str


@dataclass(slots=True)
class Look:
    """Of one delivery; goes on over many turns. `hold` says of a path whether it was corrected too often to
    be corrected now; `forget` is told what is to be sent again."""

    scene: Scene
    spec: MappingSpec
    overwrite: Overwrite
    checksum: bool
    hold: Callable[[str], bool]
    forget: Callable[[list[str]], None]
    only: frozenset[str] = frozenset()  # nothing but these paths is compared; empty = all
    confirmed: set[str] = field(default_factory=set)  # of `only`: the content is as it was delivered
    lost: int = 0  # of the differences: nothing can send these again, for their sources were released
    tally: Tally = field(default_factory=Tally)
    foreign: list[str] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)  # the first ones
    held: int = 0
    kept: str = ""  # why the overwrite mode leaves some differences as they are
    listing: Listing = field(init=False)
    _reader: Reader = field(init=False)
    _merge: Merge = field(default_factory=Merge)
    _contents: deque[tuple[Known, FarFile]] = field(default_factory=deque)
    _stale: int = 0

    def __post_init__(self) -> None:
        self.listing = Listing(destination_prefixes(self.spec), self.checksum)
        self._reader = Reader(self.scene.context.clock)

    def turn(self) -> bool:
        """True when it is over. Raises what asking the destination raises."""
        clock = self.scene.context.clock
        until = clock.monotonic() + TURN_SECONDS
        while self._compare_contents(until):
            if self.listing.done:
                return True
            page = self.listing.page(self.scene)
            if page is None:
                return False
            if self._is_stale(page):
                self.listing.again(page)
                continue
            self._stale = 0
            self._take(page)
            if clock.monotonic() >= until:
                return self.listing.done and not self._contents
        return False

    def close(self) -> None:
        self._reader.close()

    def _is_stale(self, page: Page) -> bool:
        """An attempt ended while the page was on its way."""
        newest = self.scene.context.state.attempts.history(self.spec.name, 1)
        moved = bool(newest) and newest[0].finished_at >= page.asked_at
        self._stale += 1
        return moved and self._stale <= MAX_STALE

    # -- one page

    def _take(self, page: Page) -> None:
        rows = self.scene.context.state.ordered.rows(
            self.spec.name, self.scene.destination.name, page.directory, page.after, page.until
        )
        self._judge(self._merge.page(rows, page.files), page)
        if page.until is None:
            self._judge(self._merge.end(), page)

    def _judge(self, pairs: Iterable[Pair], page: Page) -> None:
        rules = rules_of(self.spec, self.scene.destination)
        suspects: list[_Suspect] = []
        for known, far in pairs:
            if known is None:
                if far is not None and not self.only and is_foreign(Pair(None, far)):
                    self._note_foreign(far)
                continue
            if self.only and known.path not in self.only:
                continue
            if known.path == "/" or known.delivered_at >= page.asked_at:
                continue
            self.tally.checked += 1
            if far is None:
                suspects.append(_Suspect(What.MISSING, known, None, ""))
            elif detail := difference(known, far, rules):
                suspects.append(_Suspect(What.CHANGED, known, far, detail))
            elif self.checksum and far.kind is FileKind.FILE and known.origin is not Origin.KEPT:
                suspects += self._content(known, far)
            if len(suspects) >= BATCH:
                self._settle(suspects)
                suspects = []
        self._settle(suspects)

    def _note_foreign(self, far: FarFile | None) -> None:
        if far is not None and is_receipt(self.spec, far.path):
            return  # ours, though no source has it
        self.tally.foreign += 1
        if far is not None and len(self.foreign) < FOREIGN_NAMED:
            self.foreign.append(far.path)

    # -- contents

    def _content(self, known: Known, far: FarFile) -> list[_Suspect]:
        """Compared now when both digests are known, later when the source must be read for it."""
        if not far.digest:
            return [_Suspect(What.UNVERIFIED, known, far, "the destination gave no checksum")]
        if not known.digest:
            self._contents.append((known, far))
            return []
        if known.digest != far.digest:
            return [_Suspect(What.DAMAGED, known, far, "same size and time, other content")]
        self._confirm(known.path)
        return []

    def _confirm(self, path: str) -> None:
        self.tally.verified += 1
        if self.only:
            self.confirmed.add(path)

    def _compare_contents(self, until: float) -> bool:
        """Read sources whose digest is not known. False when the turn is over first."""
        learned: dict[str, str] = {}
        suspects: list[_Suspect] = []
        while self._contents:
            known, far = self._contents[0]
            digest = self._digest(known, until)
            if digest is None:
                break
            self._contents.popleft()
            if digest and digest == far.digest:
                learned[known.path] = digest
                self._confirm(known.path)
            elif digest:
                suspects.append(_Suspect(What.DAMAGED, known, far, "same size and time, other content"))
            else:
                why = "what was delivered has no known checksum, and the source has changed since"
                suspects.append(_Suspect(What.UNVERIFIED, known, far, why))
        context, names = self.scene.context, (self.spec.name, self.scene.destination.name)
        if learned:
            context.state.ledger.verified(*names, learned)
        self._settle(suspects)
        return not self._contents

    def _digest(self, known: Known, until: float) -> str | None:
        """Of the source, as long as it is in the version that was delivered."""
        source, found = look_up(self.scene.context, self.spec, [known.path]).get(known.path, ("", None))
        if found is None or found.stat is None or changed_since(found.stat, known.stat):
            return ""
        return self._reader.digest(source, found.stat, until)

    # -- what becomes of differences

    def _settle(self, suspects: list[_Suspect]) -> None:
        if not suspects:
            return
        context, names = self.scene.context, (self.spec.name, self.scene.destination.name)
        paths = [suspect.known.path for suspect in suspects]
        flying = context.state.attempts.in_flight(*names, paths)
        sources = look_up(context, self.spec, paths)
        released = context.state.released.among(*names, paths)
        again: list[str] = []
        gone: list[str] = []
        for suspect in suspects:
            path = suspect.known.path
            _, found = sources.get(path, ("", None))
            if path in flying:
                continue
            if path in released and (found is None or found.stat is None):  # it was all there is
                detail = ", ".join(part for part in (suspect.detail, "the source was released") if part)
                self.tally.add(suspect.what, path, detail)
                self.lost += suspect.what is not What.UNVERIFIED
                continue
            if found is None or found.absent:
                if suspect.far is None:  # nobody wants it there any more
                    gone.append(path)
                continue
            corrected = suspect.what is not What.UNVERIFIED and self._corrects(suspect)
            self.tally.add(suspect.what, path, suspect.detail, corrected=corrected)
            again += [path] if corrected else []
        context.state.ledger.forget(*names, gone + again)
        self.corrected += again[: MAX_REMEMBERED + 1 - len(self.corrected)]
        if again:
            self.forget(again)

    def _corrects(self, suspect: _Suspect) -> bool:
        if self.spec.drift.policy is not DriftPolicy.CORRECT:
            return False
        rules = rules_of(self.spec, self.scene.destination)
        if why := kept_by(self.overwrite, suspect.known, suspect.far, rules):
            self.kept = why
            return False
        if self.hold(suspect.known.path):
            self.held += 1
            return False
        return True
