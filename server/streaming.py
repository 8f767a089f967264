"""WHIP and WHEP on sessions: who publishes into one, and who only looks on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import ClassVar

from aiohttp import web

from comfystream.errors import BusyError
from comfystream.session.live import LiveSession
from comfystream.session.live_registry import NoSuchSession, SessionExists, Sessions

from .connection import Connection, Connections
from .parts import Parts
from .rtc.audience import Audience

__all__ = ["Publishing", "Watching"]

MOST_PUBLISHERS = 4  # into one session, of which one has the place


class TooManyPublishers(BusyError):
    """Enough stand in line for one session."""

    default_code = "too_many_publishers"
    retry_after_s = 10


class _Publisher(Connection):
    """Sends pictures and sound; what becomes of them is for those who watch."""

    word: ClassVar[str] = "publisher"
    is_viewer: ClassVar[bool] = False

    def __init__(self, owner: Connections, session: LiveSession, sessions: Sessions | None) -> None:
        self._sessions = sessions
        super().__init__(owner, session, way="recvonly")

    async def answer(self, sdp: str, kind: str = "offer") -> tuple[str, str]:
        """As always; a session that was made for an offer that cannot be answered ends with it."""
        try:
            return await super().answer(sdp, kind)
        except BaseException:
            await self.give_up()
            raise

    async def give_up(self) -> None:
        """Leave, and take the session along that was made for this."""
        await self.close()
        if self._sessions is not None and not self.session.viewers:
            await self._sessions.end(self.session.id, "its first publisher could not connect")


class _Watcher(Connection):
    """Looks on."""

    def __init__(self, watching: Watching, owner: Connections, session: LiveSession, audience: Audience) -> None:
        self._watching = watching
        video, sound = audience.outlets()
        super().__init__(owner, session, way="sendonly", video=video, sound=sound)

    def leave(self) -> None:
        """It goes; the last one lets the encoders end."""
        super().leave()
        self._watching.left(self.session)


class Publishing:
    """What WHIP asks of the server.

    Args:
        parts: of the server.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def publish(self, stream: str, request: web.Request) -> Connection:
        """A publisher of the session that is called `stream`; a new one is made when there is none.

        `?workflow=NAME` loads one of the server's workflows before the answer.

        Raises:
            ComfyStreamError: no room, no such workflow, or `stream` is no name.
        """
        name = request.query.get("workflow")
        workflow = self._parts.library.read(name, await self._parts.host.known()) if name else None
        session, is_new = await self._session(stream)
        publisher = self._publisher(session, is_new)
        publisher.attach()  # the session may not end, nor make room for another, while the workflow loads
        try:
            if workflow is not None:
                await session.set_workflow(workflow, who=publisher.name)
        except BaseException:
            await publisher.give_up()
            raise
        return publisher

    async def _session(self, stream: str) -> tuple[LiveSession, bool]:
        with contextlib.suppress(NoSuchSession):
            return self._parts.sessions.get(stream), False
        try:
            session = await self._parts.sessions.create(self._parts.options, id=stream)
        except SessionExists:  # two published at once
            return self._parts.sessions.get(stream), False
        self._parts.metrics.watch(session)
        return session, True

    def _publisher(self, session: LiveSession, is_new: bool) -> _Publisher:
        others = [one for one in self._parts.connections if one.session is session and not one.is_viewer]
        if len(others) >= MOST_PUBLISHERS:
            raise TooManyPublishers(f'{len(others)} publish into "{session.id}" already', hint="end one of them")
        return _Publisher(self._parts.connections, session, self._parts.sessions if is_new else None)


class Watching:
    """What WHEP asks of the server: one audience for each session that is watched.

    Args:
        parts: of the server.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shows: dict[LiveSession, tuple[Audience, asyncio.Task[None]]] = {}

    async def watch(self, stream: str, request: web.Request) -> Connection:
        """A viewer of the session that is called `stream`.

        Raises:
            NoSuchSession: there is none.
            TooManyViewers: no room.
        """
        session = self._parts.sessions.get(stream)
        self._parts.connections.expect_viewer()
        return _Watcher(self, self._parts.connections, session, self.audience(session))

    def audience(self, session: LiveSession) -> Audience:
        """All who look on at `session`; it lasts until the last one has left."""
        if session not in self._shows:
            audience = Audience()
            task = asyncio.create_task(_show(session, audience), name=f"audience-{session.id}")
            self._shows[session] = (audience, task)
        return self._shows[session][0]

    def left(self, session: LiveSession) -> None:
        """A viewer has gone. Idempotent."""
        if any(isinstance(one, _Watcher) and one.session is session for one in self._parts.connections):
            return
        if (show := self._shows.pop(session, None)) is not None:
            audience, task = show
            task.cancel()
            audience.close()


async def _show(session: LiveSession, audience: Audience) -> None:
    async with session.subscribe() as frames:
        async for frame in frames:
            audience.offer(frame)
