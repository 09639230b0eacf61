"""The status page in a real browser, before an agent with ten mappings at work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from agents import World, world
from servers import eventually

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from status_page import MISSING, WebDriver, browser, complaints, scheme, ten_mappings, text, url

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(MISSING, reason="chromium or chromedriver is not installed here"),
]

HOSTILE = '<img src=x onerror="window.hit=1"> \u202egpj.exe'
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.fixture(scope="module")
def w(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("page")) as made:
        ten_mappings(made, scale=12, rate="16Mbit/s", offsite="8Mbit/s")
        made.start()
        eventually(lambda: len(made.status()["objects"]) >= 14, what="all objects were looked at")
        yield made


@pytest.fixture(scope="module")
def opened(w: World) -> Iterator[WebDriver]:
    with browser() as driver:
        yield driver


@pytest.fixture
def page(w: World, opened: WebDriver) -> Iterator[WebDriver]:
    """The page, fresh, without a token; at its end the browser had nothing to complain of."""
    opened.get(url(w))
    opened.execute_script("sessionStorage.clear()")
    opened.refresh()
    shows(opened, "#link", "live")
    yield opened
    refused = "401 (Unauthorized)"
    assert [line for line in complaints(opened) if refused not in line] == []


def shows(driver: WebDriver, selector: str, words: str, seconds: float = 30) -> None:
    eventually(
        lambda: words in text(driver, selector), seconds=seconds, what=f"{words!r} at {selector} of the page"
    )


def row(name: str) -> str:
    return f'tr[data-object="Mapping/{name}"]'


def opener(driver: WebDriver, name: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, f"{row(name)} .opener")


def press(driver: WebDriver, selector: str, label: str) -> None:
    """The button of this name there, scrolled to."""
    for button in driver.find_elements(By.CSS_SELECTOR, f"{selector} button"):
        if button.text == label:
            driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
            return
    raise AssertionError(f"there is no button {label!r} in {selector}: {text(driver, selector)!r}")


def give_token(driver: WebDriver, token: str) -> None:
    field = driver.find_element(By.ID, "token")
    eventually(field.is_displayed, what="the dialog for the token")
    field.send_keys(token, Keys.ENTER)


def test_the_page_says_what_is_in_sync_what_is_not_and_why(w: World, page: WebDriver) -> None:
    """The answer first; ten mappings, their transfers with progress, and the lanes of the destinations."""
    shows(page, "#answer-title", "Not in sync")
    shows(page, "#answer-why", "masters is missing")
    shows(page, "#mappings-count", "10")
    shows(page, row("old-projects"), "suspended in its spec")
    shows(page, row("masters"), "mount or create it")
    shows(page, "#mapping-rows > tr:first-child .name", "masters")  # what needs a person is on top
    shows(page, "#transfer-rows", "dailies → archive")
    eventually(
        lambda: page.execute_script(
            "return [...document.querySelectorAll('[role=progressbar]')].some(b => +b.ariaValueNow > 0)"
        ),
        what="progress",
    )
    archive = '[data-object="Destination/archive"]'
    shows(page, archive, "of 16.0 Mbit/s")
    eventually(
        lambda: page.execute_script("return document.querySelectorAll('.chart path[d^=M]').length >= 3"),
        what="lanes are drawn",
    )
    shows(page, '[data-object="Destination/offsite"]', "A window limits it to 8.00 Mbit/s")
    shows(page, "#event-rows", "TransferStarted")
    shows(page, "#revision", w.status()["revision"]["attempted"][:16])


def test_what_changes_is_shown_without_loading_anew(w: World, page: WebDriver) -> None:
    """A suspension from the command line is on the page soon, and leaves it when it ends."""
    page.execute_script("window.same = true")
    assert w.call("suspend", "Mapping/camera-logs", "--reason", "lens change").returncode == 0
    shows(page, row("camera-logs"), "lens change")
    assert page.find_element(By.CSS_SELECTOR, row("camera-logs")).get_attribute("data-state") == "suspended"
    assert w.call("resume", "Mapping/camera-logs").returncode == 0
    eventually(lambda: "lens change" not in text(page, row("camera-logs")), what="the suspension is gone")
    assert page.execute_script("return window.same") is True
    assert requests.get(url(w), timeout=60).status_code == 200


def test_nothing_comes_from_elsewhere_and_nothing_else_may_run(w: World, page: WebDriver) -> None:
    """All that was loaded is the agent's, and its policy forbids everything beside it."""
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded
    assert [name for name in loaded if not name.startswith(url(w))] == []
    answer = requests.get(url(w), timeout=60)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert '<script type="module" src=' in answer.text
    assert " style=" not in answer.text
    same = requests.get(url(w), headers={"If-None-Match": answer.headers["etag"]}, timeout=60)
    assert (same.status_code, same.content) == (304, b"")
    assert requests.get(f"{url(w)}page/..%2fapp.py", timeout=60).status_code == 404


