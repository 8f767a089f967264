"""CUDA graphs of the simulated device: operations, and the memory that they were recorded with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .memory import Block
from .streams import RECORDING, Stream, StreamContext, launch, settle

__all__ = ["Graph", "GraphContext", "recording"]

_HERE = threading.local()


class Graph:
    """See torch.cuda.CUDAGraph."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.work: list[Callable[[], None]] = []
        self.reads: set[Block] = set()
        self.writes: set[Block] = set()

    def add(self, work: Callable[[], None], reads: set[Block], writes: set[Block]) -> None:
        self.work.append(work)
        self.reads |= reads
        self.writes |= writes

    def replay(self) -> None:
        if recording() is not None:
            raise RuntimeError("a graph is replayed while another one is recorded")
        launch(self.reads, self.writes, what="cudaGraphLaunch")
        with torch.inference_mode():
            for work in self.work:
                work()

    def reset(self) -> None:
        self.work.clear()

    def pool(self) -> tuple[int, int]:
        return (0, 0)


def recording() -> Graph | None:
    """What is being recorded on this thread."""
    return getattr(_HERE, "graph", None)


class GraphContext:
    """See torch.cuda.graph."""

    default_stream: Stream | None = None

    def __init__(self, graph: Graph, pool: Any = None, stream: Stream | None = None, **_: Any) -> None:
        self.graph = graph
        if stream is None:
            stream = GraphContext.default_stream = GraphContext.default_stream or Stream()
        self.stream = stream
        self.on = StreamContext(stream)

    def __enter__(self) -> None:
        if recording() is not None:
            raise RuntimeError("a graph is recorded already")
        settle()  # torch does: synchronize, collect garbage, empty the cache
        if RECORDING:
            raise RuntimeError("torch records one graph at a time")
        RECORDING.add(self.graph)
        self.on.__enter__()
        _HERE.graph = self.graph

    def __exit__(self, *_: object) -> None:
        _HERE.graph = None
        RECORDING.discard(self.graph)
        self.on.__exit__()


def spoil(tensor: Tensor) -> None:
    """What was only recorded holds no result yet."""
    with torch.inference_mode():
        tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor.zero_()
