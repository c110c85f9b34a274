"""Debian's Chromium without a window, for tests of pages; and what it asked the network for."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest


@contextlib.contextmanager
def chromium(width: int = 1280, height: int = 900, *arguments: str) -> Iterator[Any]:
    """A selenium driver, with further ``arguments`` of Chromium; the test is skipped where there is no browser."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the extra dev")
    program, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *arguments):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield page
    finally:
        page.quit()


def requests_of(page: Any) -> list[str]:
    """The addresses that the page asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def origins_of(page: Any) -> set[str]:
    """The origins that the page asked for something since the last call."""
    return {"{0.scheme}://{0.netloc}".format(urlsplit(address)) for address in requests_of(page)}
