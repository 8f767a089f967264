"""The sample of the guide for app developers, as it stands there, with only the imports changed."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

import aiohttp
import pytest
import torch
from on_loop import on_loop, until
from worker_harness import camera, listening, orchestrator, play

import comfystream.byoc.server as server_module

SAMPLE = '''
from comfystream.byoc import FrameProcessor, StreamServer
from comfystream.byoc.frames import VideoFrame, AudioFrame
from typing import Optional, List
import torch

class MyAIProcessor(FrameProcessor):
    """Custom AI video processor."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.model = None

    async def initialize(self):
        """Load your model here. Called once on startup."""
        # Load your model
        self.model = load_my_model()  # your model loading logic

    async def process_video_async(self, frame: VideoFrame) -> Optional[VideoFrame]:
        """Process a single video frame. Called once per frame."""
        tensor = frame.tensor  # PyTorch tensor: (H, W, C) or (C, H, W)

        # Run your model
        with torch.no_grad():
            processed = self.model(tensor)

        return frame.replace_tensor(processed)

    async def process_audio_async(self, frame: AudioFrame) -> Optional[List[AudioFrame]]:
        """Process audio. Return None to drop, return frame list to pass through."""
        return [frame]

    def update_params(self, params: dict):
        """Handle real-time parameter updates from the gateway or client."""
        pass  # implement if your model supports dynamic configuration


async def main():
    processor = MyAIProcessor()
    await processor.start()

    server = StreamServer(
        frame_processor=processor,
        port=8000,
        capability_name="live-video-to-video",  # must match the pipeline type expected by the gateway
    )
    await server.run_forever()
'''


@on_loop
async def test_the_sample_of_the_guide_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    original = server_module.StreamServer.__init__

    def on_a_free_port(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **{**options, "port": 0, "host": "127.0.0.1"})
        made.append(self)

    monkeypatch.setattr(server_module.StreamServer, "__init__", on_a_free_port)
    sample = types.ModuleType("sample")
    monkeypatch.setitem(sys.modules, "sample", sample)
    exec(compile(SAMPLE, "sample.py", "exec"), sample.__dict__)
    sample.__dict__["load_my_model"] = lambda: torch.nn.Threshold(2.0, 1.0)  # all below 2 becomes 1: white
    serving = asyncio.create_task(sample.__dict__["main"]())
    await until(lambda: made and made[0].port and made[0].worker.state == "IDLE", "the server")
    async with orchestrator() as orch:
        body = orch.stream(data=False, params={"width": 704, "height": 384})
        url = f"http://127.0.0.1:{made[0].port}/api/stream"
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{url}/start", json=body) as response:
                assert response.status == 200
            async with (
                listening(body["publish_url"]) as out,
                camera(body["subscribe_url"], value=40, sound=True, size=(96, 64), fps=10),
            ):
                await until(lambda: len(out.segments) >= 3, "output")
            async with session.get(f"{url}/status") as response:
                assert (await response.json())["client_running"] is True
            async with session.post(f"{url}/params", json={"strength": 2}) as response:
                assert response.status == 200
            async with session.post(f"{url}/stop") as response:
                assert response.status == 200
        shown = play(out.segments[2])
        assert (shown.size, shown.codecs) == ((704, 384), {"video": "h264", "audio": "opus"})
        assert shown.luma[-1] > 220
    made[0].stop()
    await serving

