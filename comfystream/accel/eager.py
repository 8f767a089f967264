"""The module as it is: the reference that all other backends are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from comfystream.errors import EngineError
from comfystream.gpu_turns import device_wide

from .backend import Backend, Capability
from .placement import bring
from .runner import Runner, memory_trouble
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["EagerBackend", "FunctionRunner", "as_tensors"]


def as_tensors(result: Any) -> tuple[Tensor, ...]:
    """What a module returned, as a flat tuple of tensors."""
    import torch

    if isinstance(result, torch.Tensor):
        return (result,)
    return tuple(result)


class FunctionRunner(Runner):
    """Runs anything that takes the inputs in order and returns tensors.

    What it calls may allocate; its results are copied into buffers that stay.
    """

    def __init__(self, call: Callable[..., Any], spec: ModelSpec, device: str, backend: str) -> None:
        super().__init__(spec, device, backend)
        self._call: Callable[..., Any] | None = call
        self._arguments: tuple[Tensor, ...] = ()
        self._results: tuple[Tensor, ...] = ()

    def _prepare(self) -> None:
        import torch

        self._arguments = tuple(self.inputs.values())
        with device_wide():  # what compiles in its first run times kernels
            results = self._results_of_call()
        if len(results) != len(self.spec.outputs):
            raise EngineError(
                f"{self.place}: gives {len(results)} outputs, {len(self.spec.outputs)} are named", code="bad_output"
            )
        self._results = tuple(torch.empty_like(result).copy_(result) for result in results)
        self.outputs = dict(zip(self.spec.outputs, self._results, strict=True))

    def enqueue(self) -> None:
        with memory_trouble(self.place):
            for buffer, result in zip(self._results, self._results_of_call(), strict=True):
                buffer.copy_(result, non_blocking=True)

    def twin(self) -> FunctionRunner:
        if self._call is None:
            raise EngineError(f"{self.place} is closed", code="closed")
        return FunctionRunner(self._call, self.spec, self.device, self.backend)

    def close(self) -> None:
        super().close()
        self._call, self._arguments, self._results = None, (), ()

    def _results_of_call(self) -> tuple[Tensor, ...]:
        import torch

        if self._call is None:
            raise EngineError(f"{self.place} is closed", code="closed")
        with torch.no_grad():
            return as_tensors(self._call(*self._arguments))


class EagerBackend(Backend):
    """torch, operation by operation, on any device."""

    name = "eager"

    def probe(self) -> Capability:
        try:
            import torch
        except ImportError:
            return Capability(self.name, "", False, False, "torch is not installed", "pip install torch")
        return Capability(self.name, torch.__version__, True, True, "runs wherever torch does")

    def wrap(self, module: nn.Module, spec: ModelSpec, device: str) -> Runner:
        with memory_trouble(spec.name):
            return FunctionRunner(bring(module.eval(), device), spec, device, self.name)
