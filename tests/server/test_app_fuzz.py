"""Bad input, made up by the hundred: never a 500, never a stopped session."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from app_harness import app_with
from engine_harness import fill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfystream.engine.child import ChildEngine
from comfystream_server.control.messages import Reply

ALL_CHECKS = list(HealthCheck)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(
    ["patch", "set_workflow", "set_source", "undo", "redo", "pause", "resume", "fail_policy", "describe", "none"]
)
NODES = st.fixed_dictionaries(
    {"class_type": st.sampled_from(["LoadTensor", "SaveTensor", "TestFill", "ImageBlur", "Nobody"]) | SCALARS},
    optional={"inputs": st.dictionaries(st.sampled_from(["images", "image", "like", "number"]), VALUES) | VALUES},
)
WORKFLOWS = st.dictionaries(st.text(max_size=4), NODES, max_size=4) | VALUES
PATCHES = st.lists(
    st.fixed_dictionaries(
        {
            "node": st.sampled_from(["fill", "in", "out", ""]) | SCALARS,
            "input": st.sampled_from(["number", "like", "images", ""]) | SCALARS,
            "value": VALUES | st.tuples(st.sampled_from(["in", "fill", "out"]), st.integers(-2, 3)).map(list),
        },
        optional={"relink": VALUES},
    ),
    max_size=3,
)
SOURCES = st.fixed_dictionaries(
    {"type": st.sampled_from(["viewer", "none", "pattern", "file", "url"]) | SCALARS},
    optional={
        "path": st.sampled_from(["../x", "/etc/passwd", "a\0b", "clip.mp4", "."]) | st.text(max_size=30) | SCALARS,
        "url": st.sampled_from(["rtsp://a/b", "http://127.0.0.1:9/x", "file:///etc/passwd", "http://[", "udp://"])
        | st.text(max_size=30).map(lambda text: f"http://127.0.0.1:9/{text}")
        | SCALARS,
        "width": SCALARS | st.just(64),
        "height": SCALARS | st.just(48),
        "fps": SCALARS,
        "is_looped": SCALARS,
        "has_sound": SCALARS,
    },
)
MESSAGES = st.fixed_dictionaries(
    {"type": TYPES | SCALARS},
    optional={
        "id": VALUES,
        "v": st.just(1) | SCALARS,
        "patches": PATCHES | VALUES,
        "workflow": WORKFLOWS,
        "name": SCALARS,
        "policy": SCALARS,
        "base_revision": SCALARS,
        "source": SOURCES | VALUES,
        "is_keeping": SCALARS,
    },
)
OFFERS = st.fixed_dictionaries(
    {},
    optional={
        "offer": st.fixed_dictionaries({"sdp": st.text(max_size=60), "type": st.text(max_size=6)}) | VALUES,
        "prompts": WORKFLOWS | st.lists(WORKFLOWS, max_size=2),
        "resolution": VALUES,
        "session": SCALARS,
        "workflow": SCALARS,
        "source": SOURCES | VALUES,
    },
)
NEW_SESSIONS = st.fixed_dictionaries(
    {},
    optional={
        "name": SCALARS,
        "workflow": SCALARS,
        "prompt": WORKFLOWS,
        "source": SOURCES | VALUES,
        "size": VALUES,
    },
)


def _drawn(strategy: Any, count: int) -> list[Any]:
    drawn: list[Any] = []

    @settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=ALL_CHECKS)
    @given(strategy)
    def draw(value: Any) -> None:
        drawn.append(value)

    draw()
    assert len(drawn) >= count / 2
    return drawn


def test_malformed_messages_get_a_reply_and_the_session_goes_on(shared_engine: ChildEngine) -> None:
    messages = _drawn(MESSAGES, 120)

    async def go() -> None:
        async with app_with(shared_engine) as app:
            session = await app.parts.sessions.create()
            session.attach()
            control = app.parts.control
            first = {"type": "set_workflow", "workflow": fill(0.5)}
            assert (await control.handle_json(session, first, "test")).ok
            for message in messages:
                reply = await control.handle_text(session, json.dumps(message), "test")
                assert isinstance(reply, Reply)
                assert reply.ok or (reply.error is not None and reply.error.code != "defect"), (message, reply)
                json.loads(reply.model_dump_json())
            assert (await control.handle_json(session, first, "test")).ok

    asyncio.run(go())


def test_malformed_offers_and_prompts_are_the_callers_fault(shared_engine: ChildEngine) -> None:
    offers, prompts = _drawn(OFFERS, 80), _drawn(WORKFLOWS, 60)

    async def go() -> None:
        async with app_with(shared_engine) as app:
            for path, bodies in (("/offer", offers), ("/prompt", prompts)):
                for body in bodies:
                    response = await app.client.post(path, data=json.dumps(body))
                    assert response.status < 500, (path, body, await response.text())
            assert len(app.parts.sessions) == 0

    asyncio.run(go())


def test_malformed_sources_and_sessions_are_the_callers_fault(shared_engine: ChildEngine, tmp_path: Path) -> None:
    choices, bodies = _drawn(SOURCES, 120), _drawn(NEW_SESSIONS, 80)

    async def go() -> None:
        folders, urls = (str(tmp_path),), ("http://127.0.0.1:9/*",)
        async with app_with(shared_engine, source_folders=folders, allowed_urls=urls, max_sessions=1000) as app:
            session = await app.parts.sessions.create()
            session.attach()
            for choice in choices:
                message = {"type": "set_source", "source": choice}
                path = f"/api/v1/sessions/{session.id}/control"
                response = await app.client.post(path, data=json.dumps(message))
                assert response.status < 500, (choice, await response.text())
            good = {"type": "set_source", "source": {"type": "pattern", "width": 64, "height": 48}}
            assert (await app.parts.control.handle_json(session, good, "test")).ok
            assert session.chosen.state == "running"
            for body in bodies:
                response = await app.client.post("/api/v1/sessions", data=json.dumps(body))
                assert response.status < 500, (body, await response.text())

    asyncio.run(go())
