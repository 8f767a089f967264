"""Many readers of one stream of items on the event loop; a slow reader loses only its own."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from types import TracebackType
from typing import Generic, Self, TypeVar

__all__ = ["Fanout", "Reader"]

T = TypeVar("T")


class Reader(Generic[T]):
    """One reader: `async with fanout.subscribe() as reader: async for item in reader`.

    Attributes:
        dropped: items that went because this reader was too slow.
    """

    def __init__(self, owner: Fanout[T], size: int, sizes: Mapping[type, int]) -> None:
        self._owner = owner
        self._size = size
        self._sizes = sizes
        self._items: deque[T] = deque()
        self._held: Counter[type] = Counter()
        self._ready = asyncio.Event()
        self._closed = False
        self.dropped = 0

    def offer(self, item: T) -> None:
        """Append an item; the oldest of its kind goes when there is no room."""
        if self._closed:
            return
        kind = type(item)
        if self._held[kind] >= self._sizes.get(kind, self._size):
            self._items.remove(next(old for old in self._items if type(old) is kind))
            self.dropped += 1
        else:
            self._held[kind] += 1
        self._items.append(item)
        self._ready.set()

    def __aiter__(self) -> Self:
        """Items until it is closed and empty."""
        return self

    async def __anext__(self) -> T:
        """The oldest item that is left."""
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        item = self._items.popleft()
        self._held[type(item)] -= 1
        return item

    def close(self) -> None:
        """Leave; what waits can still be read. Idempotent."""
        self._closed = True
        self._owner.leave(self)
        self._ready.set()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave."""
        self.close()


class Fanout(Generic[T]):
    """One writer, any number of readers, all on one event loop; `put` never waits.

    Args:
        size: how many items of one type may wait for a reader.
        sizes: other sizes for single types.
    """

    def __init__(self, size: int, sizes: Mapping[type, int] | None = None) -> None:
        self._size = size
        self._sizes = sizes or {}
        self._readers: list[Reader[T]] = []
        self._closed = False

    def __len__(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    def subscribe(self) -> Reader[T]:
        """A reader that sees what is put from now on."""
        reader = Reader(self, self._size, self._sizes)
        if self._closed:
            reader.close()
        else:
            self._readers.append(reader)
        return reader

    def leave(self, reader: Reader[T]) -> None:
        """Forget a reader. Idempotent."""
        self._readers = [other for other in self._readers if other is not reader]

    def put(self, item: T) -> None:
        """Hand `item` to every reader."""
        for reader in self._readers:
            reader.offer(item)

    def close(self) -> None:
        """Readers get what is left and end. Idempotent."""
        self._closed = True
        for reader in self._readers:
            reader.close()
