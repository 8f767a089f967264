"""CUDA graphs: the whole run of a model as one launch.

At one frame per run a fast GPU waits for the processor: a UNet is hundreds of kernels of a few microseconds each. A
graph remembers addresses, so it lives exactly as long as the buffers that it was recorded with.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from comfystream.errors import EngineError
from comfystream.gpu_turns import recording
from comfystream.node_progress import report

from .backend import Backend, Capability, Capture
from .eager import EagerBackend
from .runner import Runner, memory_trouble
from .spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["CudaGraphBackend", "GraphedRunner", "capture_cuda_graph", "cuda_capture"]

_failed: list[torch.cuda.CUDAGraph] = []

WARM_RUNS = 3  # libraries choose kernels and take their scratch memory on the first runs; none of it may be recorded


def capture_cuda_graph(run: Callable[[], None], device: str = "cuda") -> Callable[[], None]:
    """Record a function into a CUDA graph, on a stream of its own, as torch's documentation asks for.

    Args:
        run: what is recorded; it is run some times before.
        device: that it works on.

    Raises:
        EngineError: what it does cannot be recorded.
    """
    import torch

    with torch.cuda.device(device):
        side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_RUNS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        with recording(lambda: report("waiting for the GPU: an engine is built")):
            return _recorded(run)


def _recorded(run: Callable[[], None]) -> Callable[[], None]:
    import torch

    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        _record(run, graph, pool)
    except torch.OutOfMemoryError:
        _forget_failed(graph, pool)
        raise
    except RuntimeError as error:
        _forget_failed(graph, pool)
        if isinstance(error, EngineError) and error.code == "out_of_memory":
            raise
        raise EngineError(
            f"cannot be recorded as a CUDA graph: {' '.join(str(error).split())[:160]}",
            code="not_capturable",
            hint="a model that waits for the device or copies to the host cannot; use another backend for it",
        ) from error
    return graph.replay


def _record(run: Callable[[], None], graph: torch.cuda.CUDAGraph, pool: Any) -> None:
    import torch

    before = torch.cuda.current_stream()
    stream = _recording_stream(torch.cuda.current_device())
    try:  # in mode thread_local frames go on meanwhile, on other threads
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            run()
    finally:
        torch.cuda.set_stream(before)  # torch leaves its own stream current where a recording fails


@functools.cache
def _recording_stream(index: int) -> torch.cuda.Stream:
    """A stream that nobody else has: of usual priority torch has 32, which it hands out again and again, and what
    another thread does on such a one would become a part of the graph.
    """
    import torch

    made: torch.cuda.Stream = torch.cuda.Stream(index, priority=-1)  # type: ignore[no-untyped-call]
    return made


def _forget_failed(graph: torch.cuda.CUDAGraph, pool: Any) -> None:
    """What torch leaves undone when a recording fails at its end.

    Its allocator goes on as if there still was one, which makes the next recording and each `empty_cache` fail, and so
    does (in torch 2.11) its generator of random numbers.
    """
    import torch

    try:
        graph.pool()
    except RuntimeError:  # it has not ended
        index = torch.cuda.current_device()
        for undo in (torch._C._cuda_endAllocateToPool, torch._C._cuda_releasePool):
            with contextlib.suppress(RuntimeError):  # it has not begun either
                undo(index, pool)
    else:
        return
    _failed.append(graph)  # the allocator of pinned memory holds on to it
    with contextlib.suppress(RuntimeError):  # a whole recording puts the generator right
        trifle = torch.zeros(1, device="cuda")
        _record(lambda: _touch(trifle), torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle())


def _touch(trifle: Tensor) -> None:
    trifle.zero_()


def cuda_capture(device: str) -> Capture | None:
    """What records on a device: `capture_cuda_graph` on a GPU."""
    return functools.partial(capture_cuda_graph, device=device) if device.startswith("cuda") else None


class GraphedRunner(Runner):
    """Another runner, recorded. The graph is made anew whenever that one's buffers are.

    Args:
        inner: what is recorded.
        capture: how; as a CUDA graph on the device of that one by default.
    """

    def __init__(self, inner: Runner, capture: Capture | None = None) -> None:
        super().__init__(inner.spec, inner.device, f"{inner.backend} in a CUDA graph")
        self._inner = inner
        self._capture = capture or functools.partial(capture_cuda_graph, device=inner.device)
        self._replay: Callable[[], None] | None = None

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> None:
        wanted = {name: tuple(shape) for name, shape in (shapes or self.spec.shapes()).items()}
        if wanted != self._shapes:
            self.spec.check(wanted)
            self._replay = None  # it writes to buffers that are about to go
        super().bind(wanted)

    def _allocate(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self._inner.bind(shapes)
        self.inputs, self.outputs = self._inner.inputs, self._inner.outputs

    def _prepare(self) -> None:
        self._replay = self._capture(self._inner.enqueue)

    def enqueue(self) -> None:
        if self._replay is None:
            raise EngineError(f"{self.place}: nothing is bound yet", code="not_bound")
        self._replay()

    def twin(self) -> GraphedRunner:
        return GraphedRunner(self._inner.twin(), self._capture)

    def unrecorded(self) -> Runner:
        return self._inner

    def close(self) -> None:
        self._replay = None
        super().close()
        self._inner.close()


class CudaGraphBackend(Backend):
    """The module as it is, recorded into a CUDA graph."""

    name = "cuda-graph"

    def probe(self) -> Capability:
        from .machine import machine

        here = machine()
        if not here.torch:
            return Capability(self.name, "", False, False, "torch is not installed", "pip install torch")
        if not here.gpu:
            return Capability(self.name, here.torch, False, False, here.why_no_gpu, "it needs an NVIDIA GPU")
        return Capability(self.name, here.torch, True, True, f"records on {here.gpu}")

    def wrap(self, module: nn.Module, spec: ModelSpec, device: str) -> Runner:
        if not device.startswith("cuda"):
            raise EngineError(f"{spec.name}: there are no CUDA graphs on {device}", code="wrong_device")
        with memory_trouble(spec.name):
            return GraphedRunner(EagerBackend().wrap(module, spec, device))

    def tick_capture(self, device: str) -> Capture | None:
        return cuda_capture(device)
