"""A stream's channels: conformance 54 to 60 of the contract."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from on_loop import on_loop, until
from worker_harness import Invert, camera, listening, orchestrator, play, serving

from comfystream.byoc import FrameProcessor, events
from comfystream.trickle.server import TrickleServer

HEARTBEAT = {"type", "timestamp", "urls", "dimensions", "fps"}
STATUS = {
    "type", "timestamp", "pipeline", "start_time", "state", "last_state_update_time", "input_status",
    "inference_status", "last_status_timestamp",
}  # fmt: skip


@on_loop
async def test_54_events_begin_at_once_and_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert events.BEAT_S < 10
    monkeypatch.setattr("comfystream.byoc.stream.BEAT_S", 0.3)
    async with orchestrator() as orch, serving() as worker:
        body = orch.stream()
        began = asyncio.get_running_loop().time()
        await worker.call("POST", "/stream/start", body)
        async with listening(body["events_url"]) as heard:
            await until(lambda: heard.segments, "the first event")
            assert heard.times[0] - began < 2
            async with camera(body["subscribe_url"]):
                await until(lambda: len(heard.events("heartbeat")) > 5, "heartbeats")
        assert all(set(said) == {"event", "queue_event_type"} for said in heard.documents)
        beat, status = heard.events("heartbeat")[-1], heard.events("status")[-1]
        assert (set(beat), set(status)) == (HEARTBEAT, STATUS)
        assert set(beat["urls"]) == {"subscribe", "publish", "control", "events", "data"}
        assert beat["dimensions"] == {"width": 64, "height": 48}
        assert beat["fps"]["egress_video_fps"] > 0
        assert status["state"] == "ONLINE"
        assert heard.events("receive_first_ingest_segment")
        assert heard.events("send_first_processed_segment")


@pytest.mark.slow
@on_loop
async def test_55_pictures_go_out_from_the_start_while_it_still_loads() -> None:
    processor = Invert()
    processor.may_start.clear()
    async with orchestrator() as orch, serving(processor) as worker:
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        async with (
            listening(body["publish_url"]) as out,
            listening(body["events_url"]) as heard,
            camera(body["subscribe_url"], value=60),
        ):
            await until(lambda: len(out.segments) >= 4, "segments while it loads")
            assert processor.pictures == 0
            assert max(later - one for one, later in zip(out.times, out.times[1:], strict=False)) < 3
            assert max(play(out.segments[3]).luma) < 60, "a dark card, not the camera and not its negative"
            processor.may_start.set()
            await until(lambda: min(play(out.segments[-1]).luma, default=0) > 150, "processed pictures")
        assert heard.events("status")[0]["state"] == "LOADING"


@on_loop
async def test_56_output_segments_are_what_gateways_can_play() -> None:
    async with orchestrator() as orch, serving() as worker:
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], sound=True):
            await until(lambda: len(out.segments) >= 5, "segments")
        played = [play(segment) for segment in out.segments[1:5]]
        for one in played:
            assert one.codecs == {"video": "h264", "audio": "opus"}
            assert one.keys[0]
            assert not one.has_b
            assert one.sounds
            assert one.size == (64, 48)
        times = [time for one in played for time in one.times]
        assert times == sorted(times)
        assert len(set(times)) == len(times)


@on_loop
async def test_57_data_is_lines_of_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfystream.byoc.links.DATA_ALIVE_S", 0.3)
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        assert not await processor.send_data("nobody hears it")
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        async with listening(body["data_url"]) as said, listening(body["events_url"]) as heard:
            await until(lambda: b"[]\n" in said.segments, "a keep-alive")
            for number in range(40):
                assert await processor.send_data("x" * 5000 + str(number))
            await processor.send_data("y" * 70_000)
            await processor.send_data({"answer": 42})
            await until(lambda: {"answer": 42} in [item for line in said.documents for item in line], "the last item")
            await until(lambda: heard.events("error"), "word of the one that was too long")
        lines = [line for segment in said.segments for line in segment.splitlines(keepends=True)]
        assert all(line.endswith(b"]\n") and len(line) < 65_000 for line in lines)
        texts = [item for line in said.documents for item in line if isinstance(item, str)]
        assert texts == ["x" * 5000 + str(number) for number in range(40)]


@on_loop
async def test_what_is_sent_while_a_stream_starts_waits_for_the_channel() -> None:
    class Greets(Invert):
        async def on_stream_start(self, params: dict[str, Any]) -> None:
            await self.send_data({"hello": params.get("name")})

    async with orchestrator() as orch, serving(Greets()) as worker:
        body = orch.stream() | {"params": {"name": "camera"}}
        async with listening(body["data_url"]) as said:
            assert (await worker.call("POST", "/stream/start", body))[0] == 200
            greeting = {"hello": "camera"}
            await until(lambda: greeting in [item for line in said.documents for item in line], "the greeting")


@on_loop
async def test_58_the_control_channel_does_what_a_request_does() -> None:
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        large = {"prompt_text": "p" * 200 * 1024}
        async with listening(body["events_url"]) as heard:
            await orch.send_control({"keep": "alive"}, b"{no json", {"bad": True}, [1], {"width": 1}, large)
            await until(lambda: processor.params, "the large message")
            await orch.send_control({"keep": "alive"}, {"strength": 2})
            await until(lambda: len(heard.events("params_updated")) == 2, "both updates told")
            assert processor.params == [large, {"strength": 2}]
            await until(lambda: len(heard.events("error")) >= 3, "each refusal told")
            assert await worker.status() == "OK"
            await worker.call("POST", "/stream/params", {"strength": 3})
            await until(lambda: len(heard.events("params_updated")) == 3, "one event for a request")
        assert heard.events("params_updated")[0]["params"] == {"prompt_text": "(long)"}


@pytest.mark.parametrize("suffix", ["", "-out", "-control", "-events", "-data"])
@on_loop
async def test_59_the_end_of_a_channel_is_the_end_of_the_stream(suffix: str) -> None:
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        for round in range(2):
            body = orch.stream(f"s{round}")
            assert (await worker.call("POST", "/stream/start", body))[0] == 200
            async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
                await until(lambda out=out: out.segments, "output")
                ended = asyncio.get_running_loop().time()
                orch.server.close(f"s{round}{suffix}")
                await worker.until_idle()
                assert asyncio.get_running_loop().time() - ended < 5
            orch.end(f"s{round}")
        assert (processor.starts, processor.stops) == (2, 2)


@on_loop
async def test_59_a_channel_that_never_was_ends_the_stream_too() -> None:
    async with orchestrator() as orch, serving() as worker:
        body = {"gateway_request_id": "ghost", "control_url": f"{orch.url}/ghost-control"}
        assert (await worker.call("POST", "/stream/start", body))[0] == 200
        await worker.until_idle()


@on_loop
async def test_59_a_channel_on_which_nothing_is_said_tells_its_end_too() -> None:
    """No text was ever sent: only the request that stands open for one can tell."""
    async with orchestrator() as orch, serving() as worker:
        body = orch.stream()
        assert (await worker.call("POST", "/stream/start", body))[0] == 200
        await until(lambda: worker.server.worker.state == "RUNNING", "its stream")
        began = asyncio.get_running_loop().time()
        orch.server.close("s1-data")
        await worker.until_idle()
        assert asyncio.get_running_loop().time() - began < 5


@on_loop
async def test_60_a_worker_deletes_nothing() -> None:
    asked: list[tuple[str, str]] = []
    async with watched_orchestrator(asked) as (orch, url), serving() as worker:
        body = {"gateway_request_id": "s1"}
        for suffix, field in {"": "subscribe", "-out": "publish", "-control": "control", "-events": "events"}.items():
            orch.create(f"s1{suffix}")
            body[f"{field}_url"] = f"{url}/s1{suffix}"
        await worker.call("POST", "/stream/start", body)
        async with camera(body["subscribe_url"]):
            await until(lambda: ("POST", "/s1-out/1") in asked, "output")
            await worker.call("POST", "/stream/stop")
        assert {channel for method, channel in asked if method == "DELETE"} <= {"/s1"}, "the camera owns that one"


@contextlib.asynccontextmanager
async def watched_orchestrator(asked: list[tuple[str, str]]) -> AsyncIterator[tuple[TrickleServer, str]]:
    """A trickle server that writes down what is asked of it."""

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        asked.append((request.method, request.path))
        answer: web.StreamResponse = await handler(request)
        return answer

    server = TrickleServer()
    app = server.app()
    app.middlewares.append(note)
    async with TestServer(app) as site:
        yield server, str(site.make_url("")).rstrip("/")


@pytest.mark.slow
@on_loop
async def test_sizes_rates_and_out_sizes() -> None:
    class Half(Invert):
        async def process_video_async(self, frame: Any) -> Any:
            self.seen = tuple(frame.tensor.shape)
            return frame.replace_tensor(frame.tensor[:, ::2, ::2])

    for params, size in (({}, (48, 24)), ({"detect_out_resolution": False}, (96, 48))):
        processor = Half()
        params = {"width": 96, "height": 49, "max_framerate": 8, **params}
        async with orchestrator() as orch, serving(processor) as worker:
            body = orch.stream(params=params)
            await worker.call("POST", "/stream/start", body)
            async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], fps=24):
                await until(lambda out=out: len(out.segments) >= 4, "segments")
            assert processor.seen == (1, 48, 96, 3)
            played = play(out.segments[3])
            assert played.size == size
            gaps = [later - one for one, later in zip(played.times, played.times[1:], strict=False)]
            assert min(gaps) >= 0.12, "eight pictures a second"


@on_loop
async def test_a_size_in_an_update_leaves_the_pictures_as_they_are() -> None:
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
            await until(lambda: out.segments, "output")
            assert (await worker.call("POST", "/stream/params", {"width": 96, "height": 64}))[0] == 200
            assert processor.params == [{"width": 96, "height": 64}]
            seen = len(out.segments)
            await until(lambda: len(out.segments) > seen + 1, "output after it")
        assert {play(segment).size for segment in out.segments} == {(64, 48)}


@on_loop
async def test_two_streams_keep_their_texts_apart() -> None:
    class Says(Invert):
        async def process_video_async(self, frame: Any) -> Any:
            await self.send_data(round(float(frame.tensor.mean()), 1))
            return frame

    processor = Says()
    async with orchestrator() as orch, serving(processor, capacity=2) as worker:
        dark, light = orch.stream("dark"), orch.stream("light")
        for body in (dark, light):
            assert (await worker.call("POST", "/stream/start", body))[0] == 200
        async with (
            listening(dark["data_url"]) as from_dark,
            listening(light["data_url"]) as from_light,
            camera(dark["subscribe_url"], value=0),
            camera(light["subscribe_url"], value=255),
        ):
            await until(lambda: len(from_dark.segments) > 2 and len(from_light.segments) > 2, "texts of both")
            await worker.call("POST", "/stream/stop", headers={"X-Stream-Id": "dark"})
            seen = len(from_light.segments)
            await until(lambda: len(from_light.segments) > seen + 1, "texts of the one that goes on")
        assert {item for line in from_dark.documents for item in line} == {0.0}
        assert {item for line in from_light.documents for item in line} == {1.0}


@on_loop
async def test_plain_methods_run_beside_the_loop_and_the_short_form_is_enough() -> None:
    class Plain(Invert):
        process_video_async = FrameProcessor.process_video_async

        def process_frame(self, frame: Any) -> Any:
            self.thread = threading.current_thread()
            return 1.0 - frame.tensor.movedim(-1, 1)

        def process_audio_async(self, frame: Any) -> Any:
            return frame.replace_samples(frame.samples * 0.5)

    processor = Plain()
    async with orchestrator() as orch, serving(processor) as worker:
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], sound=True):
            await until(lambda: len(out.segments) >= 2, "output")
        assert min(play(out.segments[1]).luma) > 150
        assert play(out.segments[1]).sounds
        assert processor.thread is not threading.main_thread()


class Slow(Invert):
    """Takes longer than the camera leaves it."""

    def process_video_async(self, frame: Any) -> Any:
        time.sleep(0.12)
        return frame


@on_loop
async def test_the_status_says_where_pictures_are_lost() -> None:
    async with orchestrator() as orch, serving(Slow()) as worker:
        body = orch.stream(params={"max_framerate": 15})
        assert (await worker.call("POST", "/stream/start", body))[0] == 200
        lost: dict[str, int] = {}
        async with camera(body["subscribe_url"], fps=30):
            while not {"above max_framerate", "work: busy"} <= set(lost):
                await asyncio.sleep(0.05)
                _, said = await worker.call("GET", "/stream/status")
                lost = said["lost"]
        assert min(lost.values()) > 0
