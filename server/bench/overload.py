"""`bench overload`: a graph three times slower than its input, for minutes: memory, age and drops."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from comfystream.engine.protocol import Engine, EngineOptions, RunnerOptions

from .camera import Arrivals, Camera
from .engines import KINDS, opened
from .graphs import PACK, live
from .pictures import picture
from .rows import Goal, Row

__all__ = ["bench_overload", "slope"]

FPS = 30
GRAPH_MS = 3 * 1000 / FPS
SAMPLE_S = 0.5
FINISH_S = 10.0


def bench_overload(*, seconds: float = 120.0) -> Iterator[Row]:
    """Feed 30 frames per second to a graph that takes 100 ms per frame.

    Args:
        seconds: how long, for each of the two places where an engine may live.
    """
    for kind in KINDS:
        with opened(kind, EngineOptions(packs=(str(PACK),), threads=1)) as engine:
            yield from _measure(engine, kind, seconds)


def _measure(engine: Engine, case: str, seconds: float) -> Iterator[Row]:
    arrivals = Arrivals()
    runner = engine.open(RunnerOptions(live=True), arrivals, lambda event: None)
    runner.activate(runner.prepare(live(("BenchWait", {"milliseconds": GRAPH_MS}))).result())
    processes = [os.getpid(), *([engine.pid] if hasattr(engine, "pid") else [])]
    with Camera(runner, picture(512, 512), FPS) as camera:
        memory = _watch_memory(processes, seconds)
    runner.finish(FINISH_S)
    fed, lost = camera.fed, sum(runner.stats().dropped.values())
    runner.close()
    settled = arrivals.age_ms[3:] or [0.0]
    oldest = max(settled)
    yield Row("overload", case, "oldest output", "ms", oldest, 2 * GRAPH_MS, "two graph times", Goal("ratio", 1.0))
    by_age = sorted(settled)
    yield Row("overload", case, "output age, median", "ms", by_age[len(by_age) // 2])
    yield Row("overload", case, "output age, 99 %", "ms", by_age[int(len(by_age) * 0.99)])
    missing = fed - len(arrivals.at_ns) - lost
    yield Row("overload", case, "lost and not counted", "frames", missing, goal=Goal("ours", 1))
    yield Row("overload", case, "dropped", "frames", lost, fed, "fed")
    if memory:
        yield Row("overload", case, "memory growth", "MB/min", slope(memory) * 60, goal=Goal("ours", 1.0))
        yield Row("overload", case, "memory", "MB", memory[-1][1])


def _watch_memory(processes: Sequence[int], seconds: float) -> list[tuple[float, float]]:
    """Resident memory of all processes in MB, by time; without the first tenth, in which buffers are made."""
    began = time.monotonic()
    samples: list[tuple[float, float]] = []
    while (now := time.monotonic() - began) < seconds:
        sizes = [_resident_mb(pid) for pid in processes]
        if now > seconds / 10 and None not in sizes:
            samples.append((now, sum(size for size in sizes if size is not None)))
        time.sleep(SAMPLE_S)
    return samples


def _resident_mb(pid: int) -> float | None:
    """None where the system does not say it this way."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Least squares slope of (x, y) samples; 0 for fewer than two."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread
