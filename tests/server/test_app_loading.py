"""A session whose first workflow takes long to load is not an abandoned one."""

from __future__ import annotations

from app_harness import app_with, browser
from engine_harness import fill, link, node
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine


@on_loop
async def test_loading_longer_than_sessions_are_kept_alone(shared_engine: ChildEngine) -> None:
    slow = fill(
        0.0,
        slow=node("TestSource", number=1.0, seconds=2.5),
        fill=node("TestFill", like=link("in"), number=link("slow")),
    )
    async with app_with(shared_engine, abandoned_after_s=0.5) as app, browser(app, prompts=slow) as client:
        session = app.parts.sessions.get(client.session)
        await until(lambda: client.shown is not None and client.shown > 240, "its picture")
        assert session.viewers == 1
