"""The last picture of a source that is over is shown on: with new values, and to whoever comes later."""

from __future__ import annotations

import threading
from fractions import Fraction

from engine_harness import fill, video
from live_harness import FakeClock, live
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.frames import VideoFrame
from comfystream.media.pattern import PatternSource
from comfystream.media.source import Source
from comfystream.session.live_still import Still
from comfystream.session.source_state import SourcePlan
from comfystream.workflow.edits import Patch
from comfystream.workflow.read import parse_workflow


def short(stopped: threading.Event) -> Source:
    return PatternSource(64, 48, Fraction(50), 0.1)


@on_loop
async def test_a_value_that_changes_after_the_end_is_seen_and_a_late_viewer_sees_it(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched:
        session = watched.session
        await session.set_workflow(parse_workflow(fill(0.0)))
        await session.set_source(SourcePlan("file", "clip", short))
        await until(lambda: session.chosen.state == "ended", "its end")
        await until(lambda: watched.pictures, "a picture")
        change = await session.patch([Patch(node="fill", input="number", value=1.0)])
        assert change.first_frame is not None
        await until(lambda: watched.shown == 255, "the new value")
        async with session.subscribe() as late:
            frame = await anext(late)
        assert isinstance(frame, VideoFrame)
        times = [frame.pts * frame.time_base for frame in watched.pictures]
        assert times == sorted(set(times)), "time goes on"
        shown = session.counts().frames_in
        await session.set_source(None)
        await session.stats()
        assert session.counts().frames_in <= shown + 1


@on_loop
async def test_nothing_is_shown_again_before_the_end_or_after_something_else_is_chosen() -> None:
    clock, shown = FakeClock(), list[VideoFrame]()
    still = Still(shown.append, clock, every_s=0.01)
    still.again()
    still.begin()  # of a source without pictures
    still.again()
    still.note(video(0, 7))
    still.again()
    assert not shown
    clock.turn_s(2)
    still.begin()
    still.again()
    first = shown[0]
    assert (first.pts - video(0, 7).pts) * first.time_base == 2
    await until(lambda: len(shown) > 2, "it again and again")
    still.end()
    count = len(shown)
    still.again()
    assert len(shown) == count
