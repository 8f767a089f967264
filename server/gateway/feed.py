"""What a stream says to those who listen: lines with numbers, kept for late comers, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Feed", "Said"]

MOST_LINES, MOST_BYTES = 200, 1 << 20


@dataclass(frozen=True, slots=True)
class Said:
    """One message.

    Attributes:
        number: counts up from 1.
        text: one line.
        event: a name for what is not the worker's; empty for its data.
    """

    number: int
    text: str
    event: str = ""

    def encoded(self) -> bytes:
        """As the standard for server-sent events has it."""
        name = f"event: {self.event}\n" if self.event else ""
        return f"id: {self.number}\n{name}data: {self.text}\n\n".encode()


class Feed:
    """Keeps the newest messages; who listens too slowly misses the oldest."""

    def __init__(self) -> None:
        self._kept: deque[Said] = deque()
        self._bytes = 0
        self._count = 0
        self._wake = asyncio.Condition()
        self._is_over = False
        self._listeners = 0

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return self._listeners

    async def put(self, text: str) -> None:
        """A line of the worker; empty ones and its keep-alive are left out."""
        line = text.strip()
        if line and line != "[]":
            await self._add(line)

    async def tell(self, event: str, body: dict[str, Any]) -> None:
        """Something about the stream itself."""
        await self._add(json.dumps(body), event)

    async def _add(self, line: str, event: str = "") -> None:
        async with self._wake:
            if self._is_over:
                return
            self._count += 1
            self._kept.append(Said(self._count, line.replace("\r", " ").replace("\n", " "), event))
            self._bytes += len(line)
            while len(self._kept) > MOST_LINES or (self._bytes > MOST_BYTES and len(self._kept) > 1):
                self._bytes -= len(self._kept.popleft().text)
            self._wake.notify_all()

    async def close(self, reason: str) -> None:
        """The last message is "end". Idempotent."""
        await self.tell("end", {"reason": reason})
        async with self._wake:
            self._is_over = True
            self._wake.notify_all()

    async def listen(self, after: int = 0, quiet_s: float = 15.0) -> AsyncIterator[Said | None]:
        """Messages after that number, from the oldest that is kept; None when nothing was said for `quiet_s`."""
        self._listeners += 1
        try:
            while True:
                batch = [said for said in self._kept if said.number > after]
                for said in batch:
                    after = said.number
                    yield said
                if batch:
                    continue
                if self._is_over:
                    return
                if not await self._news(quiet_s):
                    yield None
        finally:
            self._listeners -= 1

    async def _news(self, quiet_s: float) -> bool:
        seen = self._count
        try:
            async with asyncio.timeout(quiet_s), self._wake:
                await self._wake.wait_for(lambda: self._count > seen or self._is_over)
        except TimeoutError:
            return False
        return True
