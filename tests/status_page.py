"""What tests of the status page share: a browser, and an agent with ten mappings in various states.

`python tests/status_page.py PICTURE` makes the picture of the README.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from agents import World, world
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from servers import eventually

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = CHROMIUM is None or DRIVER is None
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage"
    " --disable-background-networking --disable-component-update --disable-sync --no-proxy-server"
    " --disable-domain-reliability --disable-breakpad --disable-client-side-phishing-detection"
    " --disable-features=OptimizationHints,Translate,MediaRouter,AutofillServerCommunication"
)

DESTINATIONS = """
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: offsite}}
spec:
  server: sender
  address: 127.0.0.1
  port: {port}
  sendRateMax: {offsite}
  windows: [{{from: "00:00", to: "00:00", sendRateMax: {window}}}]
"""

MAPPING = """
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: "{name}", labels: {{team: {team}}}}}
spec:
  destinations: [{destination}]
  destinationPath: /{path}
  paths: {{/: {source}}}
  lane: {lane}
  trigger: {{interval: 60s, settle: 100ms}}
  retry: {{interval: 500ms, maxInterval: 2s}}
  prune: true
  {more}
"""

MAPPINGS = (  # name, team, destination, lane, megabytes, more
    ("dailies", "editorial", "archive", "High", 4, ""),
    ("stills", "editorial", "archive", "Normal", 2, ""),
    ("sound", "audio", "archive", "Normal", 2, ""),
    ("reports", "production", "archive", "Low", 1, ""),
    ("scans", "lab", "archive", "Low", 2, ""),
    ("camera-logs", "lab", "offsite", "High", 0, ""),
    ("edits", "editorial", "offsite", "Normal", 2, ""),
    ("masters", "lab", "offsite", "Normal", 1, ""),
    ("old-projects", "production", "offsite", "Idle", 0, "suspend: true"),
    ("proxies", "editorial", "offsite", "Low", 0, "deletions: {maxCount: 1}"),
)


def ten_mappings(w: World, scale: int, rate: str = "40Mbit/s", offsite: str = "20Mbit/s") -> None:
    """Sources of `scale` times so many megabytes, and a few small files each; the specs. One mapping has a
    source that is missing, one is suspended in its spec."""
    texts = []
    for name, team, destination, lane, megabytes, more in MAPPINGS:
        source = w.source / name
        source.mkdir()
        for number in range(4):
            (source / f"{name}-{number}.txt").write_text(name * 10)
        block = os.urandom(1 << 20)
        for number in range(megabytes):
            with open(source / f"reel-{number}.mov", "wb") as file:
                for _ in range(scale):
                    file.write(block)
        texts.append(
            MAPPING.format(
                name=name,
                team=team,
                destination=destination,
                lane=lane,
                path=name,
                source=source,
                more=more,
            )
        )
    (w.source / "masters").rename(w.source / "masters-not-mounted")
    more = DESTINATIONS.format(port=w.port, offsite=offsite, window=offsite)
    w.write(more, *texts, destination=f", sendRateMax: {rate}")


def url(w: World) -> str:
    assert w.agent is not None
    return _url(w, w.agent.pid)


@functools.lru_cache
def _url(w: World, _pid: int) -> str:
    return f"http://{w.status()['agent']['http']}/"


@contextlib.contextmanager
def browser(*, dark: bool = False, width: int = 1440, height: int = 1000) -> Iterator[WebDriver]:
    """A headless browser with a profile of its own."""
    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = CHROMIUM or ""
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            scheme(driver, dark=dark)
            yield driver
        finally:
            driver.quit()


def scheme(driver: WebDriver, *, dark: bool) -> None:
    value = "dark" if dark else "light"
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": value}]}
    )


def text(driver: WebDriver, selector: str) -> str:
    """What a person reads there; empty when it is not there."""
    found = driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
    return str(found)


def complaints(driver: WebDriver) -> list[str]:
    """What the browser wrote to its console: errors of scripts, refusals of the page's policy."""
    return [str(entry["message"]) for entry in driver.get_log("browser") if entry["level"] != "INFO"]


def costs(driver: WebDriver, seconds: float) -> dict[str, float]:
    """Milliseconds a second of the page's main thread."""
    driver.execute_cdp_cmd("Performance.enable", {})

    def read() -> dict[str, float]:
        found = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {m["name"]: m["value"] for m in found if m["name"].endswith("Duration")}

    before, begun = read(), time.monotonic()
    time.sleep(seconds)
    after, elapsed = read(), time.monotonic() - begun
    return {name: (after[name] - before[name]) * 1000 / elapsed for name in after}


def picture(path: Path, seconds: float) -> None:
    """The page after `seconds` of traffic, in light."""
    with tempfile.TemporaryDirectory(prefix="lanesync-") as directory, world(Path(directory)) as w:
        ten_mappings(w, scale=round(seconds * 0.6), rate="24Mbit/s", offsite="12Mbit/s")
        w.start()
        eventually(lambda: requests.get(url(w), timeout=60).ok, what="the page")
        with browser(width=1400, height=1120) as driver:
            driver.get(url(w))
            end = time.monotonic() + seconds
            eventually(lambda: time.monotonic() > end, seconds=seconds + 10, what="some traffic")
            driver.save_screenshot(str(path))


if __name__ == "__main__":
    picture(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 300.0)
