"""Pictures and sound from a trickle channel, each as soon as its last byte is there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp

from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.mpegts.decode import TsDecoder
from comfystream.media.mpegts.demux import Demuxer

from .media_queues import Chunk, Inbox
from .reader import EndReason, ReaderOptions, TrickleReader
from .wire import CURRENT

__all__ = ["MediaReader", "MediaReaderStats"]

_PATIENCE = ReaderOptions(most_failures=25, most_retry_s=1.0)  # a server may be away for some twenty seconds
_MOST_SOUNDS = 250  # about five seconds


@dataclass(slots=True)
class MediaReaderStats:
    """What happened so far.

    Attributes:
        pictures, sounds: decoded.
        dropped_pictures, dropped_sounds: decoded, but replaced by newer ones before they were taken.
        skipped_segments: not decoded, because decoding had fallen behind.
        waited, broken: pictures that no decoder can begin with, and units that could not be decoded.
        lost_units: pictures and runs of sound of which parts were missing.
        received_bytes: of all segments.
        first_ns: monotonic time of the first frame; 0 before.
    """

    pictures: int = 0
    sounds: int = 0
    dropped_pictures: int = 0
    dropped_sounds: int = 0
    skipped_segments: int = 0
    waited: int = 0
    broken: int = 0
    lost_units: int = 0
    received_bytes: int = 0
    first_ns: int = 0


class MediaReader:
    """The frames of a channel of MPEG-TS segments: `async for frame in reader`, until the channel ends.

    Bytes are decoded on a thread of their own. Who takes frames too slowly gets the newest: older pictures are dropped,
    decoded, so that what comes is never damaged. If decoding itself falls a second behind, it goes on with
    the newest segment. Lost and damaged segments leave a gap, nothing else. Times are the stream's, in 1/90000 s.

    Args:
        url: the channel.
        start: the first segment; -2 the newest that has begun, -1 the one after it.
        pictures: so many decoded ones may wait to be taken.
        most_behind_s: how far decoding may be behind before segments are skipped.
        http, verify_tls, headers, options: as for `TrickleReader`.

    Raises:
        ConfigError: `bad_url`.
    """

    def __init__(
        self,
        url: str,
        *,
        start: int = CURRENT,
        pictures: int = 2,
        most_behind_s: float = 1.0,
        http: aiohttp.ClientSession | None = None,
        verify_tls: bool = True,
        headers: Mapping[str, str] | None = None,
        options: ReaderOptions | None = None,
    ) -> None:
        self._reader = TrickleReader(
            url, start=start, http=http, verify_tls=verify_tls, headers=headers, options=options or _PATIENCE
        )
        self._inbox = Inbox(most_behind_s)
        self._most_pictures = pictures
        self._frames: deque[VideoFrame | AudioFrame] = deque()
        self._waiting_pictures = 0
        self._wake = asyncio.Event()
        self._decoder = TsDecoder()
        self._demuxer = Demuxer()
        self._stats = MediaReaderStats()
        self._executor: ThreadPoolExecutor | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The channel."""
        return self._reader.url

    @property
    def end(self) -> EndReason | None:
        """Why there are no more segments; None while there may be."""
        return self._reader.end

    @property
    def transport(self) -> TrickleReader:
        """What reads the segments; its `stats` count them."""
        return self._reader

    @property
    def stats(self) -> MediaReaderStats:
        """Counts so far."""
        counts, found = self._decoder.counts, self._stats
        found.pictures, found.sounds = counts.pictures, counts.sounds
        found.waited, found.broken = counts.waited, counts.broken
        found.lost_units, found.skipped_segments = self._demuxer.damage.lost_units, self._inbox.skipped
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> VideoFrame | AudioFrame:
        frame = await self.next()
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def next(self) -> VideoFrame | AudioFrame | None:
        """The next frame; None at the end of the channel.

        Raises:
            NetworkError: `channel_unreachable`, after the frames that came before.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="trickle-media-in")
            self._task.add_done_callback(lambda _: self._wake.set())
        while not self._frames:
            if self._task.done():
                if not self._task.cancelled():
                    self._task.result()
                return None
            self._wake.clear()
            await self._wake.wait()
        frame = self._frames.popleft()
        self._waiting_pictures -= isinstance(frame, VideoFrame)
        return frame

    async def close(self) -> None:
        """Stop, hang up, and wait for the thread. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):  # whoever iterates has got what it raised
                await self._task
        await self._reader.close()

    # --- on the event loop

    async def _run(self) -> None:
        self._executor = ThreadPoolExecutor(1, "trickle-decode")
        decoding = asyncio.get_running_loop().run_in_executor(self._executor, self._decode, self._loop())
        receiving = asyncio.create_task(self._receive(), name="trickle-media-receive")
        try:
            await asyncio.wait((decoding, receiving), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():  # decoding ended by itself: a defect, which it raises
                return await decoding
            self._inbox.close()
            await decoding
            receiving.result()
        finally:
            self._inbox.close(discard=True)
            receiving.cancel()
            self._executor.shutdown(wait=False)

    @staticmethod
    def _loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def _receive(self) -> None:
        index = 0
        async for segment in self._reader:
            async with contextlib.aclosing(segment.chunks()) as chunks:
                async for data in chunks:
                    self._stats.received_bytes += len(data)
                    self._inbox.put(Chunk(index, data, time.monotonic_ns()))
            is_whole = not segment.is_broken
            self._inbox.put(Chunk(index, b"", time.monotonic_ns(), ends=True, is_whole=is_whole))
            index += 1

    def _deliver(self, frames: list[VideoFrame | AudioFrame]) -> None:
        for frame in frames:
            self._frames.append(frame)
            self._waiting_pictures += isinstance(frame, VideoFrame)
        self._stats.first_ns = self._stats.first_ns or time.monotonic_ns()
        while self._waiting_pictures > self._most_pictures:
            self._drop(VideoFrame)
            self._waiting_pictures -= 1
            self._stats.dropped_pictures += 1
        while len(self._frames) - self._waiting_pictures > _MOST_SOUNDS:
            self._drop(AudioFrame)
            self._stats.dropped_sounds += 1
        self._wake.set()

    def _drop(self, kind: type[VideoFrame | AudioFrame]) -> None:
        """Leave out the oldest frame of a kind."""
        del self._frames[next(at for at, frame in enumerate(self._frames) if isinstance(frame, kind))]

    # --- on the decoding thread

    def _decode(self, loop: asyncio.AbstractEventLoop) -> None:
        while (chunk := self._inbox.get()) is not None:
            units = self._demuxer.end(is_whole=chunk.is_whole) if chunk.ends else self._demuxer.feed(chunk.data)
            for unit in units:
                frames = self._decoder.decode(unit, chunk.arrived_ns)
                if frames:
                    loop.call_soon_threadsafe(self._deliver, frames)
        if rest := self._decoder.flush():
            loop.call_soon_threadsafe(self._deliver, rest)
