"""A publisher by RTMP as a stream of the gateway sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfystream.frames import AudioFrame, VideoFrame

from .peers import Edge, MediaClock

__all__ = ["RtmpEdge"]


class RtmpEdge:
    """Like an `EdgePeer`, on another kind of connection.

    Args:
        name: of the stream.
        send_away: ends the connection, saying why.
        on_frame: takes what comes, with this.
        on_end: called once, with this.
    """

    def __init__(
        self,
        name: str,
        send_away: Callable[[str], None],
        on_frame: Callable[[Edge, VideoFrame | AudioFrame], None],
        on_end: Callable[[Edge], None],
    ) -> None:
        self.name = name
        self.is_watcher = False
        self.clock: MediaClock | None = None
        self._send_away = send_away
        self._on_frame = on_frame
        self._on_end = on_end
        self._counts = {"video": 0, "audio": 0}
        self._is_over = False

    @property
    def is_connected(self) -> bool:
        """Whether frames come."""
        return not self._is_over

    @property
    def stats(self) -> dict[str, Any]:
        """What has come."""
        return {"source": "rtmp", "frames": dict(self._counts)}

    def submit(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come."""
        if not self._is_over:
            self._counts["video" if isinstance(frame, VideoFrame) else "audio"] += 1
            self._on_frame(self, frame)

    def gone(self) -> None:
        """The publisher has ended it. Idempotent."""
        if not self._is_over:
            self._is_over = True
            self._on_end(self)

    def leave(self) -> None:
        """It ends from here: the publisher is sent away. Idempotent."""
        if not self._is_over:
            self.gone()
            self._send_away("the stream has ended, or another publisher has taken over")

    async def close(self) -> None:
        """The same."""
        self.leave()
