"""How a stream reaches its channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from comfystream.frames import AudioFrame, VideoFrame
from comfystream.trickle.messages import DataWriter, EventWriter
from comfystream.trickle.reader import ReaderOptions, TrickleReader
from comfystream.trickle.writer import TrickleWriter, WriterOptions

__all__ = ["Links", "MediaIn", "MediaOut", "Outgoing"]

MOST_FAILURES = 10  # with pauses of up to 2 s: a server may be away for some 15 s
DATA_ALIVE_S = 20.0
CLOSE_S = 1.0


class MediaIn(Protocol):
    """Decodes what a channel carries."""

    def __aiter__(self) -> AsyncIterator[VideoFrame | AudioFrame]:
        """Pictures and sound until the channel ends; raises NetworkError when it cannot be reached any more."""
        ...

    async def close(self) -> None:
        """Hang up."""
        ...


class MediaOut(Protocol):
    """Encodes into a channel."""

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
        """Send until closed; raises NetworkError when the channel ends by itself."""
        await self.queue.run()

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

    def data(self, url: str) -> Outgoing:
        """For texts."""
        writer = self._writer(url, "application/jsonl")
        return Outgoing(writer, DataWriter(writer, keep_alive_s=DATA_ALIVE_S))

    def _writer(self, url: str, mime: str) -> TrickleWriter:
        return TrickleWriter(url, content_type=mime, verify_tls=self.verify_tls, options=self._writing)

    def media_in(self, url: str, size: tuple[int, int] | None) -> MediaIn:
        """For what comes in, brought to `size`."""
        raise NotImplementedError

    def media_out(self, url: str, size: tuple[int, int] | None) -> MediaOut:
        """For what goes out; `size` None takes that of the pictures."""
        raise NotImplementedError
