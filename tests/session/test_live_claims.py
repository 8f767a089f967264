"""Of several sources one has the place: the chosen before the others, and of equals the newest."""

from __future__ import annotations

import pytest
from engine_harness import video
from on_loop import on_loop

from comfystream.engine.protocol import Engine
from comfystream.errors import ConfigError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.live_claims import Claims
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_registry import SessionExists, Sessions


def _never() -> Engine:
    raise AssertionError("the engine was touched")


def test_the_newest_has_the_place_until_it_gives_it_up() -> None:
    taken: list[VideoFrame | AudioFrame] = []
    told: list[str] = []
    claims = Claims(taken.append, told.append)
    camera, phone = claims.make("camera"), claims.make("phone")
    frame = video(0)
    assert not camera.submit(frame)
    assert phone.submit(frame)
    phone.release()
    phone.release()
    assert not phone.submit(frame)
    assert camera.submit(frame)
    camera.release()
    assert taken == [frame, frame]
    assert told == ["camera", "phone", "camera", ""]


def test_a_chosen_one_stands_before_those_that_come_later() -> None:
    told: list[str] = []
    claims = Claims(lambda frame: None, told.append)
    chosen, later = claims.make("clip.mp4", is_chosen=True), claims.make("camera")
    assert chosen.is_in_force
    assert not later.is_in_force
    chosen.release()
    assert later.is_in_force
    assert told == ["clip.mp4", "camera"]


@on_loop
async def test_a_session_can_have_a_name() -> None:
    sessions = Sessions(EngineHost(_never))
    assert (await sessions.create(id="studio-1")).id == "studio-1"
    with pytest.raises(SessionExists, match="studio-1"):
        await sessions.create(id="studio-1")
    with pytest.raises(ConfigError, match="cannot name a session"):
        await sessions.create(id="../etc")
    await sessions.close()
