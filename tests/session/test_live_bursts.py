"""Edits of all kinds in bursts, as from several people at once: each is answered, and the last one is what is shown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from engine_harness import fill, link, node
from live_harness import Watched, camera
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import Cancelled, EngineOptions, FailPolicy
from comfystream.errors import ComfyStreamError, EngineDied
from comfystream.session import live_orders
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_state import Change, SessionState
from comfystream.workflow.edits import Patch
from comfystream.workflow.model import Workflow
from comfystream.workflow.read import parse_workflow

BURSTS = 8
LEVELS = {0.0: 0, 0.2: 51, 0.4: 102, 0.6: 153, 0.8: 204, 1.0: 255}
Edit = Callable[[LiveSession, random.Random], Awaitable[Change]]


def graph(number: float, **more: Any) -> Workflow:
    return parse_workflow(fill(number, **more))


def _slow(session: LiveSession, dice: random.Random) -> Awaitable[Change]:
    source = node("TestSource", number=dice.choice([*LEVELS]), seconds=0.3, tag=str(dice.random()))
    return session.set_workflow(graph(0, fill=node("TestFill", like=link("in"), number=link("source")), source=source))


def _endless(session: LiveSession, dice: random.Random) -> Awaitable[Change]:
    source = node("TestBuilds", engines=1, number=0.0)
    return session.set_workflow(graph(0, fill=node("TestFill", like=link("in"), number=link("source")), source=source))


def _patch(session: LiveSession, dice: random.Random) -> Awaitable[Change]:
    return session.patch([Patch(node="fill", input="number", value=dice.choice([*LEVELS]))])


EDITS: dict[str, Edit] = {
    "fast": lambda session, dice: session.set_workflow(graph(dice.choice([*LEVELS]))),
    "slow": _slow,
    "endless": _endless,
    "fails": lambda session, dice: session.set_workflow(graph(0, fill=node("TestFail", value=link("in"), on="all"))),
    "wrong": lambda session, dice: session.set_workflow(graph(0, fill=node("NoSuchNode"))),
    "patch": _patch,
    "undo": lambda session, dice: session.undo(),
    "redo": lambda session, dice: session.redo(),
    "cancel": lambda session, dice: session.cancel(),
    "pause": lambda session, dice: session.pause(),
    "resume": lambda session, dice: session.resume(),
    "policy": lambda session, dice: session.set_fail_policy(dice.choice([FailPolicy.HOLD, FailPolicy.PASSTHROUGH])),
}


async def _burst(session: LiveSession, dice: random.Random, engine_pid: int | None) -> float:
    """Some edits, close together; then one that counts. All of them are answered."""
    names = dice.choices([*EDITS], k=dice.randint(1, 5))
    asked = []
    for name in names:
        asked.append(asyncio.ensure_future(EDITS[name](session, dice)))
        await asyncio.sleep(dice.choice([0, 0, 0.02, 0.2]))
    is_killed = engine_pid is not None and dice.random() < 0.3
    if is_killed:
        with contextlib.suppress(ProcessLookupError):  # it has died in the meantime
            os.kill(engine_pid, signal.SIGKILL)
    number = dice.choice([*LEVELS])
    try:
        await session.set_workflow(graph(number))
    except Cancelled:
        assert "cancel" in names, f"the last of {names} was cancelled"
        await session.set_workflow(graph(number))
    except EngineDied:
        assert is_killed
        await session.set_workflow(graph(number))
    for name, answer in zip(names, await asyncio.gather(*asked, return_exceptions=True), strict=True):
        assert isinstance(answer, Change | ComfyStreamError), f"{name}: {answer!r}"
        assert getattr(answer, "code", "") != "defect", f"{name}: {answer!r}"
    await session.resume()
    return number


async def _is_shown(watched: Watched, number: float, words: str) -> None:
    watched.frames.clear()
    await until(lambda: watched.shown is not None and abs(watched.shown - LEVELS[number]) <= 1, words)
    assert watched.session.state is SessionState.RUNNING


@pytest.mark.parametrize("seed", [int(os.environ.get("BURSTS_SEED", "1"))])
@pytest.mark.parametrize("may_kill", [False, True])
@on_loop
async def test_the_last_edit_of_a_burst_is_what_is_shown(
    engine_options: EngineOptions, monkeypatch: pytest.MonkeyPatch, may_kill: bool, seed: int
) -> None:
    monkeypatch.setattr(live_orders, "PATIENCE_S", 0.1)
    dice = random.Random(seed)
    host = EngineHost(lambda: ChildEngine(engine_options))
    watched = Watched(LiveSession("test", host))
    try:
        async with camera(watched.session):
            for number in range(BURSTS):
                level = await _burst(watched.session, dice, host.engine_pid if may_kill else None)
                await _is_shown(watched, level, f"the picture of burst {number}")
    finally:
        await watched.close()
        await host.close()
