"""How a stream reaches its channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.scale import Scaler, SizeMode
from comfystream.trickle.media_in import MediaReader
from comfystream.trickle.media_out import MediaWriter
from comfystream.trickle.messages import DataWriter, EventWriter, data_lines, object_lines
from comfystream.trickle.reader import ReaderOptions, TrickleReader
from comfystream.trickle.writer import TrickleWriter, WriterOptions

__all__ = ["Links", "MediaIn", "MediaOut", "Outgoing", "Sized"]

MOST_FAILURES = 10  # with pauses of up to 2 s: a server may be away for some 15 s
DATA_ALIVE_S = 20.0
CLOSE_S = 1.0


class MediaIn(Protocol):
    """Decodes what a channel carries."""

    def lost(self) -> dict[str, int]:
        """Pictures that did not come out of it, by reason."""
        ...

    def __aiter__(self) -> AsyncIterator[VideoFrame | AudioFrame]:
        """Pictures and sound until the channel ends; raises NetworkError when it cannot be reached any more."""
        ...

    async def close(self) -> None:
        """Hang up."""
        ...


class MediaOut(Protocol):
    """Encodes into a channel."""

    def lost(self) -> dict[str, int]:
        """Pictures that were not sent, by reason."""
        ...

    def offer(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame to send; never waits."""
        ...

    async def run(self) -> None:
        """Send until the channel ends; raises NetworkError when it ends by itself."""
        ...

    async def close(self) -> None:
        """Deliver what is under way, within a second, and hang up."""
        ...


class Outgoing:
    """Messages of one channel: a queue, and the task that empties it.

    Attributes:
        queue: takes what is to be sent.
    """

    def __init__(self, writer: TrickleWriter, queue: EventWriter | DataWriter) -> None:
        self._writer = writer
        self.queue = queue

    async def run(self) -> None:
        """Send until closed; raises NetworkError when the channel ends by itself, also while nothing is to be sent."""
        sending = asyncio.create_task(self.queue.run(), name="trickle-queue")
        over = asyncio.create_task(self._writer.wait_over(), name="trickle-over")
        try:
            done, _ = await asyncio.wait((sending, over), return_when=asyncio.FIRST_COMPLETED)
            (sending if sending in done else over).result()
        finally:
            for task in (sending, over):
                task.cancel()
            await asyncio.gather(sending, over, return_exceptions=True)

    async def close(self) -> None:
        """Hang up, delivering what the server has not confirmed yet."""
        await self._writer.close(CLOSE_S)


class Links:
    """Opens channels.

    Args:
        verify_tls: False accepts any certificate: orchestrators sign their own.
    """

    def __init__(self, *, verify_tls: bool = True) -> None:
        self.verify_tls = verify_tls
        self._reading = ReaderOptions(most_failures=MOST_FAILURES)
        self._writing = WriterOptions(most_failures=MOST_FAILURES)

    def control(self, url: str) -> TrickleReader:
        """For orders."""
        return TrickleReader(url, verify_tls=self.verify_tls, options=self._reading)

    def events(self, url: str) -> Outgoing:
        """For events."""
        writer = self._writer(url, "application/json")
        return Outgoing(writer, EventWriter(writer))

    def data(self, url: str, *, as_objects: bool = False) -> Outgoing:
        """For texts, in arrays or as an object per line."""
        writer = self._writer(url, "application/jsonl")
        lines = object_lines if as_objects else data_lines
        return Outgoing(writer, DataWriter(writer, keep_alive_s=DATA_ALIVE_S, lines=lines))

    def _writer(self, url: str, mime: str) -> TrickleWriter:
        return TrickleWriter(url, content_type=mime, verify_tls=self.verify_tls, options=self._writing)

    def media_in(self, url: str, size: tuple[int, int] | None) -> MediaIn:
        """For what comes in, brought to `size`."""
        return Sized(MediaReader(url, verify_tls=self.verify_tls, options=self._reading), size)

    def media_out(self, url: str) -> MediaOut:
        """For what goes out."""
        return _Publisher(MediaWriter(url, verify_tls=self.verify_tls))


class Sized:
    """Frames of a reader, the pictures in one size: filled, the edges cut off, on a thread of its own.

    Args:
        reader: gives the frames; closed with this.
        size: width and height, even; None leaves the pictures as they are.
    """

    def __init__(self, reader: MediaReader, size: tuple[int, int] | None) -> None:
        self._reader = reader
        self._size = size
        self._scaler = Scaler()
        self._thread = ThreadPoolExecutor(1, "resize") if size is not None else None

    def lost(self) -> dict[str, int]:
        """Pictures that did not come out, by reason."""
        stats = self._reader.stats
        return {
            "input not taken in time": stats.dropped_pictures,
            "input damaged": stats.lost_units + stats.broken,
            "input segments skipped": stats.skipped_segments,
        }

    async def __aiter__(self) -> AsyncIterator[VideoFrame | AudioFrame]:
        """The frames."""
        loop = asyncio.get_running_loop()
        async for frame in self._reader:
            size = self._size
            if size is None or isinstance(frame, AudioFrame) or (frame.image.width, frame.image.height) == size:
                yield frame
            else:
                image = await loop.run_in_executor(self._thread, self._scaler.resize, frame.image, size, SizeMode.FILL)
                yield replace(frame, image=image)

    async def close(self) -> None:
        """Hang up."""
        await self._reader.close()
        if self._thread is not None:
            self._thread.shutdown(wait=False)


class _Publisher:
    def __init__(self, writer: MediaWriter) -> None:
        self._writer = writer

    def offer(self, frame: VideoFrame | AudioFrame) -> None:
        self._writer.offer(frame)

    def lost(self) -> dict[str, int]:
        stats = self._writer.stats
        return {
            "output not encoded in time": stats.dropped_pictures,
            "output not encoded": stats.failed,
            "output not sent in time": stats.left_out,
        }

    async def run(self) -> None:
        await self._writer.start()
        await self._writer.wait_over()

    async def close(self) -> None:
        await self._writer.close(CLOSE_S)
