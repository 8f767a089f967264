"""`comfystream byoc` in a process of its own, with a stream on the channels of a local trickle server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from comfystream.errors import NetworkError
from comfystream.trickle.server import TrickleServer

__all__ = ["STREAM", "WorkerProcess", "family", "read_log", "worker_process"]

START_S = 60.0
STREAM = "bench"
MAIN = "import sys; from comfystream_server.cli import main; sys.exit(main())"
KINDS = {"": "video/MP2T", "-out": "video/MP2T", "-control": "application/json", "-events": "application/json"}
FIELDS = {"": "subscribe", "-out": "publish", "-control": "control", "-events": "events"}


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


def read_log(log: Path) -> str:
    """What it has said so far."""
    return log.read_text("utf-8", "replace")


class WorkerProcess:
    """A running worker, and what may be asked of it."""

    def __init__(self, pid: int, address: str, http: aiohttp.ClientSession) -> None:
        self.pid = pid
        self.address = address
        self._http = http

    async def ask(self, method: str, path: str, body: Any = None, id: str = "") -> dict[str, Any]:
        """A request, about the stream `id` if it is given; the JSON of the answer.

        Raises:
            NetworkError: it is refused, or the worker is gone.
        """
        headers = {"X-Stream-Id": id} if id else {}
        try:
            async with self._http.request(method, self.address + path, json=body, headers=headers) as response:
                said = await response.text()
                if response.status != 200:
                    raise NetworkError(f"{method} {path}: {response.status} {said[:200]}", code="refused")
                document: dict[str, Any] = await response.json()
                return document
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NetworkError(f"{method} {path}: {error or type(error).__name__}", code="no_answer") from error

    async def start_stream(self, server: TrickleServer, base: str, id: str = STREAM, **params: Any) -> None:
        """Make the channels of a stream, and start it."""
        body: dict[str, Any] = {"gateway_request_id": id, "params": params}
        for suffix, kind in KINDS.items():
            server.create(id + suffix, kind)
            body[f"{FIELDS[suffix]}_url"] = f"{base}/{id}{suffix}"
        await self.ask("POST", "/stream/start", body)

    async def until_running(self) -> None:
        """Until its stream has loaded what it loads.

        Raises:
            NetworkError: it does not.
        """
        await self._until(lambda said: said["pipeline_state"] == "RUNNING", "/stream/status")

    async def until_ready(self) -> None:
        """Until it takes streams."""
        await self._until(lambda said: said["status"] == "IDLE", "/health")

    async def _until(self, holds: Any, path: str) -> None:
        deadline = time.monotonic() + START_S
        while not holds(said := await self.ask("GET", path)):
            if time.monotonic() > deadline:
                raise NetworkError(f"the worker says {said}", code="not_ready")
            await asyncio.sleep(0.05)

    def engine_pid(self) -> int:
        """The process of its engine.

        Raises:
            NetworkError: there is none.
        """
        for pid in family(self.pid):
            with contextlib.suppress(OSError):
                if b"child_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        raise NetworkError("the worker has no engine", code="no_engine")

    async def until_streams(self, number: int) -> None:
        """Until it has no more streams than that."""
        await self._until(lambda said: said["active_streams"] <= number, "/stream/status")

    def cpu_s(self) -> float:
        """Processor time of it and its engine."""
        ticks = 0
        for pid in family(self.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """Most resident memory that each of them had, added up; what they share counts twice."""
        total = 0.0
        for pid in family(self.pid):
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                total += int(found[1]) / 1024 if found else 0.0
        return total


@contextlib.asynccontextmanager
async def worker_process(log: Path, *options: str) -> AsyncIterator[WorkerProcess]:
    """Start it with its output in `log`, ready for streams; ends it the way an operator does.

    Raises:
        NetworkError: it does not get ready.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ORCH_", "CAPABILITY_"))}
    command = (sys.executable, "-P", "-c", MAIN, "byoc", "--host", "127.0.0.1", "--port", "0", "--threads", "1")
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(*command, *options, stdout=said, stderr=said, env=environ)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
            worker = WorkerProcess(process.pid, await _address(log, process), http)
            await worker.until_ready()
            yield worker
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _address(log: Path, process: asyncio.subprocess.Process) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.returncode is None:
        found = re.search(r"listens on (127\.0\.0\.1:\d+)", read_log(log))
        if found:
            return f"http://{found[1]}"
        await asyncio.sleep(0.05)
    last = read_log(log).strip()[-500:]
    raise NetworkError("the worker did not start", hint=last)
