"""What a stream said last, for those who ask by and by."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RecentItems"]

MOST_ITEMS, MOST_BYTES = 500, 1 << 20


@dataclass(slots=True)
class RecentItems:
    """The newest items; the oldest goes when there are many, or when they are long."""

    _items: deque[tuple[Any, int]] = field(default_factory=deque)
    _bytes: int = 0

    def put(self, item: Any) -> None:
        """One more; whatever JSON can hold."""
        try:
            size = len(item) if isinstance(item, str) else len(json.dumps(item))
        except (TypeError, ValueError, RecursionError):
            return  # it cannot be sent either
        self._items.append((item, size))
        self._bytes += size
        while len(self._items) > MOST_ITEMS or (self._bytes > MOST_BYTES and len(self._items) > 1):
            self._bytes -= self._items.popleft()[1]

    def all(self) -> list[Any]:
        """The oldest first."""
        return [item for item, _ in self._items]
