"""A session whose first workflow takes long to load is not an abandoned one."""

from __future__ import annotations

import asyncio

from app_harness import app_with, browser
from engine_harness import fill, link, node
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine

SLOW = fill(
    0.0,
    slow=node("TestSource", number=1.0, seconds=2.5),
    fill=node("TestFill", like=link("in"), number=link("slow")),
)


@on_loop
async def test_loading_longer_than_sessions_are_kept_alone(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine, abandoned_after_s=0.5) as app, browser(app, prompts=SLOW) as client:
        session = app.parts.sessions.get(client.session)
        await until(lambda: client.shown is not None and client.shown > 240, "its picture")
        assert session.viewers == 1


@on_loop
async def test_a_session_without_a_browser_may_load_as_long(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine, abandoned_after_s=0.5) as app:
        body = {"name": "patient", "prompt": SLOW, "source": {"type": "pattern", "width": 64, "height": 48}}
        made = asyncio.create_task(app.json("POST", "/api/v1/sessions", body))
        while not made.done():
            await asyncio.sleep(0.2)
            await app.parts.sessions.end_abandoned()
        status, info = await made
        assert (status, info.get("state")) == (201, "running"), info
        assert app.parts.sessions.get("patient").viewers == 0
