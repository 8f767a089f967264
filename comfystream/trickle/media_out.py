"""Pictures and sound to a trickle channel: encoded on a thread, each sent as soon as it is made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from types import TracebackType
from typing import Self

import aiohttp
import av.error

from comfystream.errors import MediaError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.mpegts.encode import Part, TsEncoder

from .media_queues import Offers
from .writer import SegmentWriter, TrickleWriter, WriterOptions

__all__ = ["CONTENT_TYPE", "MediaWriter", "MediaWriterOptions", "MediaWriterStats"]

_log = logging.getLogger(__name__)

CONTENT_TYPE = "video/mp2t"
_MOST_FAILURES = 30
_PATIENCE = WriterOptions(most_failures=25, most_retry_s=1.0)  # a server may be away for some twenty seconds


@dataclass(frozen=True, slots=True)
class MediaWriterOptions:
    """How frames become segments.

    Attributes:
        has_video: pictures will come.
        channels: of the sound that will come, 1 or 2; None = it is seen when it comes.
        segment_s, first_s: length of the segments, and of the first one.
        encoder: of the pictures; None = the best that works here.
        bitrate: bits per second; None = by size.
        hold_s: after so long without a picture the last one is sent again, so that segments go on; 0 = never.
        pictures: so many may wait to be encoded.
        most_behind_s: what waits longer for the network is left out, up to the next segment.
    """

    has_video: bool = True
    channels: int | None = None
    segment_s: float = 1.0
    first_s: float = 0.3
    encoder: str | None = None
    bitrate: int | None = None
    hold_s: float = 1.0
    pictures: int = 2
    most_behind_s: float = 2.0


@dataclass(slots=True)
class MediaWriterStats:
    """What happened so far.

    Attributes:
        pictures, sounds: sent or about to be.
        dropped_pictures, dropped_sounds: replaced by newer ones before they were encoded.
        held_pictures: sent again because no new one came.
        segments: begun.
        failed: frames that could not be encoded.
        left_out: parts that were encoded but not sent, because the network was behind.
        encode_ns: time that encoding took in all.
        first_ns: monotonic time at which the first bytes were handed to the network; 0 before.
    """

    pictures: int = 0
    sounds: int = 0
    dropped_pictures: int = 0
    dropped_sounds: int = 0
    held_pictures: int = 0
    segments: int = 0
    failed: int = 0
    left_out: int = 0
    encode_ns: int = 0
    first_ns: int = 0


class MediaWriter:
    """The publisher of a channel of MPEG-TS segments; start it with `async with`.

    `offer` takes a frame from any thread and never waits: when encoding is slower than what is offered the newest
    picture wins, and sound is kept in order. A server that goes away leaves a gap; a channel that has ended shows as
    `is_over`.

    Args:
        url: the channel.
        media: how frames become segments.
        start, http, verify_tls, headers, options: as for `TrickleWriter`.

    Raises:
        ConfigError: `bad_url`.
    """

    def __init__(
        self,
        url: str,
        media: MediaWriterOptions | None = None,
        *,
        start: int | None = 0,
        http: aiohttp.ClientSession | None = None,
        verify_tls: bool = True,
        headers: Mapping[str, str] | None = None,
        options: WriterOptions | None = None,
    ) -> None:
        self._media = media or MediaWriterOptions()
        self._writer = TrickleWriter(
            url,
            content_type=CONTENT_TYPE,
            start=start,
            http=http,
            verify_tls=verify_tls,
            headers=headers,
            options=options or _PATIENCE,
        )
        self._encoder: TsEncoder | None = None
        self._stats = MediaWriterStats()
        self._offers = Offers(self._media.pictures)
        self._parts: deque[tuple[int, Part]] = deque()
        self._wake = asyncio.Event()
        self._is_encoded = False
        self._drops_to_start = False
        self._is_cut = threading.Event()
        self._executor: ThreadPoolExecutor | None = None
        self._encoding: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._error: NetworkError | MediaError | None = None
        self._failures = 0

    @property
    def url(self) -> str:
        """The channel."""
        return self._writer.url

    @property
    def encoder(self) -> str:
        """Name of the encoder of pictures; empty before the start, and without pictures."""
        return self._encoder.encoder if self._encoder is not None else ""

    @property
    def stats(self) -> MediaWriterStats:
        """Counts so far."""
        self._stats.dropped_pictures = self._offers.dropped_pictures
        self._stats.dropped_sounds = self._offers.dropped_sounds
        return self._stats

    @property
    def transport(self) -> TrickleWriter:
        """What sends the segments; its `stats` count them."""
        return self._writer

    @property
    def is_over(self) -> bool:
        """Nothing can be sent any more: the channel has ended or cannot be reached, or `close` was called."""
        return self._error is not None or self._writer.is_over

    @property
    def error(self) -> NetworkError | MediaError | None:
        """Why it is over, when that was not `close`."""
        return self._error

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to encode and to send what is offered. The first one of a process tries the encoders of the machine.

        Raises:
            MediaError: the encoder that is asked for does not work here.
        """
        loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, "trickle-encode")
        self._encoder = await loop.run_in_executor(self._executor, self._open)
        self._encoding = loop.run_in_executor(self._executor, self._encode, self._encoder, loop)
        self._encoding.add_done_callback(self._no_more)
        self._sending = asyncio.create_task(self._send(), name="trickle-media-out")

    def offer(self, frame: VideoFrame | AudioFrame) -> bool:
        """Take a frame, from any thread, without waiting; False when nothing can be sent any more."""
        return not self.is_over and self._offers.put(frame)

    async def wait_over(self) -> None:
        """Wait until nothing can be sent any more.

        Raises:
            NetworkError: the channel cannot be reached, or has ended.
            MediaError: the encoder failed again and again.
        """
        if self._sending is not None:
            await asyncio.wait((self._sending,))
        if self._error is not None:
            raise self._error

    async def close(self, drain_s: float = 1.0, *, delete_channel: bool = False) -> None:
        """Encode and send what was offered, and hang up; what does not arrive in `drain_s` is lost. Idempotent.

        Args:
            drain_s: how long it may take.
            delete_channel: also end the channel, for those who own it.
        """
        self._offers.close()
        tasks = [task for task in (self._encoding, self._sending) if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        await self._writer.close(drain_s, delete_channel=delete_channel)
        if self._encoding is not None and self._encoding.done() and self._error is None:
            self._encoding.result()

    # --- on the encoding thread

    def _open(self) -> TsEncoder:
        return TsEncoder(
            has_video=self._media.has_video,
            channels=self._media.channels,
            segment_s=self._media.segment_s,
            first_s=self._media.first_s,
            encoder=self._media.encoder,
            bitrate=self._media.bitrate,
        )

    def _encode(self, encoder: TsEncoder, loop: asyncio.AbstractEventLoop) -> None:
        hold_s = self._media.hold_s or None
        last: VideoFrame | None = None
        last_ns = 0
        while (frames := self._offers.take(hold_s)) is not None:
            now = time.monotonic_ns()
            newest = frames[-1] if frames else None
            if isinstance(newest, VideoFrame):
                last, last_ns = newest, now
            elif last is not None and hold_s is not None and now - last_ns >= hold_s * 1e9:
                last, last_ns = _later(last, now - last_ns), now
                frames.append(last)
                self._stats.held_pictures += 1
            for frame in frames:
                self._encode_one(encoder, frame, loop)
        self._hand_over(encoder.flush(), loop)

    def _encode_one(self, encoder: TsEncoder, frame: VideoFrame | AudioFrame, loop: asyncio.AbstractEventLoop) -> None:
        began = time.monotonic_ns()
        if self._is_cut.is_set():
            self._is_cut.clear()
            encoder.cut()
        try:
            parts = encoder.encode(frame)
        except (av.error.FFmpegError, ValueError) as error:
            self._fail(encoder, error)
            return
        self._failures = 0
        done = time.monotonic_ns()
        self._stats.encode_ns += done - began
        frame.stamps.encoded = done
        self._hand_over(parts, loop)

    def _fail(self, encoder: TsEncoder, error: av.error.FFmpegError | ValueError) -> None:
        """One picture is left out and the next one begins anew; an encoder that never recovers ends it."""
        self._stats.failed += 1
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            message = f"{encoder.encoder or 'libopus'} failed {self._failures} times in a row: {error}"
            raise MediaError(message, code="encoder_failed") from error
        if self._failures == 1:
            _log.warning("a frame could not be encoded: %s", error)
        encoder.renew()

    def _hand_over(self, parts: list[Part], loop: asyncio.AbstractEventLoop) -> None:
        if parts:
            loop.call_soon_threadsafe(self._take_over, parts)

    # --- on the event loop

    def _take_over(self, parts: list[Part]) -> None:
        now = time.monotonic_ns()
        if self._parts and now - self._parts[0][0] > self._media.most_behind_s * 1e9:
            self._stats.left_out += len(self._parts)
            self._parts.clear()
            self._begin_anew()
        self._parts.extend((now, part) for part in parts)
        self._wake.set()

    def _begin_anew(self) -> None:
        """Something of a segment will not arrive: nothing of use comes before the next one begins, so it does soon."""
        self._drops_to_start = True
        self._is_cut.set()

    def _no_more(self, encoding: asyncio.Future[None]) -> None:
        self._is_encoded = True
        if isinstance(error := encoding.exception(), MediaError):
            self._error = error
            self._offers.close()
        self._wake.set()

    async def _send(self) -> None:
        try:
            await self._send_all()
        except NetworkError as error:
            self._error = error
            self._offers.close()

    async def _send_all(self) -> None:
        segment: SegmentWriter | None = None
        while (part := await self._next_part()) is not None:
            if part.starts_segment:
                self._drops_to_start = False
                segment = await self._writer.segment()
                self._stats.segments += 1
            if segment is None or self._drops_to_start:
                self._stats.left_out += 1
                continue
            await segment.write(part.data)
            self._stats.pictures += part.is_video
            self._stats.sounds += not part.is_video
            self._stats.first_ns = self._stats.first_ns or time.monotonic_ns()
            if segment.is_broken and not self._drops_to_start:
                self._begin_anew()

    async def _next_part(self) -> Part | None:
        while not self._parts:
            if self._is_encoded:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._parts.popleft()[1]


def _later(frame: VideoFrame, passed_ns: int) -> VideoFrame:
    """The same picture, so much later."""
    step = round(Fraction(passed_ns, 1_000_000_000) / frame.time_base)
    return replace(frame, pts=frame.pts + max(1, step))
