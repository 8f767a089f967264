"""`bench worker`: pictures through `comfystream byoc` over trickle, and the gap when its workflow is switched."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from comfystream.errors import NetworkError
from comfystream.media.mpegts.encode import Part
from comfystream.media.mpegts.unit import AccessUnit
from comfystream.trickle.server import TrickleServer

from .rows import Goal, Row
from .swap import LOADS, PACK
from .trips import SETTLE_S, Case, Trip, judge, publish, quiet, record, watch
from .worker_process import STREAM, WorkerProcess, worker_process

__all__ = ["bench_worker", "blur"]

CASES = (Case((512, 512), 30, 1_600_000), Case((1280, 720), 30, 3_200_000))
SWITCH = Case((512, 512), 30, 1_600_000)
STEADY_S, AFTER_S = 3.0, 1.0
TWO_FRAMES = Goal("ours", 66.7)


def blur(sigma: float = 0.3) -> dict[str, Any]:
    """A workflow that works on every pixel, and leaves the counter readable."""
    return {
        "in": {"class_type": "LoadTensor", "inputs": {}},
        "do": {"class_type": "ImageBlur", "inputs": {"image": ["in", 0], "blur_radius": 1, "sigma": sigma}},
        "out": {"class_type": "SaveTensor", "inputs": {"images": ["do", 0]}},
    }


def _loads(seconds: float, class_type: str) -> dict[str, Any]:
    """Inverts the picture once its model is there."""
    return {
        "in": {"class_type": "LoadTensor", "inputs": {}},
        "model": {"class_type": f"{class_type}Load", "inputs": {"seconds": seconds}},
        "apply": {"class_type": f"{class_type}Apply", "inputs": {"image": ["in", 0], "model": ["model", 0]}},
        "out": {"class_type": "SaveTensor", "inputs": {"images": ["apply", 0]}},
    }


@dataclasses.dataclass(slots=True)
class _Run:
    """What goes in and comes out of one stream."""

    worker: WorkerProcess
    base: str
    came: list[tuple[int, AccessUnit]] = dataclasses.field(default_factory=list)
    sent_ns: list[int] = dataclasses.field(default_factory=list)

    async def send(self, recording: list[list[Part]], fps: int) -> None:
        await publish(f"{self.base}/{STREAM}", recording, fps, self.sent_ns)

    def longest_gap_ms(self, since_ns: int, until_ns: int) -> float:
        """The longest time in a span without a picture at the output channel."""
        inside = [at for at, unit in self.came if unit.stream.codec and unit.stream.codec.is_video]
        marks = [since_ns, *(at for at in inside if since_ns < at < until_ns), until_ns]
        return max(after - before for before, after in zip(marks, marks[1:], strict=False)) / 1e6


@contextlib.asynccontextmanager
async def _stream(folder: Path, case: Case, workflow: dict[str, Any] | None, *options: str) -> AsyncIterator[_Run]:
    """A worker with a stream whose output is watched."""
    server = TrickleServer()
    width, height = case.size
    params: dict[str, Any] = {"width": width, "height": height, "max_framerate": 60}
    if workflow is not None:
        params["prompts"] = workflow
    async with server.serving() as base, worker_process(folder / "log", *options) as worker:
        run = _Run(worker, base)
        await worker.start_stream(server, base, **params)
        watching = asyncio.create_task(watch(f"{base}/{STREAM}-out", run.came))
        try:
            yield run
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _trip(folder: Path, case: Case, workflow: dict[str, Any] | None, recording: list[list[Part]]) -> Trip:
    async with _stream(folder, case, workflow) as run:
        await run.worker.until_running()
        if workflow is not None:
            await asyncio.sleep(SETTLE_S)  # it loads beside the stream; the first picture is then one of the workflow
        before = run.worker.cpu_s()
        await run.send(recording, case.fps)
        await quiet(run.came)
        spent_s, peak_mb = run.worker.cpu_s() - before, run.worker.peak_mb()
        lost = (await run.worker.ask("GET", "/stream/status"))["lost"]
    trip = Trip(sent=len(run.sent_ns), peak_mb=peak_mb, lost=lost)
    judge(trip, run.sent_ns, run.came, round(SETTLE_S * case.fps))
    trip.cpu_ms = 1000 * spent_s / max(1, trip.came)
    return trip


async def _switch(folder: Path, pack: Path, load_s: float, kind: str, recording: list[list[Part]]) -> tuple[float, ...]:
    """Longest gaps: from the order to a second after the switch, before it, and of the sender during the switch."""
    async with _stream(folder, SWITCH, blur(), "--nodes", str(pack)) as run:
        sending = asyncio.create_task(run.send(recording, SWITCH.fps))
        try:
            await asyncio.sleep(SETTLE_S)
            began = time.monotonic_ns()
            await asyncio.sleep(STEADY_S)
            ordered = time.monotonic_ns()
            await run.worker.ask("POST", "/stream/params", {"prompts": _loads(load_s, kind)})
            took_s = (time.monotonic_ns() - ordered) / 1e9
            await asyncio.sleep(AFTER_S)
            ended = time.monotonic_ns()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if took_s < load_s:
            raise NetworkError(f"the workflow was there after {took_s:.1f} s", code="bench_failed")
        sent = [at for at in run.sent_ns if ordered < at < ended]
        own = max(after - before for before, after in zip(sent, sent[1:], strict=False)) / 1e6
        return run.longest_gap_ms(ordered, ended), run.longest_gap_ms(began, ordered), own


def bench_worker(seconds: float = 8.0, load_s: float = 5.0) -> Iterator[Row]:
    """Pictures at a constant pace through a local trickle server to a worker and back.

    Args:
        seconds: how long, per case; the first 1.5 of them count for the first picture only.
        load_s: how long the workflow that is switched to takes to load.

    Raises:
        NetworkError: the worker does not run, or nothing came out.
    """
    with tempfile.TemporaryDirectory(prefix="comfystream-bench-") as name:
        folder = Path(name)
        for case in CASES:
            recording = record(case, seconds)
            bare = asyncio.run(_trip(folder, case, None, recording))
            work = asyncio.run(_trip(folder, case, blur(), recording))
            yield from _rows(case, bare, work)
        recording = record(SWITCH, SETTLE_S + STEADY_S + 2 * load_s + AFTER_S + 5)
        for load, code in LOADS.items():
            kind = code.partition("(")[0].replace(".", "_").title().replace("_", "")
            pack = folder / kind
            pack.mkdir()
            (pack / "__init__.py").write_text((PACK % code).replace("Slow", kind), encoding="utf-8")
            gap, steady, own = asyncio.run(_switch(folder, pack, load_s, kind, recording))
            yield Row("worker", f"switch, {load}", "longest gap", "ms", gap, steady, "no switch", TWO_FRAMES)
            yield Row("worker", f"switch, {load}", "longest gap of the sender", "ms", own)


def _rows(case: Case, bare: Trip, work: Trip) -> Iterator[Row]:
    for trip, what in ((bare, "no workflow"), (work, "blur")):
        if len(trip.took_ms) < 2:
            raise NetworkError(
                f"{case.name}, {what}: {trip.came} of {trip.sent} pictures came out", code="bench_failed"
            )

    def row(metric: str, unit: str, figure: Any, goal: Goal | None = None) -> Row:
        return Row("worker", case.name, metric, unit, figure(work), figure(bare), "no workflow", goal)

    yield row("latency p50", "ms", lambda trip: statistics.median(trip.took_ms))
    yield row("latency p95", "ms", lambda trip: statistics.quantiles(trip.took_ms, n=20)[-1])
    yield row("longest", "ms", lambda trip: max(trip.took_ms))
    yield row("CPU per picture", "ms", lambda trip: trip.cpu_ms)
    yield row("first picture", "s", lambda trip: trip.first_s)
    yield row("most memory", "MB", lambda trip: trip.peak_mb)
    yield row(
        "pictures that came out", "%", lambda trip: 100 * trip.came / trip.sent, Goal("ours", 99.0, at_least=True)
    )
    for reason in sorted({*bare.lost, *work.lost}):
        yield row(f"lost, {reason}", "pictures", lambda trip, reason=reason: trip.lost.get(reason, 0))
