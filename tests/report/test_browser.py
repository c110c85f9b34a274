"""The report in a real Chromium, opened from disk: no request, no script of a text, filters, search, tips, rows.

Needs a Chromium and its driver, as Debian's packages chromium and chromium-driver have them.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, requests_of
from report_world import FIELDS, HOSTILE, write_run

from s3local.report.html import write_report
from s3local.report.page import visible

selenium = pytest.importorskip("selenium", reason="needs the package selenium")

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

pytestmark = pytest.mark.flaky(reruns=2)  # a browser on a loaded machine may be slow

MANY_ROWS = 3000
Browser = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium that cannot resolve any name, and notes every request."""
    with chromium(1200, 900, "--host-resolver-rules=MAP * ~NOTFOUND") as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    write_run(folder, texts=HOSTILE, rows=MANY_ROWS, labels=("<b>bold", "fault", "praise"))
    return write_report(folder)


@pytest.fixture
def shown(browser: Browser, report: Path) -> Browser:
    """The browser with the report open and its rows unpacked."""
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(report.as_uri())
    wait_for(lambda: count(browser) is not None)
    return browser


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the page did not get there"
        time.sleep(0.05)


def count(browser: Browser) -> int | None:
    """The number of rows that the filters leave."""
    said = browser.find_element(By.ID, "count").text.split(" of ")[0].replace(",", "")
    return int(said) if said else None


def rows(browser: Browser) -> list[str]:
    """The texts of the rows in the page, top to bottom."""
    found = browser.execute_script("return [...document.querySelectorAll('#list .row')].map(row => row.innerText)")
    return list(found)  # read at once: the list may be drawn again at any moment


