"""WebRTC at the gateway's edge: who sends pictures into a stream, and who watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, Protocol

from comfystream.frames import AudioFrame, VideoFrame

from ..rtc.ice import IceSettings
from ..rtc.peer import Peer

__all__ = ["Edge", "EdgePeer", "MediaClock"]

CONNECT_S = 30.0


class Edge(Protocol):
    """Who sends into a stream or watches it, however it is connected.

    Attributes:
        is_watcher: it is sent pictures; others send some.
        clock: where its frames belong in the stream's time; None before the first one.
    """

    is_watcher: bool
    clock: MediaClock | None

    @property
    def is_connected(self) -> bool:
        """Whether media can flow."""
        ...

    @property
    def stats(self) -> dict[str, Any]:
        """What is known of the connection."""
        ...

    def leave(self) -> None:
        """It ends. Idempotent; `close` also waits for it."""
        ...

    async def close(self) -> None:
        """End it. Idempotent."""
        ...


class EdgePeer:
    """A connection of a stream; it tells when it has ended.

    Args:
        ice: how it is reached.
        on_frame: takes what comes, with this peer.
        on_end: called once, with this peer.
        is_watcher: it is sent pictures; others send some.
        peer: further arguments of `Peer`.
    """

    def __init__(
        self,
        ice: IceSettings,
        *,
        on_frame: Callable[[EdgePeer, VideoFrame | AudioFrame], None],
        on_end: Callable[[EdgePeer], None],
        is_watcher: bool = False,
        **peer: Any,
    ) -> None:
        self.is_watcher = is_watcher
        self._on_end = on_end
        self._is_over = False
        self._limit: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self.clock: MediaClock | None = None
        self.peer = Peer(
            ice=ice,
            on_video=lambda frame: on_frame(self, frame),
            on_audio=lambda frame: on_frame(self, frame),
            on_message=lambda label, text: None,
            on_state=self._state_changed,
            way="sendonly" if is_watcher else "recvonly",
            **peer,
        )

    @property
    def state(self) -> str:
        """What the connection is doing; "closed" at the end."""
        return "closed" if self._is_over else self.peer.state

    @property
    def is_connected(self) -> bool:
        """Whether media can flow."""
        return self.state in ("connected", "disconnected")

    @property
    def stats(self) -> dict[str, Any]:
        """What is known of the connection."""
        return self.peer.stats

    async def answer(self, sdp: str, kind: str = "offer") -> tuple[str, str]:
        """Answer the offer; raises what `Peer.answer` raises, and is closed then."""
        try:
            answer = await self.peer.answer(sdp, kind)
        except BaseException:
            await self.close()
            raise
        self._limit = asyncio.get_running_loop().call_later(CONNECT_S, self._give_up)
        return answer

    async def trickle(self, fragment: str) -> None:
        """Take candidates that came later."""
        await self.peer.trickle(fragment)

    async def restart(self, fragment: str) -> str:
        """Go on over a new ICE connection: the fragment to answer with; raises what `Peer.restart` raises."""
        return await self.peer.restart(fragment)

    def _give_up(self) -> None:
        if not self.is_connected:
            self.leave()

    def _state_changed(self, state: str) -> None:
        if state in ("failed", "closed"):
            self.leave()

    def leave(self) -> None:
        """It ends. Idempotent; `close` also waits for it."""
        if self._is_over:
            return
        self._is_over = True
        if self._limit is not None:
            self._limit.cancel()
        self._closing = asyncio.create_task(self.peer.close(), name="edge-close")
        self._on_end(self)

    async def close(self) -> None:
        """End it. Idempotent."""
        self.leave()
        if self._closing is not None:
            await asyncio.shield(self._closing)


class MediaClock:
    """Media time that goes on when another publisher comes: what is sent to workers never runs backwards.

    Args:
        start_s: where in the stream's time the publisher begins.
    """

    def __init__(self, start_s: Fraction) -> None:
        self._start_s = start_s
        self._first_s: Fraction | None = None

    def placed(self, frame: VideoFrame | AudioFrame) -> VideoFrame | AudioFrame:
        """The frame at its place in the stream's time."""
        if self._first_s is None:
            self._first_s = frame.pts * frame.time_base
        shift = round((self._start_s - self._first_s) / frame.time_base)
        return replace(frame, pts=max(0, frame.pts + shift))
