"""The connectivity page in a real browser, under its own content security policy, on the real program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium at {CHROMIUM}, or CHROMIUM_PATH"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
STEPS = ("http", "candidates", "connection", "channel", "websocket", "media")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, with its token, of a server that names a TURN server which is not there."""
    folder = tmp_path_factory.mktemp("server")
    main = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    turn = '[{"urls": ["turn:127.0.0.1:9?transport=udp"], "username": "me", "credential": "secret"}]'
    environ = {**os.environ, "COMFYSTREAM_ICE_LOOPBACK": "true", "COMFYSTREAM_ICE_SERVERS": turn}
    command = [sys.executable, "-P", "-c", main, "serve", "--port", "0", "--token", "boss"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environ)
        assert process.stdout is not None
        yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        process.terminate()
        process.wait(30)


def results(address: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """The page's last word, and what each step found."""
    errors: list[str] = []
    base, _, fragment = address.partition("#")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(folder / "profile"), executable_path=CHROMIUM, headless=True, args=FLAGS
        )
        try:
            page = context.pages[0]
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda said: "Content Security Policy" in said.text and errors.append(said.text))
            page.goto(f"{base}connectivity#{fragment}")
            page.locator("#state", has_text=re.compile("work")).wait_for(timeout=60_000)
            page.screenshot(path=str(folder / "page.png"))
            found = page.evaluate("window.connectivity.steps")
            shown = page.locator("li").count()
            state = page.locator("#state").inner_text()
        finally:
            context.close()
    assert not errors
    assert shown == len(found)
    return state, found


@pytest.mark.long
def test_each_step_has_a_verdict(address: str, tmp_path: Path) -> None:
    state, steps = results(address, tmp_path)
    assert tuple(steps) == STEPS, steps
    assert {name for name, step in steps.items() if step["verdict"] == "bad"} == set(), steps
    assert state == "works, with a note"
    assert steps["candidates"]["verdict"] == "note"
    assert "TURN server is configured and gave no address" in steps["candidates"]["help"]
    assert re.search(r"own addresses \(host\): \d.*\(srflx\): none.*\(relay\): none", steps["candidates"]["words"])
    assert re.search(r"connected in \d+ ms by udp", steps["connection"]["words"])
    assert re.search(r"\d+ ms there and back", steps["channel"]["words"])
    assert re.search(r"\d+ sent, \d+ came back", steps["media"]["words"])


def test_a_wrong_token_is_said_at_the_first_step(address: str, tmp_path: Path) -> None:
    state, steps = results(address.replace("boss", "nobody"), tmp_path)
    assert state == "does not work"
    assert tuple(steps) == ("http",)
    assert steps["http"]["words"] == "a token is needed"
    assert "printed" in steps["http"]["help"]
