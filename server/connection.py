"""WebRTC connections of any kind: each belongs to one session from its answer to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar

from comfystream.errors import BusyError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_claims import Claim

from .rtc.ice import IceSettings
from .rtc.peer import Peer

__all__ = ["Connection", "Connections", "TooManyViewers"]

_log = logging.getLogger(__name__)
CONNECT_S = 30.0
RETRY_S = 10


class TooManyViewers(BusyError):
    """The limit is reached.

    Args:
        limit: how many may be.
    """

    default_code = "too_many_viewers"
    retry_after_s = RETRY_S

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} viewers are connected, that is the limit", hint=f"try again in {RETRY_S} s")


class Connection:
    """One connection; all of several that send pictures into one session stand in line for that (`Claims`).

    Args:
        owner: knows all connections.
        session: what it belongs to.
        peer: further arguments of `Peer`.
    """

    word: ClassVar[str] = "viewer"
    is_viewer: ClassVar[bool] = True

    def __init__(self, owner: Connections, session: LiveSession, **peer: Any) -> None:
        self.session = session
        self.number = owner.next_number()
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_attached = False
        self._ending: asyncio.Task[None] | None = None
        self._claim: Claim | None = None
        self._connected = asyncio.Event()
        self.peer = Peer(
            ice=owner.ice,
            on_video=self._take,
            on_audio=self._take,
            on_message=self._message,
            on_state=self._state,
            **peer,
        )
        owner.add(self)

    @property
    def name(self) -> str:
        """Names it to people."""
        return f"{self.word} {self.number}"

    @property
    def state(self) -> str:
        """What the connection is doing; "closed" at the end."""
        return "closed" if self._ending is not None else self.peer.state

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A task of this connection; it ends with it."""
        task = asyncio.create_task(work, name=f"{self.word}-{self.number}-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("session %s: %s ended", self.session.id, task.get_name(), exc_info=error)

    async def answer(self, sdp: str, kind: str = "offer") -> tuple[str, str]:
        """Answer the offer and be there; raises what `Peer.answer` raises, and is closed then."""
        try:
            answer = await self.peer.answer(sdp, kind)
        except BaseException:
            await self.close()
            raise
        self.attach()
        self.start(self._expect(), "expect")
        self.start(self._watch_session(), "session")
        self.begin()
        return answer

    async def trickle(self, fragment: str) -> None:
        """Take candidates that came later; raises what `Peer.trickle` raises."""
        await self.peer.trickle(fragment)

    async def restart(self, fragment: str) -> str:
        """Go on over a new ICE connection: the fragment to answer with; raises what `Peer.restart` raises."""
        return await self.peer.restart(fragment)

    def attach(self) -> None:
        """Keep the session alive from here on. Idempotent."""
        if not self._is_attached and self._ending is None:
            self._is_attached = True
            self.session.attach()

    def begin(self) -> None:
        """What there is to do once the offer is answered."""

    def _take(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come. Of several that send, the one whose first frame came last has the place."""
        if self._ending is not None:
            return
        if self._claim is None:
            self._claim = self.session.claim_source(self.name)
        self._claim.submit(frame)

    def _message(self, label: str, text: str) -> None:
        """A text came over a data channel."""

    def _state(self, state: str) -> None:
        _log.info("session %s: %s is %s", self.session.id, self.name, state)
        if state == "connected":
            self._connected.set()
        if state in ("failed", "closed"):
            self.leave()

    async def _expect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connected.wait()
        except TimeoutError:
            _log.info("session %s: %s did not connect", self.session.id, self.name)
            self.leave()

    async def _watch_session(self) -> None:
        async with self.session.events() as events:
            async for _ in events:
                pass
        self.leave()

    def leave(self) -> None:
        """It goes; nobody else notices. Idempotent."""
        if self._ending is not None:
            return
        if self._claim is not None:
            self._claim.release()
        if self._is_attached:
            self.session.detach()
        self._ending = asyncio.create_task(self._end(), name=f"{self.word}-{self.number}-close")
        self._owner.goes(self, self._ending)

    async def _end(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.peer.close()

    async def close(self) -> None:
        """End its tasks and the connection. Idempotent."""
        self.leave()
        assert self._ending is not None
        await asyncio.shield(self._ending)


class Connections:
    """All connections of a server.

    Args:
        ice: how they are reached.
        most_viewers: how many may look on at once, in all sessions together.
    """

    def __init__(self, ice: IceSettings, most_viewers: int) -> None:
        self.ice = ice
        self.most_viewers = most_viewers
        self._held: list[Connection] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._count = 0

    def __iter__(self) -> Iterator[Connection]:
        """Those that are there."""
        return iter([*self._held])

    def next_number(self) -> int:
        """Tells connections apart."""
        self._count += 1
        return self._count

    def expect_viewer(self) -> None:
        """See whether one more viewer may come.

        Raises:
            TooManyViewers: no.
        """
        if sum(connection.is_viewer for connection in self._held) >= self.most_viewers:
            raise TooManyViewers(self.most_viewers)

    def add(self, connection: Connection) -> None:
        """One more."""
        self._held.append(connection)

    def goes(self, connection: Connection, ending: asyncio.Task[None]) -> None:
        """One less."""
        self._held.remove(connection)
        self._closing.add(ending)
        ending.add_done_callback(self._closing.discard)

    def sent(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Of each the session, its number, and the counters of the pictures that it was sent."""
        return [(one.session.id, one.number, one.peer.stats["video_out"]) for one in self]

    async def close(self) -> None:
        """All leave. Idempotent."""
        for connection in self:
            connection.leave()
        if self._closing:
            await asyncio.wait(self._closing)
