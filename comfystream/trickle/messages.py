"""JSON over channels: orders come in (one document per segment), events and data go out.

Data goes in lines, each an array of what came up since the line before: that is what gateways hand to browsers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from comfystream.errors import ConfigError, NetworkError

from .reader import TrickleReader
from .writer import TrickleWriter

__all__ = ["MOST_LINE_BYTES", "DataWriter", "EventWriter", "data_lines", "object_lines", "read_messages"]

MOST_MESSAGE_BYTES = 1024 * 1024
MOST_LINE_BYTES = 60 * 1024  # gateways read lines of up to 64 KiB, and do not get past a longer one

_log = logging.getLogger(__name__)


async def read_messages(
    reader: TrickleReader, *, most_bytes: int = MOST_MESSAGE_BYTES, skip_keep_alive: bool = True
) -> AsyncIterator[Any]:
    """The JSON documents of a channel, one per segment. What is too long, broken or no JSON is logged and left out.

    Args:
        reader: the channel; it stays the caller's.
        most_bytes: longer ones are left out.
        skip_keep_alive: leave out `{"keep": "alive"}`, too.
    """
    async for segment in reader:
        try:
            document = json.loads(await segment.read(most_bytes))
        except (NetworkError, ValueError, RecursionError) as error:
            _log.warning("%s: message %d is left out: %s", reader.url, segment.number, error)
            continue
        if not (skip_keep_alive and document == {"keep": "alive"}):
            yield document


class EventWriter:
    """Sends JSON documents, one per segment, in order, from a queue: `put` never waits for the network.

    When the queue is full the oldest is dropped (`dropped` counts). `run` is the task that sends; it ends with
    `close`, or raises what the writer raises when the channel is over.
    """

    def __init__(self, writer: TrickleWriter, *, most_waiting: int = 100) -> None:
        self._writer = writer
        self._waiting: deque[bytes] = deque()
        self._most = most_waiting
        self._wake = asyncio.Event()
        self._is_closing = False
        self.dropped = 0

    def put(self, document: object) -> None:
        """Queue a document.

        Raises:
            ConfigError: `not_json`, it cannot be written as JSON.
        """
        self._waiting.append(_encoded(document))
        while len(self._waiting) > self._most:
            self._waiting.popleft()
            self.dropped += 1
        self._wake.set()

    async def run(self) -> None:
        """Send until `close`, and what is queued by then.

        Raises:
            ChannelOver: the channel was closed or does not exist.
            NetworkError: `channel_unreachable`.
        """
        while True:
            while self._waiting:
                await self._writer.send(self._waiting.popleft())
            if self._is_closing:
                return
            self._wake.clear()
            await self._wake.wait()

    def close(self) -> None:
        """Let `run` end when the queue is empty."""
        self._is_closing = True
        self._wake.set()


class DataWriter:
    """Sends what an app has to say as JSON arrays, one line per flush, with a keep-alive `[]` on a quiet channel.

    `run` is the task that sends, like that of `EventWriter`.

    Args:
        writer: the channel, usually of type `application/jsonl`.
        flush_s: how long items are gathered.
        keep_alive_s: a channel that is quiet for so long gets `[]`.
        most_waiting: more items than that drop the oldest (`dropped` counts).
        lines: makes the lines of items: `data_lines` (arrays) or `object_lines`.
    """

    def __init__(
        self,
        writer: TrickleWriter,
        *,
        flush_s: float = 0.333,
        keep_alive_s: float = 25.0,
        most_waiting: int = 1000,
        lines: Callable[[Sequence[bytes]], list[bytes]] | None = None,
    ) -> None:
        self._writer = writer
        self._lines = lines or data_lines
        self._flush_s = flush_s
        self._keep_alive_s = keep_alive_s
        self._waiting: deque[bytes] = deque()
        self._most = most_waiting
        self._wake = asyncio.Event()
        self._is_closing = False
        self.dropped = 0

    def put(self, item: object) -> bool:
        """Queue an item; False when it is too long for a line, and dropped.

        Raises:
            ConfigError: `not_json`, it cannot be written as JSON.
        """
        encoded = _encoded(item)
        if len(self._lines([encoded])[0]) > MOST_LINE_BYTES:
            _log.warning("%s: an item of %d bytes is too long for a line, and dropped", self._writer.url, len(encoded))
            self.dropped += 1
            return False
        self._waiting.append(encoded)
        while len(self._waiting) > self._most:
            self._waiting.popleft()
            self.dropped += 1
        self._wake.set()
        return True

    async def run(self) -> None:
        """Send until `close`, and what is queued by then.

        Raises:
            ChannelOver: the channel was closed or does not exist.
            NetworkError: `channel_unreachable`.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._keep_alive_s):
                    await self._wake.wait()
            self._wake.clear()
            if self._waiting and not self._is_closing:
                with contextlib.suppress(TimeoutError):  # gather more; `close` does not wait for it
                    async with asyncio.timeout(self._flush_s):
                        await self._closing()
            items = list(self._waiting)
            self._waiting.clear()
            if items or not self._is_closing:
                await self._writer.send(b"".join(self._lines(items)))
            if self._is_closing and not self._waiting:
                return

    async def _closing(self) -> None:
        while not self._is_closing:
            self._wake.clear()
            await self._wake.wait()

    def close(self) -> None:
        """Let `run` send what is queued and end."""
        self._is_closing = True
        self._wake.set()


def data_lines(items: Sequence[bytes], most_bytes: int = MOST_LINE_BYTES) -> list[bytes]:
    """Items that are JSON already as lines of JSON arrays, none longer than that; without items the keep-alive `[]`."""
    lines: list[list[bytes]] = [[]]
    length = 2
    for item in items:
        if lines[-1] and length + len(item) + 2 > most_bytes:
            lines.append([])
            length = 2
        lines[-1].append(item)
        length += len(item) + 1
    return [b"[" + b",".join(line) + b"]\n" for line in lines]


def object_lines(items: Sequence[bytes]) -> list[bytes]:
    """Items that are JSON already as a JSON object per line; what is none becomes `{"type": "text", "text": ...}`."""
    if not items:
        return [b'{"keep":"alive"}\n']
    return [(item if item.startswith(b"{") else b'{"type":"text","text":' + item + b"}") + b"\n" for item in items]


def _encoded(document: object) -> bytes:
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"this cannot be sent as JSON: {error}", code="not_json") from error
