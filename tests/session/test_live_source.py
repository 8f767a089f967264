"""A chosen source in a session: in force once it is open, read again when it is lost, gone when it is not wanted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from clip_file import write_clip
from on_loop import on_loop, until

from comfystream.engine.protocol import Engine
from comfystream.errors import EngineError, MediaError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.pattern import PatternSource
from comfystream.media.source import Source, SourceInfo
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_state import SourceChanged
from comfystream.session.source_reader import Pacer, back_off_s
from comfystream.session.source_rules import SourceRules
from comfystream.session.source_state import SourcePlan


def _never() -> Engine:
    raise AssertionError("the engine was touched")


def _session(**options: float) -> LiveSession:
    return LiveSession("s", EngineHost(_never), LiveOptions(**options))


def _pattern(seconds: float | None = None) -> PatternSource:
    return PatternSource(64, 48, Fraction(50), seconds)


def _plan(name: str, opened: Callable[[threading.Event], Source], *, is_stream: bool = False) -> SourcePlan:
    return SourcePlan("pattern", name, opened, is_stream=is_stream)


class Breaking:
    """A stream of some pictures that then breaks off."""

    def __init__(self, pictures: int) -> None:
        self._inner = _pattern()
        self._left = pictures

    @property
    def info(self) -> SourceInfo:
        return self._inner.info

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        for frame in self._inner.frames():
            self._left -= 1
            if self._left < 0:
                raise NetworkError("the cable is out")
            yield frame

    def close(self) -> None:
        self._inner.close()


@on_loop
async def test_the_earlier_one_goes_on_until_the_new_one_is_open() -> None:
    session = _session()
    await session.set_source(_plan("first", lambda stopped: _pattern()))
    ready = threading.Event()

    def slow(stopped: threading.Event) -> Source:
        ready.wait(20)
        return _pattern()

    change = asyncio.create_task(session.set_source(_plan("second", slow)))
    before = session.counts().frames_in
    await until(lambda: session.counts().frames_in > before + 3, "pictures of the first")
    assert session.source == "first"
    ready.set()
    await change
    assert session.source == "second"
    await session.close()


@on_loop
async def test_events_tell_who_sends_and_what_is_chosen_together() -> None:
    session = _session()
    camera = session.claim_source("camera")
    told: list[tuple[str, str, str]] = []
    async with session.events() as events:
        await session.set_source(_plan("clip", lambda stopped: _pattern(0.1)))
        await until(lambda: session.chosen.state == "ended", "its end")
        await session.set_source(SourceRules().none())
        await session.set_source(None)
        camera.release()
        await session.close()
        async for event in events:
            if isinstance(event, SourceChanged):
                told.append((event.who, event.chosen.name, event.chosen.state))
    assert told == [
        ("camera", "clip", "opening"),
        ("clip", "clip", "running"),
        ("clip", "clip", "ended"),
        ("no source", "no source", "running"),
        ("camera", "", "viewers"),
        ("", "", "viewers"),
    ]


@on_loop
async def test_one_that_cannot_be_opened_changes_nothing() -> None:
    def broken(stopped: threading.Event) -> Source:
        raise MediaError("there is no film in it")

    session = _session()
    camera = session.claim_source("camera")
    with pytest.raises(MediaError, match="no film"):
        await session.set_source(_plan("broken", broken))
    assert camera.is_in_force
    assert session.chosen.state == "viewers"
    await session.close()


@on_loop
async def test_who_chooses_meanwhile_does_not_wait() -> None:
    session = _session()
    ends = threading.Event()

    def stuck(stopped: threading.Event) -> Source:
        ends.wait(20)
        raise NetworkError("no answer in time")

    first = asyncio.create_task(session.set_source(_plan("stuck", stuck)))
    await until(lambda: session._sources.is_active, "the opening")
    await session.set_source(_plan("pattern", lambda stopped: _pattern()))
    with pytest.raises(EngineError, match="given up") as caught:
        await first
    assert caught.value.code == "superseded"
    assert session.source == "pattern"
    ends.set()
    await session.close()


@on_loop
async def test_ending_the_session_does_not_wait_for_a_dead_camera() -> None:
    session = _session()
    ends = threading.Event()

    def stuck(stopped: threading.Event) -> Source:
        ends.wait(20)
        raise NetworkError("no answer in time")

    choosing = asyncio.create_task(session.set_source(_plan("stuck", stuck)))
    await until(lambda: session._sources.is_active, "the opening")
    began = time.monotonic()
    await session.close()
    assert time.monotonic() - began < 10  # opening it takes 20
    with pytest.raises(EngineError):
        await choosing
    with pytest.raises(EngineError):
        await session.set_source(None)
    ends.set()


@on_loop
async def test_the_thread_ends_with_the_source() -> None:
    session = _session()
    await session.set_source(_plan("one", lambda stopped: _pattern()))
    assert any(thread.name == "source-one" for thread in threading.enumerate())
    await session.set_source(None)
    await until(lambda: not any(thread.name == "source-one" for thread in threading.enumerate()), "its end")
    assert session.source == ""
    await session.close()


@on_loop
async def test_a_lost_stream_is_opened_again_and_its_time_goes_on() -> None:
    opened: list[int] = []

    def camera(stopped: threading.Event) -> Source:
        opened.append(1)
        if len(opened) == 2:
            raise NetworkError("nobody answers")
        return Breaking(5)

    session = _session()
    said: list[tuple[str, str]] = []
    times: list[Fraction] = []
    async with session.subscribe() as frames, session.events() as events:
        await session.set_source(_plan("camera", camera, is_stream=True))
        async for event in events:
            said.append((event.chosen.state, event.chosen.reason))
            if said.count(("running", "")) >= 2 and event.chosen.state == "running" and len(opened) > 2:
                break
        async for frame in frames:
            times.append(frame.pts * frame.time_base)
            if len(opened) > 3 and times[-1] > Fraction(3, 10):
                break
    assert ("reconnecting", "the cable is out") in said
    assert ("reconnecting", "nobody answers") in said
    assert times == sorted(set(times))
    await session.close()


@on_loop
async def test_a_looped_file_goes_forward_over_the_seam(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", frames=5)
    session = _session()
    times: list[Fraction] = []
    async with session.subscribe() as frames:
        plan = SourceRules([tmp_path]).file("clip.mp4", is_looped=True, has_sound=False)
        began = time.monotonic()
        await session.set_source(plan)
        async for frame in frames:
            times.append(frame.pts * frame.time_base)
            if times[-1] >= Fraction(5, 10):
                break
    assert time.monotonic() - began > 0.4  # in real time
    assert all(later > earlier for earlier, later in zip(times, times[1:], strict=False))
    assert len(times) > 6
    await session.close()


@on_loop
async def test_only_a_keeping_source_keeps_a_session() -> None:
    session = _session(abandoned_after_s=0.0)
    await session.set_source(_plan("clip", lambda stopped: _pattern(0.1)), is_keeping=True)
    assert not session.is_abandoned
    await until(lambda: session.chosen.state == "ended", "its end")
    await until(lambda: session.is_abandoned, "being alone")
    await session.set_source(_plan("clip", lambda stopped: _pattern()), is_keeping=False)
    assert session.is_abandoned
    await session.close()


@on_loop
async def test_a_defect_ends_the_source_and_not_the_session() -> None:
    class Wrong(Breaking):
        def frames(self) -> Iterator[VideoFrame | AudioFrame]:
            raise ZeroDivisionError("a defect")

    def unopened(stopped: threading.Event) -> Source:
        raise ZeroDivisionError("a defect")

    session = _session()
    with pytest.raises(MediaError, match="a defect"):
        await session.set_source(_plan("unopened", unopened))
    await session.set_source(_plan("wrong", lambda stopped: Wrong(0)))
    await until(lambda: session.chosen.state == "failed", "the failure")
    assert "a defect" in session.chosen.reason
    await session.set_source(None)
    await session.close()


def test_frames_are_due_by_their_media_time() -> None:
    pacer = Pacer()
    assert pacer.wait_s(3.0, 100.0) == 0
    assert pacer.wait_s(3.5, 100.2) == pytest.approx(0.3)
    assert pacer.wait_s(4.0, 101.2) == 0  # a little late: caught up
    assert pacer.wait_s(4.5, 101.3) == pytest.approx(0.2)
    assert pacer.wait_s(4.6, 109.0) == 0  # much too late: the new beginning
    assert pacer.wait_s(4.7, 109.0) == pytest.approx(0.1)
    assert pacer.wait_s(999.0, 109.0) == 0  # so is a jump ahead


def test_waits_grow_to_a_limit() -> None:
    assert [back_off_s(n) for n in (0, 1, 2, 5, 500)] == [0.5, 1.0, 2.0, 15.0, 15.0]
