"""A real server process, and the clients that a soak lets loose on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp

from comfystream.errors import NetworkError
from comfystream.frames import VideoFrame
from comfystream.media.pattern import draw_pattern, read_counter

from ..rtc.ice import IceSettings
from ..rtc.peer import Peer

__all__ = ["Ages", "Client", "Program", "program"]

START_S = 60.0
FPS = 10
SIZE = (160, 96)
KEPT_NUMBERS = 600
MAIN = "import sys; from comfystream_server.cli import main; sys.exit(main())"


class Program:
    """`comfystream serve`, with what it takes to talk to it."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, http: aiohttp.ClientSession) -> None:
        self.pid = process.pid
        self.address = address
        self._http = http

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """An HTTP request; the parsed JSON, or the text.

        Raises:
            NetworkError: the status is not 2xx, or the server is gone.
        """
        try:
            async with self._http.request(method, self.address + path, json=body) as response:
                text = await response.text()
                if response.status >= 300:
                    raise NetworkError(f"{method} {path}: {response.status} {text[:200]}", code="refused")
                return await response.json() if response.content_type == "application/json" and text else text
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NetworkError(f"{method} {path}: {error or type(error).__name__}", code="no_answer") from error

    async def figures(self) -> dict[str, float]:
        """Single figures of /metrics by name, and the sum over labels where there are some."""
        found: dict[str, float] = {}
        for line in (await self.ask("GET", "/metrics")).splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found

    def engine_pid(self) -> int:
        """The engine process: the child that runs `child_main`; 0 while there is none."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.pid and "child_main" in (folder / "cmdline").read_text():
                    return int(folder.name)
        return 0


@contextlib.asynccontextmanager
async def program(log: Path, *options: str) -> AsyncIterator[Program]:
    """Start the server with its output in `log`; ends it the way an operator does.

    Raises:
        NetworkError: it did not say its address in time.
    """
    environment = {**os.environ, "COMFYSTREAM_ICE_LOOPBACK": "true", "COMFYSTREAM_ABANDONED_AFTER_S": "5"}
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", MAIN, "serve", "--port", "0", *options,
            stdout=asyncio.subprocess.PIPE, stderr=errors, env=environment,
        )  # fmt: skip
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
            address = await asyncio.wait_for(_address(process), START_S)
            yield Program(process, address, http)
    except TimeoutError:
        raise NetworkError("the server did not start", hint=f"see {log}") from None
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        if found := re.search(rb"http://[^\s/]+", line):
            return found[0].decode()
    raise NetworkError("the server ended before it said its address")


class Ages:
    """When numbered pictures left, and how old they were when they came back."""

    def __init__(self) -> None:
        self._sent: OrderedDict[int, int] = OrderedDict()
        self.oldest_ms = 0.0
        self.seen = self.unreadable = 0

    def sent(self, number: int) -> None:
        """A picture leaves."""
        self._sent[number] = time.monotonic_ns()
        if len(self._sent) > KEPT_NUMBERS:
            self._sent.popitem(last=False)

    def came(self, frame: VideoFrame) -> None:
        """A picture is there."""
        number = read_counter(frame.image)
        if number is None or number not in self._sent:
            self.unreadable += 1
            return
        self.seen += 1
        self.oldest_ms = max(self.oldest_ms, (time.monotonic_ns() - self._sent[number]) / 1e6)


class Client:
    """A viewer; with `has_camera` it sends pictures, too."""

    def __init__(self, server: Program, ages: Ages, *, has_camera: bool = False) -> None:
        self._server = server
        self._ages = ages
        self._has_camera = has_camera
        self._connected = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self.session = ""
        self.states: list[str] = []
        self.peer = Peer(
            ice=IceSettings(has_loopback=True),
            on_video=lambda frame: ages.came(frame),
            on_audio=lambda _: None,
            on_message=lambda *_: None,
            on_state=self._state,
        )

    def _state(self, state: str) -> None:
        self.states.append(state)
        if state == "connected":
            self._connected.set()

    async def connect(self, **body: Any) -> None:
        """Join or begin a session.

        Raises:
            NetworkError: it is refused, or no connection comes about.
        """
        offer = {"sdp": await self.peer.offer(("video",), ("comfystream",)), "type": "offer"}
        answer = await self._server.ask("POST", "/offer", {"offer": offer, **body})
        self.session = answer["session"]
        await self.peer.accept(answer["sdp"])
        try:
            await asyncio.wait_for(self._connected.wait(), START_S)
        except TimeoutError:
            raise NetworkError("a viewer did not connect") from None
        if self._has_camera:
            self._sending = asyncio.create_task(self._send(), name="soak-camera")

    async def _send(self) -> None:
        began = time.monotonic()
        for number in range(1 << 30):
            await asyncio.sleep(max(0.0, began + number / FPS - time.monotonic()))
            image = draw_pattern(*SIZE, number)
            self._ages.sent(number & 0xFFFF)
            self.peer.send_video(VideoFrame(number, number, Fraction(1, FPS), image))

    async def close(self) -> None:
        """Leave."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        await self.peer.close()
