"""The status page of a thousand mappings: everything is there, and a second costs what changed in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import eventually

pytest.importorskip("selenium")
from status_page import MISSING, WebDriver, browser, complaints, text

from agent.api.serve import Face
from agent.reconcile.measures import LaneBytes

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(MISSING, reason="chromium or chromedriver is not installed here"),
]

MAPPINGS, DESTINATIONS, MOVING = 1000, 20, 50
LANES = (("High", 0.7), ("Normal", 0.25), ("Low", 0.05), ("Idle", 0.0))
COUNT_CHANGES = """
window.changes = 0; window.rows = new Set();
new MutationObserver((found) => {
  window.changes += found.length;
  for (const each of found) {
    const row = (each.target.closest ? each.target : each.target.parentElement)?.closest("tr[data-object]");
    if (row) window.rows.add(row.dataset.object);
  }
}).observe(
  document.querySelector("#mapping-rows"),
  {subtree: true, childList: true, characterData: true, attributes: true},
);
"""


class Generated:
    """An agent's answers: a thousand mappings of which fifty move, all the time."""

    ready = True

    def __init__(self) -> None:
        self.began = time.time()

    def status(self) -> dict[str, Any]:
        now = time.time()
        objects = [self._destination(n) for n in range(DESTINATIONS)]
        objects += [self._mapping(n, now) for n in range(MAPPINGS)]
        return {
            "inSync": False,
            "state": "converging",
            "message": f"Mapping/project-0001: files are on their way (and {MOVING - 1} more)",
            "revision": {"attempted": "digest:1", "applied": "digest:1", "held": ""},
            "source": {"type": "files", "paths": ["/etc/lanesync"], "conditions": []},
            "agent": {"version": "0", "startedAt": self.began, "stateDir": "/var/lib/lanesync"},
            "time": now,
            "objects": objects,
            "invalid": {},
            "lastDelivered": [],
        }

    def _destination(self, number: int) -> dict[str, Any]:
        return {
            **self._object("Destination", f"site-{number:02d}", ready=True, message="reached"),
            "server": "sender",
            "address": f"site-{number:02d}.example.org",
            "port": 8886,
            "connected": True,
            "sendRateMaxKbps": 800_000.0,
        }

    def _mapping(self, number: int, now: float) -> dict[str, Any]:
        moving = number % (MAPPINGS // MOVING) == 1
        done = int((now - self.began) * 1e6) % 10**9
        transfer = {"id": str(number), "state": "sending", "lane": LANES[number % 3][0], "priority": 100}
        transfer |= {"doneBytes": done, "totalBytes": 10**9, "doneFiles": 1, "totalFiles": 10}
        text = f"9 files on their way, {done / 1e9:.2%}" if moving else f"{number} files there"
        delivery = {
            "destination": f"site-{number % DESTINATIONS:02d}",
            "files": number,
            "bytes": number * 10**6,
            "filesInFlight": 10 if moving else 0,
            "oldestPending": self.began if moving else None,
            "transfers": [transfer] if moving else [],
        }
        names = ("deletionsInFlight", "settling", "awaitingSentinel", "heldDeletions", "failuresInARow")
        delivery |= dict.fromkeys(names, 0) | {"lastError": ""}
        name = f"project-{number:04d}"
        return {**self._object("Mapping", name, ready=not moving, message=text), "deliveries": [delivery]}

    def _object(self, kind: str, name: str, *, ready: bool, message: str) -> dict[str, Any]:
        reason = "InSync" if ready else "Transferring"
        said = {"reason": reason, "message": message, "since": self.began}
        return {
            "kind": kind,
            "name": name,
            "ready": ready,
            "conditions": [{"type": "Ready", "status": ready, **said}],
            "lastSuccess": self.began,
            "labels": {"team": "a"},
            "from": "specs.yaml:1",
            "suspension": None,
        }

    def measure(self) -> Any:
        raise NotImplementedError

    def events(self, *_arguments: Any, **_named: Any) -> dict[str, Any]:
        return {"events": [], "next": 0}

    def lanes(self, most: int) -> list[LaneBytes]:
        sent = int((time.time() - self.began) * 1e7)
        return [
            LaneBytes(f"site-{number:02d}", lane, share, int(sent * share))
            for number in range(DESTINATIONS)
            for lane, share in LANES
        ]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[WebDriver]:
    face = Face(Generated(), str(tmp_path), ("127.0.0.1", 0))  # type: ignore[arg-type]
    assert face.address is not None
    try:
        with browser() as driver:
            driver.get("http://{}:{}/".format(*face.address))
            eventually(lambda: text(driver, "#mappings-count") == str(MAPPINGS), what="all mappings")
            yield driver
            assert complaints(driver) == []
    finally:
        face.stop()


def test_a_second_touches_only_the_rows_that_changed(page: WebDriver) -> None:
    """Of a thousand rows those of the fifty mappings that move; the others are not even laid out."""
    assert text(page, "#transfers-count") == str(MOVING)
    page.execute_script(COUNT_CHANGES)
    eventually(lambda: page.execute_script("return window.rows.size") >= MOVING, what="an update")
    touched = set(page.execute_script("return [...window.rows]"))
    moving = {f"Mapping/project-{number:04d}" for number in range(1, MAPPINGS, MAPPINGS // MOVING)}
    assert touched == moving
    hidden = "return getComputedStyle(document.querySelector('#mapping-rows > tr')).contentVisibility"
    assert page.execute_script(hidden) == "auto", "a row out of sight is not laid out"


def test_every_mapping_is_found_by_the_filter(page: WebDriver) -> None:
    """The last of them, too."""
    field = page.find_element("id", "filter")
    field.send_keys("project-0999")
    assert text(page, "#mappings-count") == f"1 of {MAPPINGS}"
    assert "999 files there" in text(page, "#mapping-rows")
