"""What the page shows while things change: values, workflows, failures, the engine's death."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from page_harness import NEAR, SLOW_S, WATCH, Browser, Program


def test_a_parameter_changes_the_picture(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    field = "[data-node=fill][data-input=number] input"
    took = []
    for number in (1, 0, 1, 0, 0.5):
        began = page.evaluate(
            """([field, value]) => { const at = performance.now(), one = document.querySelector(field)
            window.changes = []; one.value = value; one.dispatchEvent(new Event('change')); return at }""",
            [field, number],
        )
        page.wait_for_function(NEAR, arg=number * 255)
        took.append(page.evaluate("() => window.changes[0][0]") - began)
    with capsys.disabled():
        print(f"\n  a parameter was seen after {', '.join(f'{ms:.0f}' for ms in took)} ms")
    page.click("#undo")
    page.wait_for_function(NEAR, arg=0)
    assert page.locator(field).input_value() == "0"


def _gaps(page: Any) -> dict[str, float]:
    """The longest time between two pictures that followed each other, in ms, and how many there were.

    `shown`: as the browser presented them; `came`: as their last packets came; `sent`: by the times they carry.
    """
    rows = page.evaluate("() => window.shown.splice(0)")
    pairs = [pair for pair in zip(rows, rows[1:], strict=False) if pair[1][3] == pair[0][3] + 1]
    gaps = {name: max(b[at] - a[at] for a, b in pairs) for at, name in enumerate(("shown", "came", "sent"))}
    return {**gaps, "pictures": len(rows), "missed": rows[-1][3] - rows[0][3] + 1 - len(rows)}


def test_a_slow_workflow_is_loaded_beside_the_running_one(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page.evaluate("() => { window.isLooking = false; window.shown = [] }")
    page.wait_for_function(f"() => window.shown.length > {int(SLOW_S * 25)}")
    quiet = _gaps(page)
    began = page.evaluate("() => performance.now()")
    before = page.evaluate("() => comfystream.revision")
    page.select_option("#workflow", "slow")
    page.wait_for_function("before => comfystream.revision > before", arg=before)
    took_s = (page.evaluate("() => performance.now()") - began) / 1000
    loading = _gaps(page)
    page.evaluate("() => { window.isLooking = true }")
    page.wait_for_function(NEAR, arg=230)
    with capsys.disabled():
        for when, gaps in (("before", quiet), ("while it loaded", loading)):
            words = ", ".join(f"{name} {gap:.0f}" for name, gap in gaps.items())
            print(f"\n  {when}: longest gaps in ms and pictures: {words}", end="")
        print()
    assert took_s > SLOW_S * 0.9, "it did not take long to load"
    assert max(loading["came"], loading["shown"]) < SLOW_S * 500, "the picture stood still while it loaded"


def test_a_node_that_fails_shows_its_card_and_the_last_picture(page: Any) -> None:
    page.select_option("#workflow", "fails")
    page.wait_for_function(NEAR, arg=153)
    card = page.locator(".card", has_text="TestFail")
    card.wait_for()
    assert "the test asked for this" in card.inner_text()
    page.wait_for_function(NEAR, arg=153)
    page.select_option("#workflow", "level")
    page.wait_for_function(NEAR, arg=51)
    assert page.locator(".card").count() == 0


def test_the_engine_killed_comes_back_by_itself(page: Any, program: Program) -> None:
    everybody = map(int, filter(str.isdigit, os.listdir("/proc")))
    child = next(pid for pid in everybody if _parent(pid) == program.pid and _is_engine(pid))
    os.kill(child, signal.SIGKILL)
    page.locator(".card", has_text="started again").wait_for()
    page.evaluate("() => { window.shown = [] }")
    page.wait_for_function("() => window.shown.length > 5")
    page.wait_for_function(NEAR, arg=51)
    assert page.evaluate("() => comfystream.pc.connectionState") == "connected"


def test_coming_back_finds_the_session_running(page: Any) -> None:
    session = page.evaluate("() => comfystream.session")
    page.reload()
    page.wait_for_function("window.comfystream?.ready")
    assert page.evaluate("() => comfystream.session") == session
    assert page.locator("#workflow").input_value() == "level"


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _is_engine(pid: int) -> bool:
    return "child_main" in Path(f"/proc/{pid}/cmdline").read_text()


def test_two_viewers_see_one_session(
    page: Any, program: Program
) -> None:
    session = page.evaluate("() => comfystream.session")
    browser = Browser(page.context)
    other = browser.open(f"{program.address}?session={session}")
    other.wait_for_function("window.comfystream?.ready")
    other.evaluate(WATCH)
    other.wait_for_function(NEAR, arg=51)
    assert other.evaluate("() => comfystream.session") == session
    field = "[data-node=fill][data-input=number] input"
    other.locator(field).last.fill("1")
    other.locator(field).last.press("Enter")
    for one in (page, other):
        one.wait_for_function(NEAR, arg=255)
        one.wait_for_function("field => document.querySelector(field).value === '1'", arg=field)
    page.close()
    other.evaluate("() => { window.shown = [] }")
    other.wait_for_function("() => comfystream.last?.viewers === 1 && comfystream.state === 'running'")
    assert browser.errors == []


MOVED = """async () => {
  const found = await comfystream.pc.getStats(), of = type => [...found.values()].filter(one => one.type === type)
  const [transport] = of('transport'), pair = found.get(transport.selectedCandidatePairId)
  return { changes: transport.selectedCandidatePairChanges, dtls: transport.dtlsState,
           ufrag: transport.iceLocalUsernameFragment, to: found.get(pair.remoteCandidateId).port }
}"""


def _pictures_go_on(page: Any) -> None:
    page.evaluate("() => { window.shown = [] }")
    page.wait_for_function("() => window.shown.length > 10")


def test_ice_is_restarted_and_everything_goes_on(page: Any) -> None:
    before = page.evaluate(MOVED)
    page.evaluate("() => { window.first = comfystream.pc; return comfystream.link.move() }")
    page.wait_for_function(f"to => ({MOVED})().then(now => now.to !== to)", arg=before["to"])
    after = page.evaluate(MOVED)
    assert after["ufrag"] != before["ufrag"]
    assert after["dtls"] == "connected"
    _pictures_go_on(page)
    assert page.evaluate("() => window.first === comfystream.pc")
    field = page.locator("[data-node=fill][data-input=number] input")
    field.fill("1")
    field.press("Enter")
    page.wait_for_function(NEAR, arg=255)


def test_a_server_that_was_silent_is_taken_up_again(page: Any, program: Program) -> None:
    page.evaluate("() => { window.first = comfystream.pc }")
    before = page.evaluate(MOVED)
    os.kill(program.pid, signal.SIGSTOP)  # as when the network is away: neither packets nor answers
    try:
        page.locator("#state.reconnecting").wait_for()
    finally:
        os.kill(program.pid, signal.SIGCONT)
    page.locator("#state.running").wait_for()
    _pictures_go_on(page)
    assert page.evaluate("() => window.first === comfystream.pc")
    assert page.evaluate(MOVED)["ufrag"] != before["ufrag"]
