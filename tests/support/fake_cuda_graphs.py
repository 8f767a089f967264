"""Stands for what torch has below `torch.cuda.graph`, by the rules of CUDA and torch's allocator that bind its callers.

One stream may be handed out many times; what any thread gives to a stream that is being recorded becomes a part of the
graph; a recording that was broken raises at its end, and then leaves its stream current and its pool open; while a pool
is open no cached memory can be given back; waiting for the device breaks a recording. `torch.cuda.graph` itself is
the real one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

__all__ = ["FakeCuda"]

POOLED = 32


@dataclass(eq=False)
class FakeStream:
    number: int
    priority: int
    device: torch.device = torch.device("cuda", 0)
    waited_for: list[FakeStream] = field(default_factory=list)

    @property
    def cuda_stream(self) -> int:
        return self.number + 1 + 1000 * -self.priority

    def wait_stream(self, other: FakeStream) -> None:
        self.waited_for.append(other)


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self._has_ended = False
        self.work: list[str] = []
        self.mode = ""

    def capture_begin(self, pool: Any, capture_error_mode: str, check_input_liveness: bool = False) -> None:
        if self._cuda.recorded is not None:
            self._cuda.broken = "two recordings at once"
        self.stream, self.pool_id, self.mode = self._cuda.current(), pool, capture_error_mode
        self._cuda.open_pools.append(pool)
        self._cuda.recorded = self

    def capture_end(self) -> None:
        self._cuda.recorded = None
        broken, self._cuda.broken = self._cuda.broken, ""
        if broken:
            raise RuntimeError(f"CUDA error: operation failed due to a previous error during capture ({broken})")
        self._cuda.open_pools.remove(self.pool_id)
        self._has_ended = True

    def pool(self) -> Any:
        if not self._has_ended:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")
        return self.pool_id

    def replay(self) -> None:
        self._cuda.done += self.work


class FakeCuda:
    """Put in torch's place by `install`.

    Attributes:
        recorded: the graph that is being recorded.
        open_pools: of recordings that are under way, as the allocator sees it.
        broken: why the recording that is under way will fail.
        done: work that ran, in order.
        devices: that were made current.
        graphs: all that were made.
    """

    def __init__(self) -> None:
        self.recorded: FakeGraph | None = None
        self.open_pools: list[Any] = []
        self.released: list[Any] = []
        self.broken = ""
        self.done: list[str] = []
        self.devices: list[str] = []
        self.graphs: list[FakeGraph] = []
        self._pools = 0
        self._made = {0: 0, -1: 0}
        self._streams: dict[tuple[int, int], FakeStream] = {}
        self._current = threading.local()
        self.default = FakeStream(-1, 0)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
        cuda: Any = torch.cuda
        for name in ("current_stream", "set_stream", "synchronize", "empty_cache", "graph_pool_handle", "stream"):
            monkeypatch.setattr(cuda, name, getattr(self, name))
        monkeypatch.setattr(cuda, "Stream", self.new_stream)
        monkeypatch.setattr(cuda, "CUDAGraph", self.new_graph)
        monkeypatch.setattr(cuda, "device", self.device)
        monkeypatch.setattr(cuda, "current_device", lambda: 0)
        monkeypatch.setattr(cuda.graph, "default_capture_stream", None)
        monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self._end_allocate)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda index, pool: self.released.append(pool))
        zeros = torch.zeros
        monkeypatch.setattr(torch, "zeros", lambda *shape, device=None, **more: zeros(*shape, **more))
        return self

    def work(self, what: str, stream: FakeStream | None = None) -> None:
        """A thread gives something to a stream, its current one by default."""
        if self.recorded is not None and (stream or self.current()) is self.recorded.stream:
            self.recorded.work.append(what)
        else:
            self.done.append(what)

    def wait_in_recording(self) -> None:
        """What `.item()` does on a stream that is being recorded."""
        if self.recorded is not None and self.current() is self.recorded.stream:
            self.broken = "it waited"
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def current(self) -> FakeStream:
        found: FakeStream = getattr(self._current, "stream", self.default)
        return found

    def current_stream(self, device: Any = None) -> FakeStream:
        return self.current()

    def set_stream(self, stream: FakeStream) -> None:
        self._current.stream = stream

    @contextlib.contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before = self.current()
        self.set_stream(stream)
        try:
            yield
        finally:
            self.set_stream(before)

    @contextlib.contextmanager
    def device(self, device: Any) -> Iterator[None]:
        self.devices.append(str(device))
        yield

    def new_stream(self, device: Any = None, priority: int = 0) -> FakeStream:
        number = self._made[priority] % POOLED
        self._made[priority] += 1
        return self._streams.setdefault((priority, number), FakeStream(number, priority))

    def new_graph(self) -> FakeGraph:
        self.graphs.append(FakeGraph(self))
        return self.graphs[-1]

    def graph_pool_handle(self) -> tuple[int, int]:
        self._pools += 1
        return 0, self._pools

    def synchronize(self, device: Any = None) -> None:
        if self.recorded is not None:
            self.broken = "somebody waited for the device"
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def empty_cache(self) -> None:
        if self.open_pools:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    def _end_allocate(self, index: int, pool: Any) -> None:
        if pool not in self.open_pools:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.open_pools.remove(pool)