def test_it_asks_for_nothing_and_no_text_acts(shown: Browser, report: Path) -> None:
    shown.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    for item in shown.find_elements(By.TAG_NAME, "details"):
        shown.execute_script("arguments[0].open = true", item)
    asked = requests_of(shown)
    assert [url for url in asked if url != report.as_uri() and not url.startswith("data:")] == []
    assert shown.execute_script("return window.attacked") is None
    assert [entry for entry in shown.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert shown.execute_script("return document.scripts.length") == 2


def test_the_policy_stops_a_script_that_gets_in(shown: Browser) -> None:
    """Even if escaping failed, neither an inline script, nor a handler, nor a request would get through."""
    shown.execute_script(
        "const made = document.createElement('div');"
        'made.innerHTML = \'<img src="https://example.org/x.png" onerror="window.attacked = 1">\';'
        "document.body.append(made);"
        "const script = document.createElement('script'); script.textContent = 'window.attacked = 2';"
        "document.body.append(script);"
    )
    time.sleep(0.3)
    assert shown.execute_script("return window.attacked") is None
    assert any("Content Security Policy" in entry["message"] for entry in shown.get_log("browser"))


def test_only_rows_in_view_are_in_the_page(shown: Browser) -> None:
    assert count(shown) == MANY_ROWS + 12 + 27
    assert len(rows(shown)) < 40
    listed = shown.find_element(By.ID, "list")
    shown.execute_script("arguments[0].scrollTop = arguments[0].scrollHeight", listed)
    wait_for(lambda: any("dropped" in text for text in rows(shown)))
    assert len(rows(shown)) < 40
    last = shown.find_elements(By.CSS_SELECTOR, "#list .row")[-1]
    assert last.get_attribute("aria-posinset") == last.get_attribute("aria-setsize") == str(count(shown))


def test_search_and_filters(shown: Browser) -> None:
    field = shown.find_element(By.NAME, "query")
    field.send_keys("<SCRIPT>window")
    wait_for(lambda: count(shown) != MANY_ROWS + 39)
    assert rows(shown) and all("<script>window.attacked" in text for text in rows(shown))
    found = count(shown)
    Select(shown.find_element(By.NAME, "show")).select_by_visible_text("dropped texts")
    wait_for(lambda: count(shown) != found)
    assert all(text.startswith("dropped") for text in rows(shown))
    shown.execute_script("document.querySelector('#filters button').click()")
    wait_for(lambda: count(shown) == MANY_ROWS + 39)
    Select(shown.find_element(By.NAME, "label")).select_by_visible_text("<b>bold")
    wait_for(lambda: count(shown) != MANY_ROWS + 39)
    assert all("<b>bold" in text for text in rows(shown))
    Select(shown.find_element(By.NAME, "show")).select_by_visible_text("your rows predicted wrongly")
    wait_for(lambda: count(shown) is not None and count(shown) < 12)
    assert all("predicted" in text for text in rows(shown))


def test_the_least_probable_label_comes_first(shown: Browser) -> None:
    Select(shown.find_element(By.NAME, "show")).select_by_visible_text("synthetic rows")
    Select(shown.find_element(By.NAME, "order")).select_by_visible_text("least probable label first")
    wait_for(lambda: count(shown) == MANY_ROWS)

    def shares() -> list[int]:
        return [int(re.findall(r"(\d+)\s%", text)[0]) for text in rows(shown)]

    wait_for(lambda: shares() == sorted(shares()) and shares()[0] < 50)


def test_a_row_opens_with_its_neighbour(shown: Browser) -> None:
    shown.find_element(By.NAME, "query").send_keys("turned [U+202E]")
    wait_for(lambda: count(shown) != MANY_ROWS + 39)
    button = shown.find_element(By.CSS_SELECTOR, "#list .row button")
    button.send_keys(Keys.ENTER)
    dialog = shown.find_element(By.ID, "detail")
    wait_for(dialog.is_displayed)
    assert visible(HOSTILE[7]) in dialog.text and "Nearest row of the other side" in dialog.text
    ActionChains(shown).send_keys(Keys.ESCAPE).perform()
    wait_for(lambda: not dialog.is_displayed())


@pytest.mark.parametrize("kind", ["pair", "extractive_qa"])
def test_a_row_shows_all_its_texts_and_cuts_none_off(browser: Browser, tmp_path: Path, kind: str) -> None:
    write_run(tmp_path, kind=kind, rows=9)
    browser.get(write_report(tmp_path).as_uri())
    wait_for(lambda: count(browser) is not None)
    for width in (1200, 390):
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wait_for(lambda: rows(browser))
        for name in (*FIELDS[kind], *(["answer"] if kind == "extractive_qa" else [])):
            assert re.search(rf"^{name} ?\S", rows(browser)[0], re.MULTILINE)
        too_high = (
            "return [...document.querySelectorAll('#list .row')].filter(it => it.scrollHeight > it.clientHeight).length"
        )
        assert browser.execute_script(too_high) == 0
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_point_of_the_map_shows_its_text(shown: Browser) -> None:
    point = shown.find_elements(By.CSS_SELECTOR, "#gap svg .dot.gold")[0]
    text = shown.execute_script("return arguments[0].querySelector('title').textContent", point)
    shown.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", point)
    ActionChains(shown).move_to_element(point).perform()
    tip = shown.find_element(By.ID, "tip")
    wait_for(tip.is_displayed)
    told = shown.execute_script("return arguments[0].textContent", tip)
    assert told.startswith(("your row · ", "synthetic", "seed")) and (told == text or "\n" in told)


def test_everything_has_a_name_and_nothing_runs_off_a_phone(shown: Browser) -> None:
    """What an accessibility check asks first: one title, headings in order, names of controls and charts, and a page
    that is not wider than a phone."""
    nameless = shown.execute_script(
        "return [...document.querySelectorAll('input, select, button, svg[role], [role=region], nav, dialog, section')]"
        ".filter(it => !it.getAttribute('aria-label') && !it.getAttribute('aria-labelledby') && !it.closest('label')"
        " && !it.textContent.trim()).map(it => it.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    broken = shown.execute_script(
        "return [...document.querySelectorAll('[aria-labelledby]')]"
        ".filter(it => !document.getElementById(it.getAttribute('aria-labelledby'))).length"
    )
    assert broken == 0
    assert shown.execute_script("return document.querySelectorAll('h1').length") == 1
    assert shown.execute_script("return document.querySelectorAll('main').length") == 1
    levels = shown.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(it => +it.tagName[1])")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert shown.execute_script("return document.documentElement.scrollWidth") <= 390
    shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_javascript_it_reads(browser: Browser, report: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(report.as_uri())
        text = browser.find_element(By.TAG_NAME, "main").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    for part in ("In short", "What to do next", "Confusion matrix", "Without JavaScript", HOSTILE[1]):
        assert part in text
    assert "Search" not in text
