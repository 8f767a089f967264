"""The RTMP port: who publishes to rtmp://host:1935/live/NAME sends into the session of that name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs

from comfystream.clock import SystemClock
from comfystream.errors import ComfyStreamError, ConfigError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_claims import Claim
from comfystream.session.live_registry import NoSuchSession
from comfystream.session.loop_bridge import ToLoop
from comfystream.workflow.model import Workflow

from ..http.guard import Guard, Role
from ..parts import Parts
from .decoder import Decoder
from .protocol import Media, Publish, RtmpServer, Unpublish

__all__ = ["RtmpListener"]

_log = logging.getLogger(__name__)
APP = "live"
MOST_CONNECTIONS = 32
BEGIN_S = 10.0  # from the connection to the first picture
IDLE_S = 20.0  # without a byte
CLOSE_S = 2.0
READ_SIZE = 1 << 16
FRAMES_AHEAD = 64


class _Publisher:
    """One connection."""

    def __init__(self, owner: RtmpListener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._owner = owner
        self._reader = reader
        self._writer = writer
        self._protocol = RtmpServer()
        self._session: LiveSession | None = None
        self._claim: Claim | None = None
        self._decoder: Decoder | None = None
        self._frames: ToLoop[VideoFrame | AudioFrame] | None = None
        self._has_sent = False
        self._began_ns = SystemClock().now_ns()
        self._work: set[asyncio.Task[None]] = set()
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
        app, name, query = _parse(event)
        self._owner.check_token(query.get("token", ""))
        if app != APP:
            raise ConfigError(f'there is no application "{app[:40]}"', code="unknown_app", hint=f"it is called {APP}")
        if not name:
            raise ConfigError("the stream has no name", code="bad_name", hint=f"rtmp://HOST:PORT/{APP}/NAME")
        session, workflow = await self._owner.session(name, query.get("workflow", ""))
        self.name, self._session = name, session
        self._owner.take_over(self)
        session.attach()
        self._claim = session.claim_source("rtmp publisher")
        self._frames = ToLoop(asyncio.get_running_loop(), self._give, FRAMES_AHEAD)
        self._decoder = Decoder(f"rtmp-{name}", self._frames.put)
        self._start(self._follow(session), "session")
        if workflow is not None:
            self._start(self._load(session, workflow), "workflow")
        self._protocol.accept()
        _log.info("session %s: an rtmp publisher has come", session.id)

    def _give(self, frame: VideoFrame | AudioFrame) -> None:
        if self._claim is not None:
            self._claim.submit(frame)

    async def _load(self, session: LiveSession, workflow: Workflow) -> None:
        try:
            await session.set_workflow(workflow, who="rtmp publisher")
        except ComfyStreamError as error:
            _log.warning("session %s: the workflow of the rtmp publisher does not run: %s", session.id, error)

    async def _follow(self, session: LiveSession) -> None:
        """When the session ends, so does its publisher."""
        async with session.events() as events:
            async for _ in events:
                pass
        self.send_away("the session has ended")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"rtmp-{self.name}-{name}")
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # --- the end

    def send_away(self, why: str) -> None:
        """End the publish from here; `run` returns soon."""
        self._protocol.end(why)
        self._unpublish()
        with contextlib.suppress(ConnectionError):
            self._writer.write(self._protocol.take_bytes())
        self._reader.feed_eof()

    def _unpublish(self) -> None:
        claim, self._claim = self._claim, None
        session, self._session = self._session, None
        for task in self._work:
            if task is not asyncio.current_task():
                task.cancel()
        if self._decoder is not None:
            self._decoder.close()
        if claim is not None:
            claim.release()
        if session is not None:
            _log.info("session %s: its rtmp publisher has gone", session.id)
            session.detach()
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


class RtmpListener:
    """The port.

    Args:
        parts: of the server.
        guard: who may publish: the operator's token is asked for as HTTP asks for it.
    """

    def __init__(self, parts: Parts, guard: Guard) -> None:
        self._parts = parts
        self._guard = guard
        self._server: asyncio.Server | None = None
        self._running: dict[asyncio.Task[None], _Publisher] = {}
        self._publishing: dict[str, _Publisher] = {}
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
        publisher = self._running[task] = _Publisher(self, reader, writer)
        try:
            await publisher.run()
        finally:
            del self._running[task]

    def check_token(self, given: str) -> None:
        """Whether that is the operator's token.

        Raises:
            ConfigError: it is not.
        """
        if self._guard.role_of(given) is not Role.OPERATOR:
            raise ConfigError(
                "the token is wrong or missing", code="no_token", hint=f"rtmp://HOST:PORT/{APP}/NAME?token=TOKEN"
            )

    async def session(self, name: str, workflow: str) -> tuple[LiveSession, Workflow | None]:
        """The session of that name, made if need be, and the workflow that a new one is to run.

        Raises:
            ConfigError, TooManySessions, WorkflowError: it cannot be made.
        """
        with contextlib.suppress(NoSuchSession):
            return self._parts.sessions.get(name), None
        wanted = self._parts.library.read(workflow, await self._parts.host.known()) if workflow else None
        with contextlib.suppress(NoSuchSession):  # meanwhile somebody else may have made it
            return self._parts.sessions.get(name), None
        session = await self._parts.sessions.create(self._parts.options, id=name)
        self._parts.metrics.watch(session)
        return session, wanted

    def take_over(self, publisher: _Publisher) -> None:
        """The newest publisher of a name is the one."""
        before = self._publishing.get(publisher.name)
        self._publishing[publisher.name] = publisher
        if before is not None and before is not publisher:
            before.send_away("another publisher has taken over")

    def left(self, publisher: _Publisher) -> None:
        """A publisher has gone."""
        if self._publishing.get(publisher.name) is publisher:
            del self._publishing[publisher.name]

    async def close(self) -> None:
        """All are sent away. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for publisher in [*self._running.values()]:
            publisher.send_away("the server is shutting down")
        if self._running:
            await asyncio.wait([*self._running], timeout=2 * CLOSE_S)
        for task in self._running:
            task.cancel()
        self._server = None


def _parse(event: Publish) -> tuple[str, str, dict[str, str]]:
    """Application, name, and what stood in the queries behind either."""
    app, _, first = event.app.partition("?")
    name, _, second = event.name.partition("?")
    pairs = {**parse_qs(first), **parse_qs(second)}
    return app.strip("/"), name, {key: values[-1] for key, values in pairs.items()}
