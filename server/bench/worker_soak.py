"""`bench worker --soak`: edits every second, streams that begin and end: does the worker stay as it was?"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Coroutine
from fractions import Fraction
from pathlib import Path
from typing import Any

from comfystream.errors import NetworkError
from comfystream.frames import VideoFrame
from comfystream.media.pattern import draw_pattern
from comfystream.trickle.media_in import MediaReader
from comfystream.trickle.media_out import MediaWriter
from comfystream.trickle.server import TrickleServer
from comfystream.trickle.writer import TrickleWriter

from .soak import EDIT_S, SAMPLE_S, SWAP_EVERY, WARM_UP_S, Soaked, graph, watch_lag
from .soak_client import FPS, SIZE, Ages
from .soak_watch import Sample, read_process
from .worker_process import KINDS, WorkerProcess, read_log, worker_process

__all__ = ["bench_worker_soak"]

STEADY = "steady"
STAY_S = 6.0
END_S = 5.0
BAD = {"in": {"class_type": "NoSuchNode", "inputs": {}}}


class _Ends:
    """A worker, its channels, and what stands at their far ends."""

    def __init__(self, worker: WorkerProcess, server: TrickleServer, base: str, found: Soaked) -> None:
        self.worker = worker
        self.server = server
        self.base = base
        self.found = found

    async def start(self, id: str, number: int) -> None:
        width, height = SIZE
        await self.worker.start_stream(
            self.server, self.base, id, width=width, height=height, prompts=graph(number)
        )

    async def shoot(self, id: str, ages: Ages) -> None:
        """The camera: numbered pictures, until it is cancelled or the channel ends."""
        async with MediaWriter(f"{self.base}/{id}") as writer:
            began = time.monotonic()
            for number in itertools.count():
                await asyncio.sleep(max(0.0, began + number / FPS - time.monotonic()))
                ages.sent(number & 0xFFFF)
                if not writer.offer(VideoFrame(number, number, Fraction(1, FPS), draw_pattern(*SIZE, number))):
                    return

    async def look(self, id: str, ages: Ages) -> None:
        """The viewer, until the channel ends."""
        async with MediaReader(f"{self.base}/{id}-out") as reader:
            async for frame in reader:
                if isinstance(frame, VideoFrame):
                    ages.came(frame)

    async def tried(self, what: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except NetworkError as error:
            self.found.troubles.append(f"{what}: {error}")

    def end(self, id: str) -> None:
        for suffix in KINDS:
            self.server.close(id + suffix)


def bench_worker_soak(minutes: float) -> Soaked:
    """Run it.

    Args:
        minutes: how long; the first third, two and a half minutes at most, is the warm-up.

    Raises:
        NetworkError: the worker did not start, or ended.
    """
    with tempfile.TemporaryDirectory(prefix="comfystream-soak-") as folder:
        return asyncio.run(_soak(minutes * 60, Path(folder) / "log"))


async def _soak(seconds: float, log: Path) -> Soaked:
    found = Soaked(warm_up_s=min(WARM_UP_S, seconds / 3), bench="worker soak", ages=[Ages()])
    server = TrickleServer()
    async with server.serving() as base, worker_process(log, "--capacity", "2") as worker:
        ends = _Ends(worker, server, base, found)
        await ends.start(STEADY, 0)
        work = [
            ends.shoot(STEADY, found.ages[0]),
            ends.look(STEADY, found.ages[0]),
            _edit(ends),
            _come_and_go(ends),
            _sample(ends),
            watch_lag(found),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        done, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.wait(tasks)
        for task in done:
            task.result()
        if done:
            found.troubles.append("the steady stream ended")
        for line in read_log(log).splitlines():
            if "Traceback" in line or " ERROR" in line:
                found.troubles.append(f"the worker's log: {line[:200]}")
    return found


async def _edit(ends: _Ends) -> None:
    """Each second a value or a whole workflow, by request and by control channel in turn; some are refused."""
    url = f"{ends.base}/{STEADY}-control"
    async with TrickleWriter(url, content_type="application/json", start=None) as control:
        for number in itertools.count(1):
            await asyncio.sleep(EDIT_S)
            edited = graph(number // SWAP_EVERY)
            edited["say"]["inputs"]["data"] = f"edit {number}"
            body = {"prompts": edited}
            if number % 10 == 7:
                await _refused(ends)
            elif number % 2:
                await ends.tried("an edit", ends.worker.ask("POST", "/stream/params", body, STEADY))
            else:
                await control.send(json.dumps(body).encode())
            ends.found.edits += 1


async def _refused(ends: _Ends) -> None:
    try:
        await ends.worker.ask("POST", "/stream/params", {"prompts": BAD}, STEADY)
    except NetworkError:
        return
    ends.found.troubles.append("a workflow with an unknown node was taken")


async def _come_and_go(ends: _Ends) -> None:
    """A second stream that begins and ends: stopped, or by the end of its channels."""
    for number in itertools.count(1):
        id, ages = f"guest{number}", Ages()
        await ends.tried("a start", ends.start(id, number))
        both = [asyncio.create_task(ends.shoot(id, ages)), asyncio.create_task(ends.look(id, ages))]
        await asyncio.sleep(STAY_S)
        if number % 2:
            stop = ends.worker.ask("POST", "/stream/stop", None, id)
            await ends.tried("a stop", stop)
        ends.end(id)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        ended = time.monotonic()
        await ends.worker.until_streams(1)
        if time.monotonic() - ended > END_S:
            ends.found.troubles.append(f"stream {id} ended after {time.monotonic() - ended:.1f} s")
        if not ages.seen:
            ends.found.troubles.append(f"stream {id} gave no picture")
        ends.found.joins += 1


async def _sample(ends: _Ends) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(SAMPLE_S)
        said = await ends.worker.ask("GET", "/stream/status")
        pid = ends.worker.pid
        server_mb, server_threads, server_fds = read_process(pid)
        engine_mb, engine_threads, engine_fds = read_process(ends.worker.engine_pid())
        ends.found.samples.append(
            Sample(
                at_s=round(time.monotonic() - began, 1),
                server_mb=server_mb,
                engine_mb=engine_mb,
                server_threads=server_threads,
                engine_threads=engine_threads,
                server_fds=server_fds,
                engine_fds=engine_fds,
                tasks=said["additional_info"]["tasks"],
                sessions=said["active_streams"],
                viewers=said["active_streams"],
            )
        )
