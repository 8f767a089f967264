"""An RTMP port: connections of publishers, whose frames go to the place that somebody finds for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs

from comfystream.clock import SystemClock
from comfystream.errors import ComfyStreamError, ConfigError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.loop_bridge import ToLoop

from .decoder import Decoder
from .protocol import Media, Publish, RtmpServer, Unpublish

__all__ = ["Arrival", "Place", "RtmpPort"]

_log = logging.getLogger(__name__)
MOST_CONNECTIONS = 32
BEGIN_S = 10.0  # from the connection to the first picture
IDLE_S = 20.0  # without a byte
CLOSE_S = 2.0
READ_SIZE = 1 << 16
FRAMES_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody who wants to publish.

    Attributes:
        app, name: what stood in the address, without queries and slashes around it.
        query: what stood in the queries behind either.
        send_away: ends the publish, saying why; the place is left then.
    """

    app: str
    name: str
    query: Mapping[str, str]
    send_away: Callable[[str], None]


class Place(Protocol):
    """Where a publisher's frames go. All of it is for the event loop's thread."""

    @property
    def name(self) -> str:
        """One publisher at a time has a name: the newest."""
        ...

    def submit(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come; never waits."""
        ...

    def leave(self) -> None:
        """The publisher has gone. Idempotent."""
        ...


Admit = Callable[[Arrival], Awaitable[Place]]


class _Connection:
    """One of a publisher."""

    def __init__(self, owner: RtmpPort, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._owner = owner
        self._reader = reader
        self._writer = writer
        self._protocol = RtmpServer()
        self._decoder: Decoder | None = None
        self._has_sent = False
        self._began_ns = SystemClock().now_ns()
        self.place: Place | None = None
        self.name = ""

    async def run(self) -> None:
        """Until the publisher goes, or is sent away."""
        try:
            while data := await self._read():
                for event in self._protocol.receive(data):
                    await self._handle(event)
                await self._send()
        except (NetworkError, ConnectionError, TimeoutError) as error:
            _log.info("rtmp publisher %s: %s", self.name or "without a name", error or "it sends nothing any more")
        finally:
            self._unpublish()
            await self._goodbye()

    async def _read(self) -> bytes:
        left_s = BEGIN_S - (SystemClock().now_ns() - self._began_ns) / 1e9
        async with asyncio.timeout(IDLE_S if self._has_sent else max(0.0, left_s)):
            return await self._reader.read(READ_SIZE)

    async def _handle(self, event: Publish | Unpublish | Media) -> None:
        match event:
            case Media():
                self._has_sent = True
                if self._decoder is not None:
                    self._decoder.put(event)
            case Publish():
                try:
                    await self._publish(event)
                except ComfyStreamError as error:
                    _log.warning("an rtmp publisher was refused: %s", error)
                    self._protocol.refuse(str(error))
            case Unpublish():
                self._unpublish()

    async def _publish(self, event: Publish) -> None:
        place = await self._owner.admit(_arrival(event, self.send_away))
        self.place, self.name = place, place.name
        self._owner.take_over(self)
        frames: ToLoop[VideoFrame | AudioFrame] = ToLoop(asyncio.get_running_loop(), self._give, FRAMES_AHEAD)
        self._decoder = Decoder(f"rtmp-{place.name}", frames.put)
        self._protocol.accept()

    def _give(self, frame: VideoFrame | AudioFrame) -> None:
        if self.place is not None:
            self.place.submit(frame)

    def send_away(self, why: str) -> None:
        """End the publish from here; `run` returns soon."""
        self._protocol.end(why)
        self._unpublish()
        with contextlib.suppress(ConnectionError):
            self._writer.write(self._protocol.take_bytes())
        self._reader.feed_eof()

    def _unpublish(self) -> None:
        place, self.place = self.place, None
        if self._decoder is not None:
            self._decoder.close()
        if place is not None:
            place.leave()
            self._owner.left(self)

    async def _send(self) -> None:
        self._writer.write(self._protocol.take_bytes())
        async with asyncio.timeout(IDLE_S):
            await self._writer.drain()

    async def _goodbye(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._send()
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()


class RtmpPort:
    """The port.

    Args:
        admit: finds the place of a publisher; what it raises is told to the publisher.
    """

    def __init__(self, admit: Admit) -> None:
        self.admit = admit
        self._server: asyncio.Server | None = None
        self._running: dict[asyncio.Task[None], _Connection] = {}
        self._publishing: dict[str, _Connection] = {}
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            ConfigError: the port cannot be had.
        """
        try:
            self._server = await asyncio.start_server(self._connected, host, port)
        except OSError as error:
            raise ConfigError(
                f"cannot listen for RTMP on {host}:{port}: {error.strerror or error}",
                code="cannot_listen",
                hint="another program may have the port; set rtmp_port",
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._running) >= MOST_CONNECTIONS:
            _log.warning("an rtmp publisher was sent away: there are %d connections", MOST_CONNECTIONS)
            writer.transport.abort()
            return
        connection = self._running[task] = _Connection(self, reader, writer)
        try:
            await connection.run()
        finally:
            del self._running[task]

    def take_over(self, connection: _Connection) -> None:
        """The newest publisher of a name is the one."""
        before = self._publishing.get(connection.name)
        self._publishing[connection.name] = connection
        if before is not None and before is not connection:
            before.send_away("another publisher has taken over")

    def left(self, connection: _Connection) -> None:
        """A publisher has gone."""
        if self._publishing.get(connection.name) is connection:
            del self._publishing[connection.name]

    async def close(self) -> None:
        """All are sent away. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for connection in [*self._running.values()]:
            connection.send_away("the server is shutting down")
        if self._running:
            await asyncio.wait([*self._running], timeout=2 * CLOSE_S)
        for task in self._running:
            task.cancel()
        self._server = None


def _arrival(event: Publish, send_away: Callable[[str], None]) -> Arrival:
    app, _, first = event.app.partition("?")
    name, _, second = event.name.partition("?")
    pairs = {**parse_qs(first), **parse_qs(second)}
    query = {key: values[-1] for key, values in pairs.items()}
    return Arrival(app.strip("/"), name.strip("/"), query, send_away)
