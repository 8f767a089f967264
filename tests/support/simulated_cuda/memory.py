"""Memory of the simulated device: who wrote and read each block last, and how much there is."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray

from .streams import Stream, Times, check_free, current

__all__ = ["MEMORY", "Block", "Lease", "Memory", "leased"]


class Block:
    """What one allocation got. Views share it.

    Args:
        size: bytes.
        is_recorded: taken while a graph was recorded: it is the graph's own.

    Attributes:
        home: the stream on which it was taken: the allocator gives it away again in that stream's order.
        written: stream and time of the last write.
        read: the last read of each stream.
        kept_for: streams that were named by `record_stream`.

    Raises:
        torch.OutOfMemoryError: as CUDA's allocator does.
    """

    def __init__(self, size: int, is_recorded: bool = False) -> None:
        self.size, self.is_recorded = 0, True  # nothing to give back where it is full
        MEMORY.take(size)
        self.size = size
        self.home: Stream = current()
        self.is_recorded = is_recorded
        self.written: tuple[int, int] | None = None
        self.read: Times = {}
        self.kept_for: set[int] = set()

    def __del__(self) -> None:
        MEMORY.give(self.size)
        if not self.is_recorded:
            check_free(self)


Lease = NDArray[np.object_]


def leased(block: Block) -> Lease:
    """What keeps a block: when the last tensor that holds it is gone, the block is given back.

    An array, as the garbage collector does not look into these: what it looks into hears of its end before all else
    does, and memory would seem to be given back before the finalizer of a model has waited for the device.
    """
    kept = np.empty(1, object)
    kept[0] = block
    return kept


class Memory:
    """Counts bytes and allocations. Safe from any thread."""

    total = 8 << 30

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.limit = self.total
        self.used = self.peak = self.taken = 0

    def take(self, size: int) -> None:
        """Raises torch.OutOfMemoryError when it is full."""
        with self._lock:
            if self.used + size > self.limit:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {size} bytes. GPU 0 has a total capacity of "
                    f"{self.total} bytes of which {max(0, self.limit - self.used)} are free."
                )
            self.used += size
            self.peak = max(self.peak, self.used)
            self.taken += 1

    def give(self, size: int) -> None:
        """Back again."""
        with self._lock:
            self.used -= size


MEMORY = Memory()
