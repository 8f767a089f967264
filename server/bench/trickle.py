"""`bench trickle`: how long a picture takes through a worker that passes it on, beside pytrickle's in the same run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from comfystream.errors import NetworkError
from comfystream.media.mpegts.encode import Part
from comfystream.media.mpegts.unit import AccessUnit
from comfystream.trickle.server import TrickleServer

from .rows import Goal, Row
from .trips import MIME, SETTLE_S, Case, Trip, judge, publish, quiet, record, watch

__all__ = ["PEER", "bench_trickle"]

PEER = Path(".peers/pytrickle/bin/python")
DEADLINE_S = 30.0


CASES = (
    Case((512, 512), 30, 1_600_000, Goal("ours", 15.0)),
    Case((1280, 720), 30, 3_200_000, Goal("ratio", 0.2)),
    Case((1280, 720), 60, 3_200_000, Goal("ours", 50.0)),
)


class Worker:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self) -> dict[str, float]:
        """What it has used so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), DEADLINE_S)
        if not line:
            raise NetworkError("the worker's process ended", hint="see what it printed above")
        figures: dict[str, float] = json.loads(line)
        return figures


@contextlib.asynccontextmanager
async def _process(*command: str) -> AsyncIterator[Worker]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        worker = Worker(process)
        await worker.ask()
        yield worker
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def _ours(base: str, case: Case) -> AsyncIterator[Worker]:
    command = (sys.executable, "-m", "comfystream_server.bench.trickle_ours", f"{base}/in", f"{base}/out")
    async with _process(*command) as worker:
        yield worker


def _theirs(python: Path) -> Callable[[str, Case], contextlib.AbstractAsyncContextManager[Worker]]:
    @contextlib.asynccontextmanager
    async def start(base: str, case: Case) -> AsyncIterator[Worker]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        script = Path(__file__).with_name("trickle_pytrickle.py")
        async with _process(str(python), str(script), str(port)) as worker:
            await _start_stream(f"http://127.0.0.1:{port}", base, case)
            yield worker

    return start


async def _start_stream(worker: str, base: str, case: Case) -> None:
    width, height = case.size
    params: dict[str, Any] = {"width": width, "height": height, "max_framerate": 60}
    body = {"subscribe_url": f"{base}/in", "publish_url": f"{base}/out", "gateway_request_id": "bench"}
    deadline = time.monotonic() + DEADLINE_S
    async with aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.post(f"{worker}/stream/start", json={**body, "params": params}) as response:
                    if response.status == 200:
                        return
                    said = await response.text()
            except aiohttp.ClientConnectionError as error:
                said = str(error)
            if time.monotonic() > deadline:
                raise NetworkError(f"pytrickle starts no stream: {said}")
            await asyncio.sleep(0.1)


async def _run(
    start: Callable[[str, Case], contextlib.AbstractAsyncContextManager[Worker]],
    case: Case,
    recording: list[list[Part]],
) -> Trip:
    server = TrickleServer()
    came: list[tuple[int, AccessUnit]] = []
    sent_ns: list[int] = []
    async with server.serving() as base:
        for name in ("in", "out"):
            server.create(name, MIME)
        async with start(base, case) as worker:
            watching = asyncio.create_task(watch(f"{base}/out", came))
            before = await worker.ask()
            await publish(f"{base}/in", recording, case.fps, sent_ns)
            await quiet(came)
            after = await worker.ask()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    trip = Trip(sent=len(sent_ns), peak_mb=after["peak_mb"])
    judge(trip, sent_ns, came, round(SETTLE_S * case.fps))
    trip.cpu_ms = 1000 * (after["cpu_s"] - before["cpu_s"]) / max(1, trip.came)
    return trip


def _rows(case: Case, ours: Trip, theirs: Trip | None) -> Iterator[Row]:
    name = "pytrickle" if theirs is not None else "pytrickle: not installed"
    if theirs is not None and len(theirs.took_ms) < 2:
        name, theirs = f"pytrickle: {theirs.came} of {theirs.sent} pictures came out", None

    def row(metric: str, unit: str, figure: Callable[[Trip], float], goal: Goal | None = None) -> Row:
        baseline = figure(theirs) if theirs is not None else None
        return Row("trickle", case.name, metric, unit, figure(ours), baseline, name, goal)

    yield row("latency p50", "ms", lambda trip: statistics.median(trip.took_ms), case.p50)
    yield row("latency p95", "ms", lambda trip: statistics.quantiles(trip.took_ms, n=20)[-1])
    yield row("longest", "ms", lambda trip: max(trip.took_ms))
    yield row("CPU per picture", "ms", lambda trip: trip.cpu_ms, Goal("ratio", 0.5))
    yield row("first picture", "s", lambda trip: trip.first_s, Goal("ours", 0.3))
    yield row("most memory", "MB", lambda trip: trip.peak_mb)
    yield row(
        "pictures that came out", "%", lambda trip: 100 * trip.came / trip.sent, Goal("ours", 99.0, at_least=True)
    )


def bench_trickle(seconds: float = 8.0, pytrickle: Path | None = None) -> Iterator[Row]:
    """Pictures at a constant pace through a local trickle server to a worker and back.

    Args:
        seconds: how long, per case and worker; the first 1.5 of them count for the first picture only.
        pytrickle: an interpreter that has it; None uses `PEER` if it is there.

    Raises:
        NetworkError: a worker does not run, or nothing came out of ours.
    """
    python = pytrickle or PEER
    for case in CASES:
        recording = record(case, seconds)
        ours = asyncio.run(_run(_ours, case, recording))
        if len(ours.took_ms) < 2:
            raise NetworkError(f"{case.name}: {ours.came} of {ours.sent} pictures came out", code="bench_failed")
        theirs = asyncio.run(_run(_theirs(python.absolute()), case, recording)) if python.exists() else None
        yield from _rows(case, ours, theirs)