def test_an_action_needs_the_token_which_stays_in_the_tab(w: World, page: WebDriver) -> None:
    """It is asked for once, a wrong one is told, and it is in no address and no lasting place."""
    opener(page, "dailies").click()
    press(page, f"{row('dailies')} + .detail", "Suspend…")
    page.find_element(By.ID, "suspend-reason").send_keys("the disk is swapped", Keys.ENTER)
    give_token(page, "wrong")
    shows(page, "#token-error", "does not know that token")
    token = (w.state / "token").read_text().strip()
    page.find_element(By.ID, "author").send_keys("Ada")
    give_token(page, token)
    shows(page, "#toasts", "Mapping/dailies is suspended")
    shows(page, row("dailies"), "suspended by Ada: the disk is swapped")
    local = w.object("Mapping", "dailies")["suspension"]["local"]
    assert (local["author"], local["reason"]) == ("Ada", "the disk is swapped")
    assert local["until"] == pytest.approx(local["since"] + 3600, abs=1)
    eventually(
        lambda: "Resume" in text(page, f"{row('dailies')} + .detail"), what="a button to resume it with"
    )
    press(page, f"{row('dailies')} + .detail", "Resume")
    eventually(lambda: w.object("Mapping", "dailies")["suspension"] is None, what="it goes on")
    assert not page.find_element(By.ID, "token-dialog").is_displayed(), "the token is asked for once"
    assert token not in json.dumps(
        page.execute_script(
            "return [location.href, {...localStorage}, document.cookie, document.documentElement.outerHTML,"
            " performance.getEntriesByType('resource').map(e => e.name)]"
        )
    )


def test_deletions_that_are_held_are_approved_on_the_page(w: World, page: WebDriver) -> None:
    """The dialog says how many; then they are deleted at the destination."""
    target = w.target("proxies")
    eventually(lambda: len(list(target.glob("*.txt"))) == 4, what="proxies is delivered")
    for number in range(3):
        (w.source / "proxies" / f"proxies-{number}.txt").unlink()
    eventually(
        lambda: page.find_element(By.CSS_SELECTOR, row("proxies")).get_attribute("data-state") == "stalled",
        what="the deletions are held",
    )
    opener(page, "proxies").click()
    press(page, f"{row('proxies')} + .detail", "Approve…")
    shows(page, "#approve-text", "3 files will be deleted")
    assert len(list(target.glob("*.txt"))) == 4
    press(page, "#approve-dialog", "Delete 3 files")
    give_token(page, (w.state / "token").read_text().strip())
    eventually(lambda: len(list(target.glob("*.txt"))) == 1, what="they are deleted")


def test_names_of_files_are_text_whatever_they_say(w: World, page: WebDriver) -> None:
    """Markup in a path is shown as it is, and what turns the direction of text is made visible."""
    specs = w.specs / "specs.yaml"
    before = specs.read_text()
    name = json.dumps(f"{w.source}/{HOSTILE}")
    hostile = f"""
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: hostile}}
spec: {{destinations: [offsite], destinationPath: /hostile, paths: {{/: {name}}}}}
"""
    try:
        specs.write_text(before + hostile)
        shows(page, row("hostile"), 'src=x onerror="window.hit=1"')
        shows(page, row("hostile"), "\\u202egpj.exe")
        opener(page, "hostile").click()
        shows(page, "#event-rows", "onerror")
        found = "return [window.hit ?? null, document.querySelectorAll('main img').length]"
        assert page.execute_script(found) == [None, 0]
    finally:
        specs.write_text(before)
    eventually(lambda: text(page, row("hostile")) == "", what="a mapping that went leaves the page")


