"""What a tick costs at least: arithmetic, weights and activations, counted on the models as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["HARDWARE", "Cost", "Hardware", "count"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a GPU reaches at most, measured with large matrices and copies.

    Attributes:
        tflops: floating point operations per second in bf16, dense, in units of 10^12.
        tb_per_s: memory, in units of 10^12 bytes per second.
    """

    tflops: float
    tb_per_s: float


HARDWARE = {"H200": Hardware(790.0, 4.3)}
"""By a part of the GPU's name."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one tick.

    Attributes:
        flops: two per multiplication and addition; norms, activations and softmax are not counted.
        weight_bytes: every weight once: the fewest bytes that are read.
        unfused_bytes: weights, and what every layer reads and writes: what is moved when nothing is fused.
    """

    flops: float
    weight_bytes: float
    unfused_bytes: float

    def limit_fps(self, hardware: Hardware, rows: int) -> float:
        """Pictures per second that arithmetic and weights allow."""
        seconds = max(self.flops / (hardware.tflops * 1e12), self.weight_bytes / (hardware.tb_per_s * 1e12))
        return rows / seconds if seconds else float("inf")


def count(tick: Callable[[], Any], modules: Iterable[nn.Module]) -> Cost:
    """Run a tick once and count.

    Args:
        tick: calls the modules as they are.
        modules: all that run in it.
    """
    moved = 0

    def hook(module: nn.Module, given: Any, result: Any) -> None:
        nonlocal moved
        moved += sum(one.numel() * one.element_size() for one in _tensors((given, result)))

    unique = {id(one): one for one in modules}.values()
    leaves = [leaf for one in unique for leaf in one.modules() if not list(leaf.children())]
    hooks = [leaf.register_forward_hook(hook) for leaf in leaves]
    try:
        with FlopCounterMode(display=False) as counter:
            tick()
    finally:
        for one in hooks:
            one.remove()
    weights = sum(one.numel() * one.element_size() for module in unique for one in module.parameters())
    return Cost(float(counter.get_total_flops()), float(weights), float(weights + moved))


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
