"""The way of a frame alone: a picture in, one node that touches every pixel, a picture out; beside frames on the host.

No codec takes part. Flat out, pictures are given as a file's are (none is dropped); paced, as a camera's, and what is
measured is the time from giving a picture to getting what was made of it.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import EngineOptions, RunnerOptions
from comfystream.errors import ConfigError, EngineError
from comfystream.frames import Frame, VideoFrame
from comfystream.media.device.backend import DeviceBackend, HostBackend, open_backend
from comfystream.workflow.model import Workflow

from .conversion import bench_conversion
from .graphs import live
from .rows import Goal, Row

__all__ = ["bench_frame_path"]

TOUCH = live(("ImageInvert", {}))
WARM_UP = 30
FPS = 60
DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class _Found:
    fps: float
    p50_ms: float
    p95_ms: float


def bench_frame_path(
    *, device: str = "cuda", size: tuple[int, int] = (512, 512), frames: int = 1000, seconds: float = 5.0
) -> Iterator[Row]:
    """Speed and added latency of the frame path.

    Args:
        device: "cuda", or "cpu" for the same code on the processor.
        size: width and height of the pictures, in and out.
        frames: pictures of the flat-out run.
        seconds: length of the paced run, at 60 pictures a second.

    Raises:
        ConfigError: there is no such device.
        EngineError: pictures were lost.
    """
    backend = _backend(device)
    ours = _measure(LocalEngine(EngineOptions(threads=1), backend=backend), size, frames, seconds)
    host = _measure(LocalEngine(EngineOptions(threads=1, frames_on="host")), size, frames, seconds)
    case, baseline = f"{backend.name} {size[0]}x{size[1]}", "frames on the host"
    yield Row("frame-path", case, "speed", "fps", ours.fps, host.fps, baseline, Goal("ours", 1000.0, at_least=True))
    yield Row("frame-path", case, "added latency, p50", "ms", ours.p50_ms, host.p50_ms, baseline, Goal("ours", 1.0))
    yield Row("frame-path", case, "added latency, p95", "ms", ours.p95_ms, host.p95_ms, baseline)
    yield from bench_conversion(backend, size, frames)


def _backend(device: str) -> DeviceBackend:
    if device == "cpu":
        return HostBackend()
    found = open_backend(device)
    if found is None:
        raise ConfigError(f'"{device}" is no device to put frames on', hint="cuda or cpu")
    return found


def _measure(engine: LocalEngine, size: tuple[int, int], frames: int, seconds: float) -> _Found:
    pictures = _pictures(size)
    try:
        fps = _flat_out(engine, TOUCH, pictures, frames)
        delays = sorted(_paced(engine, TOUCH, pictures, round(seconds * FPS)))
    finally:
        engine.close()
    return _Found(fps, statistics.median(delays), delays[int(0.95 * (len(delays) - 1))])


def _pictures(size: tuple[int, int]) -> list[av.VideoFrame]:
    """Different ones, as a decoder gives them: nothing can be kept from one to the next."""
    rng = np.random.default_rng(0)
    made = [av.VideoFrame(*size, "yuv420p") for _ in range(8)]
    for picture in made:
        for plane in picture.planes:
            plane.update(rng.integers(16, 236, plane.buffer_size, np.uint8).tobytes())
    return made


def _frame(number: int, pictures: list[av.VideoFrame]) -> VideoFrame:
    return VideoFrame(number, number, Fraction(1, FPS), pictures[number % len(pictures)])


def _flat_out(engine: LocalEngine, graph: Workflow, pictures: list[av.VideoFrame], frames: int) -> float:
    """Pictures per second."""
    times: list[int] = []
    runner = engine.open(RunnerOptions(live=False), lambda frame: times.append(time.perf_counter_ns()), _ignore)
    try:
        runner.activate(runner.prepare(graph, _frame(0, pictures)).result())
        for number in range(WARM_UP + frames):
            runner.submit(_frame(number, pictures))
        if not runner.finish(DEADLINE_S) or len(times) != WARM_UP + frames:
            raise EngineError(f"{len(times)} of {WARM_UP + frames} pictures came out")
    finally:
        runner.close()
    return frames * 1e9 / (times[-1] - times[WARM_UP - 1])


def _paced(engine: LocalEngine, graph: Workflow, pictures: list[av.VideoFrame], frames: int) -> list[float]:
    """Milliseconds from giving a picture to getting it, one after another."""
    given: dict[int, int] = {}
    delays: dict[int, float] = {}
    arrived = threading.Event()

    def on_output(frame: Frame) -> None:
        delays[frame.id] = (time.perf_counter_ns() - given[frame.id]) / 1e6
        arrived.set()

    runner = engine.open(RunnerOptions(live=True), on_output, _ignore)
    try:
        runner.activate(runner.prepare(graph, _frame(0, pictures)).result())
        for number in range(WARM_UP + frames):
            due = time.monotonic() + 1 / FPS
            arrived.clear()
            given[number] = time.perf_counter_ns()
            runner.submit(_frame(number, pictures))
            if not arrived.wait(DEADLINE_S):
                raise EngineError(f"picture {number} did not come out")
            time.sleep(max(0.0, due - time.monotonic()))
    finally:
        runner.close()
    return [delay for number, delay in delays.items() if number >= WARM_UP]


def _ignore(event: object) -> None:
    """What happens beside the pictures is not measured."""