def test_the_filter_narrows_everything(page: WebDriver) -> None:
    """By words of name, destination, label or message; and by state."""
    page.find_element(By.TAG_NAME, "body").send_keys("/")
    field = page.switch_to.active_element
    assert field.get_attribute("id") == "filter", "the slash goes to the filter"
    field.send_keys("team=lab")
    names = "return [...document.querySelectorAll('#mapping-rows .name')].map(e => e.textContent).sort()"
    assert page.execute_script(names) == ["camera-logs", "masters", "scans"]
    assert text(page, "#mappings-count") == "3 of 10"
    page.find_element(By.CSS_SELECTOR, "#states input[value=stalled]").send_keys(Keys.SPACE)
    assert page.execute_script(names) == ["masters"]
    field.clear()
    field.send_keys("nothing is called so")
    assert "No mapping fits the filter" in text(page, "#mappings-none")


def test_it_can_be_used_with_the_keyboard_alone(page: WebDriver) -> None:
    """Tab goes to the skip link first, what has the focus is seen, and a row opens with Enter."""
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.text == "Skip to the answer"
    row_button = opener(page, "scans")
    page.execute_script("arguments[0].focus()", row_button)
    row_button.send_keys(Keys.ENTER)
    assert row_button.get_attribute("aria-expanded") == "true"
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    shows(page, f"{row('scans')} + .detail", "specs.yaml:")
    press(page, f"{row('scans')} + .detail", "Suspend…")
    assert page.switch_to.active_element.get_attribute("id") == "suspend-reason"
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    eventually(lambda: not page.find_element(By.ID, "suspend-dialog").is_displayed(), what="it closed")
    assert page.switch_to.active_element.text == "Suspend…", "the focus goes back to where it was"


def test_a_screen_reader_finds_its_way(page: WebDriver) -> None:
    """Landmarks, one first heading, a live region with the answer, and no control without a name."""
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and "role" in node
    ]
    roles = [role for role, _ in nodes]
    assert {"banner", "main", "search", "complementary", "status", "table"} <= set(roles)
    controls = ("button", "searchbox", "radio", "progressbar", "table", "region", "link")
    assert [role for role, name in nodes if role in controls and not name] == []
    assert roles.count("columnheader") >= 9
    assert page.execute_script("return document.querySelectorAll('h1').length") == 1
    shows(page, "#said", "Not in sync")
    assert page.find_element(By.ID, "said").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_has_enough_contrast(page: WebDriver, dark: bool) -> None:
    """4.5 to 1 at least, in both schemes, with a row open."""
    opener(page, "masters").click()
    scheme(page, dark=dark)
    found = page.execute_script(CONTRAST)
    assert found["measured"] > 80
    assert found["poor"] == []
    scheme(page, dark=False)


@pytest.mark.parametrize("width", [360, 800, 1200, 1920])
def test_it_fits_every_width(page: WebDriver, width: int) -> None:
    """Nothing has to be scrolled sideways."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        wide = (
            "return [...document.querySelectorAll('main *')].filter(e => e.getClientRects().length &&"
            " !e.closest('.hidden') && e.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert page.execute_script(wide) == 0
    finally:
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "width": 1440, "height": 1000})


def test_a_name_that_is_not_ours_reads_nothing(w: World) -> None:
    """DNS rebinding: a browser that was led here by another name gets neither page nor status."""
    for path in ("", "api/v1/live", "api/v1/status", "metrics"):
        refused = requests.get(url(w) + path, headers={"Host": "evil.example"}, timeout=60)
        assert refused.status_code == 421, path
        assert "--http-name" in refused.json()["error"]
    assert requests.get(f"{url(w)}healthz", headers={"Host": "evil.example"}, timeout=60).status_code == 200
    token = (w.state / "token").read_text().strip()
    known = {"Host": "evil.example", "Authorization": f"Bearer {token}"}
    assert requests.get(f"{url(w)}api/v1/status", headers=known, timeout=60).status_code == 200


def test_an_agent_that_goes_away_is_told_and_its_return_too(tmp_path: Path) -> None:
    """What was known stays, and is told to be old; the agent that comes back is shown from the beginning."""
    with world(tmp_path) as w, browser() as driver:
        (w.source / "a").write_text("a")
        w.write(w.mapping())
        w.start()
        w.in_sync()
        address = url(w)
        driver.get(address)
        shows(driver, "#answer-title", "In sync")
        assert w.stop() == 0
        shows(driver, "#link", "does not answer")
        assert "dailies" in text(driver, row("dailies"))
        w.options = ("--listen", address.removeprefix("http://").rstrip("/"))
        w.write(w.mapping("nightlies"))
        w.start()
        shows(driver, "#link", "live")
        shows(driver, row("nightlies"), "nightlies")
        eventually(lambda: text(driver, row("dailies")) == "", what="what is no more has left the page")
