"""CUDA graphs: the whole run of a model as one launch.

At one frame per run a fast GPU waits for the processor: a UNet is hundreds of kernels of a few microseconds each. A
graph remembers addresses, so it lives exactly as long as the buffers that it was recorded with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from comfystream.errors import EngineError

from .backend import Backend, Capability, Capture
from .eager import EagerBackend
from .runner import Runner, memory_trouble
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CudaGraphBackend", "GraphedRunner", "capture_cuda_graph", "cuda_capture"]

WARM_RUNS = 3  # libraries choose kernels and take their scratch memory on the first runs; none of it may be recorded


def capture_cuda_graph(run: Callable[[], None]) -> Callable[[], None]:
    """Record a function into a CUDA graph, on a stream of its own, as torch's documentation asks for.

    Raises:
        EngineError: what it does cannot be recorded.
    """
    import torch

    side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_RUNS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # frames go on meanwhile, on other threads
            run()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise EngineError(
            f"cannot be recorded as a CUDA graph: {' '.join(str(error).split())[:160]}",
            code="not_capturable",
            hint="a model that waits for the device or copies to the host cannot; use another backend for it",
        ) from error
    return graph.replay


def cuda_capture(device: str) -> Capture | None:
    """What records on a device: `capture_cuda_graph` on a GPU."""
    return capture_cuda_graph if device.startswith("cuda") else None


class GraphedRunner(Runner):
    """Another runner, recorded. The graph is made anew whenever that one's buffers are.

    Args:
        inner: what is recorded.
        capture: how.
    """

    def __init__(self, inner: Runner, capture: Capture = capture_cuda_graph) -> None:
        super().__init__(inner.spec, inner.device, f"{inner.backend} in a CUDA graph")
        self._inner = inner
        self._capture = capture
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
