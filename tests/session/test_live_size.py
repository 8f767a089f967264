"""What size a session's graph sees, while pictures of changing sizes come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from fractions import Fraction

import av
import numpy as np
import pytest
from engine_harness import fill, picture
from live_harness import Watched, live
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.errors import ConfigError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_size import FrameSize, Sizer, SizeRule
from comfystream.session.live_state import SizeChanged
from comfystream.workflow.read import parse_workflow

SIZES = [(64, 48), (48, 64), (160, 90), (33, 17), (64, 48)]
BASE = Fraction(1, 90_000)


def frame(number: int, size: tuple[int, int], value: int = 128) -> VideoFrame:
    return VideoFrame(number, number * 3000, BASE, picture(value, *size))


def size_of(one: VideoFrame) -> tuple[int, int]:
    return one.image.width, one.image.height


@contextlib.asynccontextmanager
async def changing_camera(session: LiveSession, each: int = 6) -> AsyncIterator[None]:
    """A picture's size changes every few frames, over and over."""

    async def shoot() -> None:
        claim = session.claim_source("camera")
        for number in range(1_000_000):
            claim.submit(frame(number, SIZES[number // each % len(SIZES)]))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(shoot())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def same(**more: object) -> object:
    return parse_workflow(fill(0.5, **more))


@pytest.mark.parametrize(("width", "height"), [(17, 64), (64, 14), (4098, 64), (0, 64)])
def test_sides_must_be_even_and_within_limits(width: int, height: int) -> None:
    with pytest.raises(ConfigError, match="must be even and from 16 to 4096"):
        FrameSize(SizeRule.FIT, width, height)
    FrameSize(SizeRule.FOLLOW, width, height)  # only what is expected


def test_fit_shows_all_with_bars_and_fill_cuts() -> None:
    wide = frame(0, (160, 40), 255)
    fitted = Sizer(FrameSize(SizeRule.FIT, 64, 64))(wide)
    filled = Sizer(FrameSize(SizeRule.FILL, 64, 64))(wide)
    assert isinstance(fitted, VideoFrame)
    assert isinstance(filled, VideoFrame)
    assert size_of(fitted) == size_of(filled) == (64, 64)
    rows = fitted.image.to_ndarray(format="gray").mean(axis=1)
    assert rows[2] < 30
    assert rows[32] > 200
    assert filled.image.to_ndarray(format="gray").min() > 200
    assert (fitted.id, fitted.pts, fitted.time_base) == (wide.id, wide.pts, wide.time_base)


def test_what_needs_no_scaling_is_the_same_object() -> None:
    one = frame(0, (64, 48))
    assert Sizer(FrameSize(SizeRule.FIT, 64, 48))(one) is one
    assert Sizer(FrameSize())(one) is one
    heard = AudioFrame(0, 0, Fraction(1, 48_000), np.zeros((1, 480), np.float32), 48_000)
    assert Sizer(FrameSize(SizeRule.FIT, 64, 48))(heard) is heard


def test_a_picture_that_cannot_be_scaled_costs_only_itself() -> None:
    sizer = Sizer(FrameSize(SizeRule.FIT, 64, 48))
    strange = VideoFrame(0, 0, BASE, av.VideoFrame(32, 32, "bayer_bggr8"))
    if sizer(strange) is None:
        assert sizer.dropped == 1
    assert isinstance(sizer(frame(1, (32, 32))), VideoFrame)


@pytest.mark.parametrize("rule", list(SizeRule))
@on_loop
async def test_a_source_that_changes_its_size_goes_on(shared_engine: ChildEngine, rule: SizeRule) -> None:
    async with live(shared_engine, size=FrameSize(rule, 80, 60)) as watched, changing_camera(watched.session):
        await watched.session.set_workflow(same())
        await until(lambda: len(watched.pictures) > 10 * len(SIZES))
        made = watched.pictures[-5 * len(SIZES) :]
        assert {size_of(one) for one in made} == ({*SIZES} if rule is SizeRule.FOLLOW else {(80, 60)})
        assert not [event for event in watched.events if type(event).__name__ in ("NodeFailed", "Stopped")]


@on_loop
async def test_the_size_changes_while_it_runs_and_everybody_hears_of_it(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, changing_camera(watched.session, each=10_000):
        await watched.session.set_workflow(same())
        await until(lambda: watched.pictures)
        for rule, size in ((SizeRule.FIT, (96, 32)), (SizeRule.FILL, (16, 32)), (SizeRule.FOLLOW, SIZES[0])):
            change = watched.session.set_size(FrameSize(rule, *size))
            assert change.first_frame is not None
            await until(lambda change=change: _made_from(watched, change.first_frame))
            assert size_of(watched.pictures[-1]) == size
        assert [event.mode for event in watched.events_of(SizeChanged)] == ["fit", "fill", "follow"]


def _made_from(watched: Watched, first: int) -> bool:
    return watched.pictures[-1].id >= first
