"""All who look on at one session: pictures are encoded once for each codec in use, and sound once."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable
from typing import Any

import av
from aiortc.mediastreams import MediaStreamError

from comfystream.frames import AudioFrame, Frame, VideoFrame

from .opus import OpusTrack
from .outlets import Outlet, PictureOutlet, SoundOutlet
from .tracks import OutTrack, VideoTrack

__all__ = ["Audience", "KeyPace", "shared_estimate"]

ALL_S, EACH_S = 0.5, 1.0  # between key frames that viewers ask for: of all together, of one


def shared_estimate(estimates: Iterable[int | None]) -> int | None:
    """What to reckon the network to carry when every viewer says something else: the median.

    With the lowest one, a single telephone in a tunnel would blur the picture for all. With the median at least half
    of them can follow; the others lose packets, ask for key frames (see `KeyPace`) and see pictures with gaps. Of two
    in the middle the lower one counts; those that have said nothing yet do not.
    """
    known = [estimate for estimate in estimates if estimate is not None]
    return statistics.median_low(known) if known else None


class KeyPace:
    """When the next key frame may be made: at most two a second for all, and one a second on the word of one viewer."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._asked: dict[int, float] = {}

    def due(self, viewer: int, now: float) -> float:
        """When the wish of this viewer may be fulfilled, in seconds of the same clock as `now`."""
        return max(now, self._last + ALL_S, self._asked.get(viewer, float("-inf")) + EACH_S)

    def made(self, viewer: int, now: float) -> None:
        """A key frame is made now because this viewer wished for it."""
        self._last = now
        self._asked = {other: at for other, at in self._asked.items() if now - at < EACH_S} | {viewer: now}


class _Feed:
    """One encoder and the outlets that it feeds."""

    def __init__(self, track: OutTrack, frame: Frame | None) -> None:
        self.track = track
        self.outlets: list[Outlet] = []
        self._pace = KeyPace()
        self._key: asyncio.TimerHandle | None = None
        if frame is not None:
            track.offer(frame)
        self._task = asyncio.create_task(self._run(), name=f"audience-{track.kind}")

    async def _run(self) -> None:
        try:
            while True:
                packet: av.Packet[Any] = await self.track.recv()  # type: ignore[assignment]  # ours give packets
                for outlet in self.outlets:
                    outlet.put(packet, self.track.media_s)
        except MediaStreamError:
            return

    def request_key(self, outlet: Outlet) -> None:
        """A key frame as soon as the pace allows; several wishes may be fulfilled by one."""
        loop = asyncio.get_running_loop()
        due = self._pace.due(id(outlet), loop.time())
        if self._key is not None and self._key.when() <= due:
            return
        if self._key is not None:
            self._key.cancel()
        self._key = loop.call_at(due, self._make_key, id(outlet))

    def _make_key(self, viewer: int) -> None:
        self._key = None
        self._pace.made(viewer, asyncio.get_running_loop().time())
        self.track.request_key()

    def estimate(self) -> None:
        """Ask the viewers again what the network carries."""
        self.track.estimate = shared_estimate(outlet.estimate for outlet in self.outlets)

    def stop(self) -> None:
        """End the encoder."""
        if self._key is not None:
            self._key.cancel()
        self.track.stop()
        self._task.cancel()


class Audience:
    """Feeds the outlets of one session's viewers. An encoder starts with its first viewer and ends with its last."""

    def __init__(self) -> None:
        self._feeds: dict[str, _Feed] = {}
        self._picture: VideoFrame | None = None

    def outlets(self) -> tuple[PictureOutlet, SoundOutlet]:
        """The tracks for one more viewer."""
        return PictureOutlet(self), SoundOutlet(self)

    def offer(self, frame: Frame) -> None:
        """The newest frame of the session."""
        if isinstance(frame, VideoFrame):
            self._picture = frame
        kind = "video" if isinstance(frame, VideoFrame) else "audio" if isinstance(frame, AudioFrame) else ""
        for feed in self._feeds.values():
            if feed.track.kind == kind:
                feed.track.offer(frame)

    def join(self, outlet: Outlet, codec: str) -> None:
        """Feed an outlet from now on, from a key frame on."""
        feed = self._feeds.get(codec)
        if feed is None:
            feed = self._feeds[codec] = self._new_feed(outlet.kind, codec)
        feed.outlets.append(outlet)
        if outlet.kind == "video":
            feed.request_key(outlet)

    def _new_feed(self, kind: str, codec: str) -> _Feed:
        if kind == "audio":
            return _Feed(OpusTrack(), None)
        track = VideoTrack()
        track.use(codec)
        return _Feed(track, self._picture)

    def _feed_of(self, outlet: Outlet) -> tuple[str, _Feed] | None:
        return next((item for item in self._feeds.items() if outlet in item[1].outlets), None)

    def leave(self, outlet: Outlet) -> None:
        """Feed an outlet no more; the encoder ends when it was the last one. Idempotent."""
        if (found := self._feed_of(outlet)) is None:
            return
        codec, feed = found
        feed.outlets.remove(outlet)
        feed.estimate()
        if not feed.outlets:
            feed.stop()
            del self._feeds[codec]

    def wants_key(self, outlet: Outlet) -> None:
        """An outlet needs a key frame."""
        if (found := self._feed_of(outlet)) is not None:
            found[1].request_key(outlet)

    def estimated(self, outlet: Outlet) -> None:
        """An outlet heard from its viewer what the network carries."""
        if (found := self._feed_of(outlet)) is not None:
            found[1].estimate()

    def figures(self) -> dict[str, dict[str, Any]]:
        """Counters of each encoder by codec, with the number of its viewers."""
        return {codec: {"viewers": len(feed.outlets), **feed.track.figures()} for codec, feed in self._feeds.items()}

    def close(self) -> None:
        """End all encoders. Idempotent."""
        for feed in self._feeds.values():
            feed.stop()
        self._feeds.clear()
        self._picture = None
