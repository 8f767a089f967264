"""`bench soak`: a server under the life of several days in minutes, and whether it stays as it was."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfystream.errors import NetworkError

from .rows import Goal, Row
from .soak_client import Ages, Client, Program, program
from .soak_watch import OLDEST_MS, Sample, read_process, verdicts

__all__ = ["EDIT_S", "SAMPLE_S", "SWAP_EVERY", "WARM_UP_S", "Soaked", "bench_soak", "graph", "watch_lag"]

SESSIONS = 4
WARM_UP_S = 150.0  # the history of a session holds a hundred revisions, which are a hundred seconds here
SAMPLE_S = 3.0
EDIT_S = 1.0
SWAP_EVERY = 5
STAY_S = 3.0
HELD_S, FREE_S = 2.0, 2.0


@dataclass(slots=True)
class Soaked:
    """What was seen.

    Attributes:
        samples: over time.
        ages: per session.
        troubles: what went wrong, in words.
        edits, joins: how many there were.
        lag_ms: how late the loop of the bench itself was at most; a frame cannot seem younger than that.
        dropped: frames that the server says it dropped.
    """

    warm_up_s: float
    samples: list[Sample] = field(default_factory=list)
    ages: list[Ages] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    edits: int = 0
    joins: int = 0
    lag_ms: float = 0.0
    dropped: float = 0.0
    frames: float = 0.0
    bench: str = "soak"

    def rows(self) -> list[Row]:
        """The figures, those that have to be met with a goal."""
        oldest = max((ages.oldest_ms for ages in self.ages), default=0.0)
        silent = sum(ages.seen == 0 for ages in self.ages)
        return [
            *(dataclasses.replace(row, bench=self.bench) for row in verdicts(self.samples, self.warm_up_s)),
            Row(self.bench, "viewers", "oldest frame", "ms", oldest, goal=Goal("ours", OLDEST_MS)),
            Row(self.bench, "viewers", "frames seen", "", sum(ages.seen for ages in self.ages)),
            Row(self.bench, "viewers", "sessions without a picture", "", silent, goal=Goal("ours", 1)),
            Row(self.bench, "viewers", "edits refused, viewers lost", "", len(self.troubles), goal=Goal("ours", 1)),
            Row(self.bench, "viewers", "joined and left", "", self.joins),
            Row(self.bench, "server", "edits", "", self.edits),
            Row(self.bench, "server", "frames dropped", "", self.dropped, self.frames, "frames in"),
            Row(self.bench, "bench", "own loop late by at most", "ms", self.lag_ms),
        ]


def bench_soak(minutes: float) -> Soaked:
    """Run it.

    Args:
        minutes: how long; the first third, two and a half minutes at most, is the warm-up.

    Raises:
        NetworkError: the server did not start, or ended.
    """
    with tempfile.TemporaryDirectory(prefix="comfystream-soak-") as folder:
        return asyncio.run(_soak(minutes * 60, Path(folder) / "log"))


async def _soak(seconds: float, log: Path) -> Soaked:
    found = Soaked(warm_up_s=min(WARM_UP_S, seconds / 3))
    async with program(log, "--max-sessions", str(SESSIONS + 2), "--threads", "1") as server:
        found.ages = [Ages() for _ in range(SESSIONS)]
        residents = [Client(server, ages, has_camera=True) for ages in found.ages]
        try:
            for number, client in enumerate(residents):
                await client.connect(prompts=graph(number))
            await _live(server, residents, found, seconds)
            figures = await server.figures()
            found.dropped = figures.get("comfystream_dropped_total", 0.0)
            found.frames = figures.get("comfystream_frames_total", 0.0)
        finally:
            for client in residents:
                await client.close()
    return found


async def _live(server: Program, residents: list[Client], found: Soaked, seconds: float) -> None:
    """All that goes on at once, until the time is over."""
    work: list[Awaitable[None]] = [
        _sample(server, found),
        watch_lag(found),
        _come_and_go(server, residents, found),
        _slow(server, residents[0].session),
        *(_edit(server, client.session, found) for client in residents),
    ]
    tasks = [asyncio.ensure_future(one) for one in work]
    done, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()
    for client in residents:
        if client.states[-1:] != ["connected"]:
            found.troubles.append(f"a resident viewer is {client.states[-1:]}")


def graph(number: int) -> dict[str, Any]:
    """One of two kinds of graph; both leave the counter readable, and one changes the size of the picture."""
    between = (
        {"class_type": "ImageBlur", "inputs": {"image": ["in", 0], "blur_radius": 1, "sigma": 0.1 + number % 5 / 20}}
        if number % 2
        else {
            "class_type": "ImageScaleBy",
            "inputs": {"image": ["in", 0], "upscale_method": "bilinear", "scale_by": 1 + number % 3 / 4},
        }
    )
    return {
        "in": {"class_type": "LoadTensor", "inputs": {}},
        "do": between,
        "say": {"class_type": "SaveTextTensor", "inputs": {"data": f"graph {number}"}},
        "out": {"class_type": "SaveTensor", "inputs": {"images": ["do", 0]}},
    }


async def _tried(found: Soaked, what: str, work: Awaitable[Any]) -> Any:
    try:
        return await work
    except NetworkError as error:
        found.troubles.append(f"{what}: {error}")
        return None


async def _edit(server: Program, session: str, found: Soaked) -> None:
    """Each second a value, and now and then a whole workflow or a step back."""
    for number in itertools.count(1):
        await asyncio.sleep(EDIT_S)
        message: dict[str, Any] = {
            "type": "patch",
            "patches": [{"node": "say", "input": "data", "value": f"edit {number}"}],
        }
        if number % SWAP_EVERY == 0:
            message = {"type": "set_workflow", "workflow": graph(number // SWAP_EVERY)}
        elif number % (2 * SWAP_EVERY) == 3:
            message = {"type": "undo"}
        path = f"/api/v1/sessions/{session}/control"
        if await _tried(found, message["type"], server.ask("POST", path, message)):
            found.edits += 1


async def _come_and_go(server: Program, residents: list[Client], found: Soaked) -> None:
    """Viewers of a running session, and in turn with them sessions that begin and end."""
    for number in itertools.count():
        await asyncio.sleep(random.uniform(0.2, 1.0))
        is_new = number % 3 == 2
        at = number % SESSIONS
        client = Client(server, Ages() if is_new else found.ages[at], has_camera=is_new)
        body = {"prompts": graph(number)} if is_new else {"session": residents[at].session}
        try:
            await _tried(found, "a viewer", client.connect(**body))
            await asyncio.sleep(STAY_S)
            found.joins += 1
        finally:
            await client.close()
        if is_new and client.session:
            await _tried(found, "end", server.ask("DELETE", f"/api/v1/sessions/{client.session}"))


async def _slow(server: Program, session: str) -> None:
    """A viewer that is held by the system half of the time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        "from comfystream_server.bench.soak_slow import main; main()",
        server.address,
        session,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        while process.returncode is None:
            await asyncio.sleep(FREE_S)
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(HELD_S)
            process.send_signal(signal.SIGCONT)
        raise NetworkError("the slow viewer ended")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        await process.wait()


async def _sample(server: Program, found: Soaked) -> None:
    began, engine = time.monotonic(), 0
    while True:
        await asyncio.sleep(SAMPLE_S)
        engine = engine or server.engine_pid()
        figures = await server.figures()
        server_mb, server_threads, server_fds = read_process(server.pid)
        engine_mb, engine_threads, engine_fds = read_process(engine)
        found.samples.append(
            Sample(
                at_s=round(time.monotonic() - began, 1),
                server_mb=server_mb,
                engine_mb=engine_mb,
                server_threads=server_threads,
                engine_threads=engine_threads,
                server_fds=server_fds,
                engine_fds=engine_fds,
                tasks=figures["comfystream_tasks"],
                sessions=figures["comfystream_sessions"],
                viewers=figures["comfystream_viewers"],
            )
        )


async def watch_lag(found: Soaked) -> None:
    """How late this loop is at most."""
    while True:
        due = time.monotonic() + 0.05
        await asyncio.sleep(0.05)
        found.lag_ms = max(found.lag_ms, (time.monotonic() - due) * 1000)
