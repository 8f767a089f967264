"""Bounded channels between threads. The type says the policy; each counts what it dropped.

`LatestSlot`: newest wins. `BoundedQueue`: the writer waits. `Broadcast`: every reader has its own bounded view and a
slow reader loses its oldest items.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["BoundedQueue", "Broadcast", "Closed", "LatestSlot", "Subscription"]

T = TypeVar("T")


class Closed(Exception):
    """The channel is closed and holds nothing more."""


class BoundedQueue(Generic[T]):
    """First in, first out; `put` waits while it is full. Nothing is dropped.

    Args:
        size: how many items it holds at most, 1 or more.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self._size = size
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._readable = threading.Condition(self._lock)
        self._writable = threading.Condition(self._lock)
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called; items may still be there to get."""
        return self._closed

    def put(self, item: T, timeout_s: float | None = None) -> bool:
        """Append, waiting for room. False when `timeout_s` passed without room.

        Raises:
            Closed: the channel is closed.
        """
        with self._writable:
            if not self._writable.wait_for(lambda: self._closed or len(self._items) < self._size, timeout_s):
                return False
            if self._closed:
                raise Closed
            self._items.append(item)
            self._readable.notify()
            return True

    def get(self, timeout_s: float | None = None) -> T:
        """Take the oldest item, waiting for one.

        Raises:
            Closed: the channel is closed and empty.
            TimeoutError: `timeout_s` passed without an item.
        """
        with self._readable:
            if not self._readable.wait_for(lambda: self._closed or bool(self._items), timeout_s):
                raise TimeoutError
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._writable.notify()
            return item

    def close(self, *, discard: bool = False) -> None:
        """No more `put`; readers get what is left (nothing, with `discard`) and then `Closed`. Idempotent."""
        with self._lock:
            self._closed = True
            if discard:
                self._items.clear()
            self._readable.notify_all()
            self._writable.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Items until the channel is closed and empty."""
        while True:
            try:
                yield self.get()
            except Closed:
                return


class LatestSlot(Generic[T]):
    """Holds one item; `put` never waits and replaces what was not taken yet. `dropped` counts the replaced."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._ready = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Store the newest item. True when it replaced (dropped) an older one.

        Raises:
            Closed: the slot is closed.
        """
        with self._ready:
            if self._closed:
                raise Closed
            replaced = self._item is not None
            self.dropped += replaced
            self._item = item
            self._ready.notify()
            return replaced

    def get(self, timeout_s: float | None = None) -> T:
        """Take the item, waiting for one.

        Raises:
            Closed: the slot is closed and empty.
            TimeoutError: `timeout_s` passed without an item.
        """
        with self._ready:
            if not self._ready.wait_for(lambda: self._closed or self._item is not None, timeout_s):
                raise TimeoutError
            if self._item is None:
                raise Closed
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """No more `put`; an item that is there can still be taken. Idempotent."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()


class Subscription(Generic[T]):
    """One reader's view of a `Broadcast`; `dropped` counts what it was too slow for."""

    def __init__(self, owner: Broadcast[T], size: int) -> None:
        self._owner = owner
        self._items: deque[T] = deque(maxlen=size)
        self._ready = threading.Condition()
        self._closed = False
        self.dropped = 0

    def _offer(self, item: T) -> None:
        with self._ready:
            self.dropped += len(self._items) == self._items.maxlen
            self._items.append(item)
            self._ready.notify()

    def _end(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def get(self, timeout_s: float | None = None) -> T:
        """Take the oldest item that is left.

        Raises:
            Closed: the broadcast or this subscription is closed and nothing is left.
            TimeoutError: `timeout_s` passed without an item.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._ready:
            while not self._items:
                if self._closed:
                    raise Closed
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._ready.wait(left)
            return self._items.popleft()

    def __iter__(self) -> Iterator[T]:
        """Items until closed."""
        while True:
            try:
                yield self.get()
            except Closed:
                return

    def close(self) -> None:
        """Leave the broadcast. Idempotent."""
        self._owner._leave(self)
        self._end()


class Broadcast(Generic[T]):
    """One writer, any number of readers; `put` never waits."""

    def __init__(self) -> None:
        self._readers: tuple[Subscription[T], ...] = ()
        self._lock = threading.Lock()
        self._closed = False

    def subscribe(self, size: int = 64) -> Subscription[T]:
        """A new reader that sees what is put from now on, `size` items behind at most."""
        reader = Subscription(self, size)
        with self._lock:
            if self._closed:
                reader._end()
            else:
                self._readers = (*self._readers, reader)
        return reader

    def _leave(self, reader: Subscription[T]) -> None:
        with self._lock:
            self._readers = tuple(r for r in self._readers if r is not reader)

    def put(self, item: T) -> None:
        """Hand `item` to every reader."""
        for reader in self._readers:
            reader._offer(item)

    def close(self) -> None:
        """Readers get what is left and then `Closed`. Idempotent."""
        with self._lock:
            self._closed = True
            readers, self._readers = self._readers, ()
        for reader in readers:
            reader._end()
