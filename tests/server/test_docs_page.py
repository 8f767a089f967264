"""The API page in a real browser: it renders the document by itself, with nothing from elsewhere."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_server import Server, server

CHROMIUM = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium at {CHROMIUM}, or CHROMIUM_PATH"),
]


@pytest.fixture(scope="module")
def made() -> Iterator[Server]:
    with server("--token", "a-token", "--drain-s", "0") as running:
        yield running


@pytest.fixture(scope="module")
def page(made: Server) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page once it is rendered, what the browser complained of, and what it asked for."""
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        complaints: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{made.address}/docs")
        tab.wait_for_selector("body[data-shown]", timeout=30_000)
        yield tab, complaints, asked
        browser.close()


def test_every_route_and_schema_is_there_and_nothing_comes_from_elsewhere(made: Server, page: Any) -> None:
    tab, complaints, asked = page
    api = json.loads(urllib.request.urlopen(f"{made.address}/openapi.json", timeout=10).read())
    wanted = {
        f"route-{operation['operationId']}"
        for path, methods in api["paths"].items()
        if not path.startswith("/live/")
        for operation in methods.values()
    }
    wanted |= {f"schema-{name}" for name in api["components"]["schemas"]}
    there = set(tab.evaluate("[...document.querySelectorAll('details')].map(one => one.id)"))
    assert there == wanted
    assert complaints == []  # the Content-Security-Policy's among them
    assert all(url.startswith(made.address) for url in asked), asked


def test_links_lead_to_what_they_name_and_open_it(page: Any) -> None:
    tab = page[0]
    broken = (
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert tab.evaluate(broken) == []
    tab.click("nav a:has-text('POST /api/v1/sessions/{id}/control')")
    opened = tab.locator("details[open] pre").first
    opened.wait_for(timeout=10_000)
    assert '"patches"' in opened.text_content()


def test_find_leaves_what_fits(page: Any) -> None:
    tab = page[0]
    tab.fill("#find", "control")
    shown = tab.evaluate("[...document.querySelectorAll('details')].filter(one => !one.hidden).length")
    assert 0 < shown < 10
    tab.fill("#find", "")
