"""The page in a real browser with the fake camera, on the real program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_harness import CHROMIUM, FLAGS, Browser, Program, serving

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
playwright.expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them need the browser, and take their time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium at {CHROMIUM}"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server for the tests of a file."""
    with serving(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture
def start_browser(tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    """Starts browsers; with `is_checked` as they are for people, without the hole in the page's CSP that tests need."""
    with playwright.sync_playwright() as started:
        browsers: list[Browser] = []

        def start(*, is_checked: bool = False) -> Browser:
            context = started.chromium.launch_persistent_context(
                str(tmp_path / f"profile{len(browsers)}"),
                executable_path=CHROMIUM,
                headless=True,
                args=FLAGS,
                bypass_csp=not is_checked,
                accept_downloads=True,
            )
            browsers.append(Browser(context))
            return browsers[-1]

        try:
            yield start
        finally:
            for browser in browsers:
                for number, page in enumerate(browser.context.pages):
                    page.screenshot(path=str(tmp_path / f"page{number}.png"))
                browser.context.close()
        assert not [error for browser in browsers for error in browser.errors]


@pytest.fixture
def page(program: Program, start_browser: Callable[..., Browser]) -> Any:
    """The page, connected and running the workflow `level`."""
    return start_browser().connected(program.address)
