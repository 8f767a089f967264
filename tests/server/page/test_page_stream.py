"""What the page shows while things change: values, workflows, failures, the engine's death."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_harness import NEAR, SLOW_S, WATCH, Browser, Program, serving
from playwright.sync_api import expect


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
    expect(page.locator(field)).to_have_value("0")


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


# Notes when a card with certain words appears and when the next picture does, and each value that the state has.
NOTE = """words => {
  window.noted = { began: performance.now(), cards: {} }
  const look = () => {
    for (const word of words) for (const card of document.querySelectorAll('.card'))
      if (card.innerText.includes(word)) window.noted.cards[word] ??= performance.now() - window.noted.began
  }
  new MutationObserver(look).observe(document.getElementById('cards'), { childList: true, subtree: true })
}"""


def _tell(capsys: pytest.CaptureFixture[str], what: str, page: Any) -> None:
    cards = page.evaluate("() => window.noted.cards")
    with capsys.disabled():
        print(f"\n  {what}: " + ", ".join(f'"{word}" after {ms:.0f} ms' for word, ms in cards.items()))


def test_a_node_that_fails_shows_its_card_and_the_last_picture(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page.evaluate(NOTE, ["TestFail"])
    page.select_option("#workflow", "fails")
    page.wait_for_function(NEAR, arg=153)
    shown_ms = page.evaluate("() => performance.now() - window.noted.began")
    card = page.locator(".card", has_text="TestFail")
    card.wait_for()
    assert "the test asked for this" in card.inner_text()
    page.wait_for_function("() => window.noted.cards.TestFail !== undefined")
    _tell(
        capsys, f"a node that fails from its 20th picture on, the first of which was seen after {shown_ms:.0f} ms", page
    )
    page.wait_for_function(NEAR, arg=153)
    page.select_option("#workflow", "level")
    page.wait_for_function(NEAR, arg=51)
    expect(page.locator(".card")).to_have_count(0)


def test_the_engine_killed_comes_back_by_itself(
    page: Any, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    everybody = map(int, filter(str.isdigit, os.listdir("/proc")))
    child = next(pid for pid in everybody if _parent(pid) == program.pid and _is_engine(pid))
    page.evaluate(NOTE, ["has ended", "was started again"])
    os.kill(child, signal.SIGKILL)
    page.locator(".card", has_text="The engine has ended").wait_for()
    assert "the engine is started again" in page.locator("#state").inner_text()
    page.locator(".card", has_text="was started again").wait_for()
    page.evaluate("() => { window.shown = [] }")
    page.wait_for_function("() => window.shown.length > 5")
    took_ms = page.evaluate("() => window.shown[0][0] - window.noted.began")
    page.wait_for_function(NEAR, arg=51)
    expect(page.locator(".card", has_text="The engine has ended")).to_have_count(0)
    expect(page.locator("#state")).to_have_text("running", timeout=30_000)  # figures come once a second
    assert page.evaluate("() => comfystream.pc.connectionState") == "connected"
    _tell(capsys, f"the engine killed: the picture is back after {took_ms:.0f} ms", page)


def test_coming_back_finds_the_session_running(page: Any) -> None:
    session = page.evaluate("() => comfystream.session")
    page.reload()
    page.wait_for_function("window.comfystream?.ready")
    assert page.evaluate("() => comfystream.session") == session
    expect(page.locator("#workflow")).to_have_value("level")


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _is_engine(pid: int) -> bool:
    return "child_main" in Path(f"/proc/{pid}/cmdline").read_text()


def test_two_viewers_see_one_session(page: Any, program: Program) -> None:
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
        page.locator("#state", has_text="the server does not answer").wait_for()
        page.wait_for_function("() => comfystream.link.isMoving")
        page.locator("#state", has_text="reconnecting").wait_for()
    finally:
        os.kill(program.pid, signal.SIGCONT)
    page.locator("#state.running").wait_for()
    _pictures_go_on(page)
    assert page.evaluate("() => window.first === comfystream.pc")
    assert page.evaluate(MOVED)["ufrag"] != before["ufrag"]


@pytest.mark.long
def test_a_server_that_was_gone_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, start_browser: Callable[..., Browser]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with serving(tmp_path_factory.mktemp("first"), "--port", port) as first:
        page = start_browser().connected(first.address)
        page.set_default_timeout(120_000)  # a server starts, and the page asks for it more and more rarely
        session = page.evaluate("() => comfystream.session")
        os.kill(first.pid, signal.SIGKILL)
        page.locator("#state.reconnecting").wait_for()
        page.locator(".stale #output").wait_for()
    with serving(tmp_path_factory.mktemp("second"), "--port", port):
        page.wait_for_function("was => comfystream.ready && comfystream.session !== was", arg=session)
        page.locator("#state.running").wait_for()
        page.wait_for_function(NEAR, arg=51)  # with the workflow that was chosen here
        expect(page.locator(".stale")).to_have_count(0)
        expect(page.locator(".card", has_text="connection was lost")).to_have_count(0)


def test_engines_that_take_long_are_cancelled_and_what_ran_goes_on(page: Any, program: Program) -> None:
    page.wait_for_function(NEAR, arg=51)
    page.select_option("#workflow", "wrong")
    page.locator("#state", has_text="building engine 1/3 (fake)").wait_for()
    other = page.context.new_page()
    other.goto(f"{program.address}?session={page.evaluate('() => comfystream.session')}")
    other.locator("#progress").wait_for()  # who comes later sees it, too
    page.click("#cancel")
    page.locator(".card.note", has_text="Cancelled").wait_for()
    other.locator("#progress").wait_for(state="hidden")
    other.close()
    page.wait_for_function("() => document.getElementById('workflow').value === 'level'")
    page.locator("#cancel").wait_for(state="hidden")
    expect(page.locator("#state")).to_have_text("running")
    page.wait_for_function(NEAR, arg=51)
    page.select_option("#workflow", "wrong")  # another one that is chosen meanwhile takes its place, too
    page.locator("#state", has_text="building engine 1/3 (fake)").wait_for()
    page.select_option("#workflow", "plain")
    page.wait_for_function("() => comfystream.info?.name === 'plain'")
    page.locator("#cancel").wait_for(state="hidden")


def test_it_says_what_it_waits_for(program: Program, start_browser: Callable[..., Browser]) -> None:
    page = start_browser().open(program.address)
    page.wait_for_function("window.comfystream?.loaded")
    begin = page.locator("#empty-words").inner_text()
    page.evaluate(
        """() => { window.words = []
        new MutationObserver(() => window.words.push(document.getElementById('empty-words').innerText))
          .observe(document.getElementById('empty-words'), { childList: true }) }"""
    )
    page.click("#connect")
    page.locator("#state.running").wait_for()
    words = page.evaluate("() => window.words")
    assert words[0] == "Connecting …"
    page.select_option("#workflow", "tardy")
    page.locator("#state", has_text="loading Tardy").wait_for()
    page.locator("#progress").wait_for()
    page.evaluate("() => comfystream.link.ask({ type: 'save_preset', name: 'meanwhile' })")
    page.wait_for_function("() => comfystream.info.presets.some(one => one.name === 'meanwhile')")  # all is shown anew
    expect(page.locator("#state")).to_contain_text("loading Tardy")
    page.wait_for_function("() => comfystream.info?.name === 'tardy'")
    page.locator("#progress").wait_for(state="hidden")
    expect(page.locator("#state")).to_have_text("running", timeout=30_000)
    page.click("#connect")
    expect(page.locator("#empty-words")).to_have_text(begin, use_inner_text=True)
