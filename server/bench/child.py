"""`bench child`: what the process border adds to a frame's way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from queue import SimpleQueue

import av

from comfystream.engine.protocol import Engine, EngineOptions, Runner, RunnerOptions
from comfystream.frames import Frame
from comfystream.workflow.model import Workflow

from .camera import frame_of
from .engines import KINDS, opened
from .graphs import live
from .pictures import picture
from .rows import Goal, Row

__all__ = ["bench_child"]

FPS = 30
SIZES = ((512, 512), (1920, 1080))
GRAPHS = {"pass-through": live(), "ImageInvert": live(("ImageInvert", {}))}
GOALS = {(512, 512): Goal("ours", 1.0)}
WAIT_S = 30.0


def bench_child(*, frames: int = 150, warm_up: int = 10) -> Iterator[Row]:
    """Latency from `submit` to the output callback, one frame in flight, 30 frames per second to each engine in turn.

    Args:
        frames: how many are measured per engine and case.
        warm_up: how many go before.
    """
    here, there = KINDS
    options = EngineOptions(threads=1)
    with opened(here, options) as local, opened(there, options) as child:
        for size in SIZES:
            for name, workflow in GRAPHS.items():
                case = f"{name} {size[0]}x{size[1]}"
                probes = [_Probe(engine, workflow, size) for engine in (local, child)]
                yield from _rows(case, GOALS.get(size), probes, frames, warm_up)


def _rows(case: str, goal: Goal | None, probes: list[_Probe], frames: int, warm_up: int) -> Iterator[Row]:
    due = time.monotonic()
    for turn in range(2 * (frames + warm_up)):
        due += 1 / FPS / len(probes)
        time.sleep(max(due - time.monotonic(), 0))
        probes[turn % 2].send()
    local, child = (probe.taken_ms[warm_up:] for probe in probes)
    for probe in probes:
        probe.close()
    ours, baseline = statistics.median(child), statistics.median(local)
    yield Row("child", case, "added latency, median", "ms", ours - baseline, goal=goal)
    yield Row("child", case, "latency, median", "ms", ours, baseline, "in this process")
    yield Row("child", case, "latency, 90 %", "ms", _decile(child), _decile(local), "in this process")


def _decile(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.9)]


class _Probe:
    """Sends frames through one engine, one at a time."""

    def __init__(self, engine: Engine, workflow: Workflow, size: tuple[int, int]) -> None:
        self._arrived: SimpleQueue[int] = SimpleQueue()
        self._image: av.VideoFrame = picture(*size)
        self._runner: Runner = engine.open(RunnerOptions(live=True), self._on_output, lambda event: None)
        self._runner.activate(self._runner.prepare(workflow, size).result())
        self.taken_ms: list[float] = []

    def _on_output(self, frame: Frame) -> None:
        self._arrived.put(time.perf_counter_ns())

    def send(self) -> None:
        """One frame there and back."""
        frame = frame_of(self._image, len(self.taken_ms), FPS)
        began = time.perf_counter_ns()
        self._runner.submit(frame)
        self.taken_ms.append((self._arrived.get(timeout=WAIT_S) - began) / 1e6)

    def close(self) -> None:
        """End the run."""
        self._runner.close()
