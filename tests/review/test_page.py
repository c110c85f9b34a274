"""The page in a real browser: rows are reviewed by keyboard, and nothing of a row is executed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, origins_of
from review_world import AWKWARD, serving, synthetic, write_run

pytestmark = pytest.mark.flaky(reruns=2)  # a browser on a loaded machine may be slow

WAIT_SECONDS = 60


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


def until(page: Any, condition: str) -> Any:
    """Wait for JavaScript to be true; what it is."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, WAIT_SECONDS, 0.05).until(lambda it: it.execute_script(f"return {condition}"))


def visit(page: Any, address: str) -> None:
    page.get(address)
    until(page, "document.body.dataset.ready")


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    for key in keys:
        ActionChains(page).send_keys(key).perform()


def decided(page: Any, count: int) -> None:
    """Wait until the page counts so many decisions."""
    until(page, f"counts && session.rows - counts.states.open === {count}")


def shown(page: Any) -> str:
    return str(page.execute_script("return document.querySelector('#texts').innerText"))


def test_twenty_rows_by_keyboard_survive_a_killed_server(page: Any, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", synthetic(30))
    with serving("review", str(folder)) as server:
        visit(page, server.address)
        origins_of(page)
        press(page, *"kd12kkdd1212kkdk1d21")
        decided(page, 20)
        press(page, "u")
        decided(page, 19)
        press(page, "k")
        decided(page, 20)
        counts = page.execute_script("return counts.states")
        assert origins_of(page) == {server.address.rsplit("/", 2)[0]}
        server.kill()
    lines = [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]
    assert [line["decision"] for line in lines].count("undo") == 1 and len(lines) == 22
    with serving("review", str(folder)) as server:
        visit(page, server.address)
        assert page.execute_script("return counts.states") == counts
        assert page.execute_script("return order.length") == 10


def test_an_edit_a_search_and_another_window(page: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    folder = write_run(tmp_path / "run", synthetic(12))
    with serving("review", str(folder)) as server:
        visit(page, server.address)
        first = page.execute_script("return current().place")
        press(page, "e")
        until(page, "editing && document.activeElement.id === 'draft'")
        press(page, " <b>and more</b>")
        page.switch_to.active_element.send_keys(Keys.CONTROL, Keys.ENTER)
        decided(page, 1)
        assert server.call(f"api/rows?places={first}")[1]["rows"][0]["fields"]["text"].endswith(" <b>and more</b>")
        place, seen = page.execute_script("return [current().place, current().seen]")
        server.call("api/decide", {"place": place, "seen": seen, "action": "drop"})
        press(page, "k")
        until(page, "document.querySelector('#toast').textContent.includes('Another window')")
        assert server.call(f"api/rows?places={place}")[1]["rows"][0]["state"] == "drop"
        press(page, "/")
        press(page, "message 1 ")
        until(page, "order.length === 1")
        assert shown(page) == "message 1 about a parcel"


def test_whatever_a_row_holds_is_shown_as_text(page: Any, tmp_path: Path) -> None:
    rows = [{**row, "text": text} for row, text in zip(synthetic(len(AWKWARD)), AWKWARD.values(), strict=True)]
    with serving("review", str(write_run(tmp_path / "run", rows))) as server:
        visit(page, server.address)
        origins_of(page)
        page.find_element("id", "sort").send_keys("as in")
        until(page, "order[0] === 0")
        page.execute_script("document.activeElement.blur()")
        seen = []
        for number in range(len(rows)):
            until(page, f"position === {number} && current() && current().place === {number}")
            seen.append(shown(page))
            press(page, "\ue014")  # the right arrow
        assert seen[0] == AWKWARD["script"]
        assert seen[1] == "a bell␇ and an escape␛[31m here"
        assert seen[2] == AWKWARD["right to left"].replace("\u202e", "RLO")
        assert seen[3].split() == AWKWARD["long"].split()
        assert page.title == "Review parcels"
        assert not page.execute_script("return document.querySelectorAll('#card script, #card img').length")
        assert origins_of(page) <= {server.address.rsplit("/", 2)[0]}
        assert not [entry for entry in page.get_log("browser") if "Content Security" in entry["message"]]


def test_every_control_has_a_name_and_texts_can_be_told_from_the_ground(page: Any, tmp_path: Path) -> None:
    with serving("review", str(write_run(tmp_path / "run", synthetic(4)))) as server:
        visit(page, server.address)
        nameless = page.execute_script(_NAMELESS)
        assert nameless == []
        for scheme in ("light", "dark"):
            wanted = {
                "prefers-color-scheme": scheme,
                "prefers-reduced-motion": "reduce",
            }  # a transition has no contrast
            features = [{"name": name, "value": value} for name, value in wanted.items()]
            page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            assert page.execute_script(_LOW_CONTRAST) == [], scheme


_NAMELESS = """
return [...document.querySelectorAll('button, input, select, textarea')].filter((it) => it.checkVisibility()
  && !(it.innerText || it.getAttribute('aria-label') || (it.labels && it.labels.length))).map((it) => it.outerHTML);
"""

_LOW_CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = (rgb) => { const [r, g, b] = rgb.map(linear);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (it) => { for (; it; it = it.parentElement) { const c = parse(getComputedStyle(it).backgroundColor);
  if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
return [...document.querySelectorAll('body *')].filter((it) => it.checkVisibility() && !it.closest('option, select')
  && [...it.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
  .filter((it) => { const a = light(parse(getComputedStyle(it).color).slice(0, 3)), b = light(ground(it));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5; }).map((it) => it.outerHTML.slice(0, 200));
"""
