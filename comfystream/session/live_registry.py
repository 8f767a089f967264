"""All live sessions of a server: made, found, limited in number, ended when nobody wants them any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import secrets
from collections.abc import Iterator

from comfystream import logs
from comfystream.clock import Clock, SystemClock
from comfystream.errors import BusyError, ComfyStreamError, ConfigError
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_room import starved_fps
from comfystream.session.live_state import ShuttingDown

__all__ = ["Draining", "EngineFull", "NoSuchSession", "SessionExists", "Sessions", "TooManySessions"]

_log = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
DEFAULT_RETRY_S = 30
STATS_S = 1.0


class NoSuchSession(ComfyStreamError, LookupError):
    """There is no session of that name, or not any more."""

    default_code = "no_such_session"


class SessionExists(ComfyStreamError):
    """A session of that name is there already."""

    default_code = "session_exists"


class TooManySessions(BusyError):
    """The limit is reached.

    Args:
        limit: how many may be.
        retry_after_s: when a place may be free.
    """

    default_code = "too_many_sessions"

    def __init__(self, limit: int, retry_after_s: int) -> None:
        super().__init__(f"all {limit} sessions of this server are taken", hint=f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class EngineFull(BusyError):
    """The sessions that are there get too few pictures already.

    Args:
        session: one of them.
        fps: pictures a second that the engine makes for it.
        retry_after_s: when a place may be free.
    """

    default_code = "engine_full"

    def __init__(self, session: str, fps: float, retry_after_s: int) -> None:
        super().__init__(
            f"the engine carries no more: it makes {fps:.1f} pictures a second for a session that is there",
            hint=f"try again in {retry_after_s} s; the operator sets the limit with min_fps",
        )
        self.session = session
        self.retry_after_s = retry_after_s


class Draining(BusyError):
    """The server is ending and takes no new sessions.

    Args:
        retry_after_s: when another one may be there in its place.
    """

    default_code = "draining"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("this server is ending and takes no new sessions", hint=f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Sessions:
    """The sessions of one server.

    Args:
        host: the engine that they share.
        most: how many there may be at once.
        clock: injected for tests.
        least_fps: no more are taken while the engine makes fewer pictures a second for one; 0 = whatever it makes.
    """

    def __init__(self, host: EngineHost, most: int = 4, clock: Clock | None = None, *, least_fps: float = 0.0) -> None:
        self._host = host
        self._least_fps = least_fps
        self._most = most
        self._clock: Clock = clock or SystemClock()
        self._sessions: dict[str, LiveSession] = {}
        self._looking: asyncio.Task[None] | None = None
        self._draining: int | None = None
        self.started = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        """All of them, oldest first."""
        return iter([*self._sessions.values()])

    @property
    def most(self) -> int:
        """How many there may be at once."""
        return self._most

    def get(self, id: str) -> LiveSession:
        """One session.

        Raises:
            NoSuchSession: there is none of that name.
        """
        session = self._sessions.get(id)
        if session is None:
            raise NoSuchSession(f'there is no session "{id[:40]}"', hint="it may have ended; start a new one")
        return session

    async def create(self, options: LiveOptions | None = None, id: str = "") -> LiveSession:
        """A new session. When there is no room, one that its viewers have left makes room.

        Args:
            options: how it treats frames.
            id: a name for it that somebody chose; empty makes one that cannot be guessed.

        Raises:
            TooManySessions: all are in use.
            EngineFull: those that are there get too few pictures already.
            SessionExists: one of that name is there.
            ConfigError: `id` is no name.
            Draining: the server is ending.
        """
        full = await self._full()
        if self._draining is not None:
            raise Draining(self._draining)
        if id and not _NAME.fullmatch(id):
            raise ConfigError(
                f'"{id[:40]}" cannot name a session', code="bad_name", hint="letters, digits, - and _, at most 64"
            )
        if id in self._sessions:
            raise SessionExists(f'there is a session "{id}" already', hint="take another name, or use that one")
        if full is not None or len(self._sessions) >= self._most:
            await self._make_room(full or TooManySessions(self._most, self.retry_after_s()))
        id = id or secrets.token_urlsafe(9)
        with logs.about(id):
            session = LiveSession(id, self._host, options, self._clock)
        self._sessions[session.id] = session
        self.started += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="sessions-look")
        return session

    @property
    def is_draining(self) -> bool:
        """Whether the server is ending."""
        return self._draining is not None

    def drain(self, within_s: float) -> None:
        """Take no new ones, and tell those that are there that the server ends in `within_s` seconds. Idempotent."""
        if self._draining is None:
            self._draining = max(1, math.ceil(within_s))
            for session in self:
                session.tell(ShuttingDown(within_s))

    async def _full(self) -> EngineFull | None:
        """Why the engine carries no more."""
        if not self._least_fps:
            return None
        for session in self:
            with contextlib.suppress(TimeoutError, ComfyStreamError):  # an engine that does not answer: `state` tells
                async with asyncio.timeout(STATS_S):
                    fps = starved_fps(await session.stats(), self._least_fps)
                if fps is not None:
                    return EngineFull(session.id, fps, self.retry_after_s())
        return None

    async def _make_room(self, why: BusyError) -> None:
        left = [session for session in self if session.alone_s > 0]
        if not left:
            raise why
        await self.end(max(left, key=lambda session: session.alone_s).id, "another one needed its place")

    def retry_after_s(self) -> int:
        """When a place may be free: when the first session that nobody watches ends."""
        waits = [session.options.abandoned_after_s - session.alone_s for session in self if session.alone_s > 0]
        return max(1, math.ceil(min(waits))) if waits else DEFAULT_RETRY_S

    async def end(self, id: str, reason: str = "") -> None:
        """End a session; one that is not there is passed over."""
        session = self._sessions.pop(id, None)
        if session is not None:
            with logs.about(id):
                _log.info("the session ends: %s", reason or "asked for")
                await session.close(reason)

    async def end_abandoned(self) -> None:
        """End the sessions that nobody came back to in time."""
        for session in self:
            if session.is_abandoned:
                await self.end(session.id, "nobody came back")

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.end_abandoned()

    async def close(self) -> None:
        """End all. Idempotent."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
            self._looking = None
        await asyncio.gather(*(self.end(session.id, "the server is shutting down") for session in self))
