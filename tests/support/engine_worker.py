"""A worker with a real engine behind it, and workflows that show in the brightness of a picture."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from app_harness import Lent
from engine_harness import fill, link, node
from worker_harness import Listener, Worker, play, serving

from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import FailPolicy
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_size import FrameSize
from comfystream_server.byoc.backend import WorkflowBackend


def slow(number: float, seconds: float) -> dict[str, Any]:
    """A picture of that brightness, once its number is there."""
    number_node = node("TestSource", number=number, seconds=seconds, tag=str(time.monotonic()))
    return {**fill(0.0), "fill": node("TestFill", like=link("in"), number=link("n")), "n": number_node}


@contextlib.asynccontextmanager
async def working(
    engine: ChildEngine,
    workflows: dict[str, Path | None] | None = None,
    policy: FailPolicy = FailPolicy.PASSTHROUGH,
    capacity: int = 1,
) -> AsyncIterator[Worker]:
    files = workflows or {"test": None}
    options = LiveOptions(on_error=policy, size=FrameSize(width=64, height=48))
    backend = WorkflowBackend(lambda: Lent(engine), options, capacity, files)
    async with serving(backend=backend, capabilities=tuple(files), capacity=capacity) as worker:
        yield worker


def brightness(out: Listener) -> float:
    """Of the newest picture."""
    return next((luma for segment in reversed(out.segments) for luma in reversed(play(segment).luma)), -1.0)
