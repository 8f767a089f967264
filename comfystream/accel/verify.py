"""An engine beside the module that it was made from: the same random inputs through both, at the ends of every range.

A wrong engine is worse than none. This found a compiler that read past its buffers at a batch of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfystream.errors import EngineError

from .export import example_inputs
from .spec import ModelSpec, Point

if TYPE_CHECKING:
    from torch import nn

    from .runner import Runner

__all__ = ["TOLERANCE", "tolerance", "verify_runner"]

TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 2e-1}
"""Largest difference that a faithful engine may have, in units of the largest output."""


def tolerance(precision: str, device: str) -> float:
    """Of an engine: on a GPU convolutions and engines in single precision multiply with the 10 bits of fp16 (TF32)."""
    return TOLERANCE["fp16" if precision == "fp32" and device.startswith("cuda") else precision]


POINTS: tuple[Point, ...] = ("min", "opt", "max")


def verify_runner(runner: Runner, module: nn.Module, spec: ModelSpec, seed: int = 0) -> float:
    """Compare a runner with the module.

    Args:
        runner: of the engine; it stays bound to the largest shapes.
        module: on the same device, or on the processor.
        spec: what both take.
        seed: of the inputs.

    Returns:
        The largest difference, in units of the largest output.

    Raises:
        EngineError: they differ by more than rounding.
    """
    points = POINTS if spec.is_dynamic else POINTS[1:2]
    return max(_difference_at(point, runner, module, spec, seed) for point in points)


def _difference_at(point: Point, runner: Runner, module: nn.Module, spec: ModelSpec, seed: int) -> float:
    import torch

    from .eager import as_tensors

    device = str(next((one.device for one in module.parameters()), "cpu"))
    values = example_inputs(spec, device, seed, spec.shapes(point))
    with torch.no_grad():
        expected = as_tensors(module.eval()(*values))
    found = runner.run(dict(zip((one.name for one in spec.inputs), values, strict=True)))
    worst = 0.0
    for (name, value), wanted in zip(found.items(), expected, strict=True):
        if value.shape != wanted.shape:
            shapes = f"{list(value.shape)} instead of {list(wanted.shape)}"
            raise EngineError(f"{runner.place}: output {name} is {shapes}", code="engine_differs")
        usual = wanted.float().nan_to_num(0.0, 0.0, 0.0)
        apart = (value.to(usual.device).float() - usual)[wanted.isfinite()].abs()
        worst = max(worst, float(apart.max() / usual.abs().max().clamp(min=1e-6)) if apart.numel() else 0.0)
        if not worst <= tolerance(spec.precision, runner.device):
            raise EngineError(
                f"{runner.place}: output {name} differs from torch by {worst:.2g} of its largest value "
                f"at {', '.join(f'{key} {list(shape)}' for key, shape in spec.shapes(point).items())}",
                code="engine_differs",
                hint="the engine was not kept; use another backend, or another exporter (dynamo, legacy)",
            )
    return worst
