"""An engine in the place of a UNet: called as ComfyUI calls its own, `(x, timesteps, context, ...)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.errors import EngineError

from .engine_residuals import EngineResiduals
from .nvidia import NvidiaBackend, tensorrt, tensorrt_rtx
from .runner import Runner, torch_dtype
from .spec import Axis

__all__ = ["EngineUNet", "load_engine_unet", "nvidia_backend"]


class EngineUNet(nn.Module):
    """A UNet that is an engine, with the inputs `x, timesteps, context`, for SDXL `y`, and residuals of a ControlNet.

    There are no attention modules to patch in it. An engine that was built without residual inputs takes no ControlNet,
    and who asks for one is told.
    """

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner
        names = [one.name for one in runner.spec.inputs]
        if names[:3] != ["x", "timesteps", "context"]:
            raise EngineError(
                f"{runner.place}: not an engine of a UNet for ComfyUI: its inputs are {', '.join(names)}",
                code="bad_graph",
                hint="build it with `names: comfyui`",
            )
        self.has_pooled = "y" in names
        self.residuals = EngineResiduals(runner.spec, runner.place)
        self.dtype = torch_dtype(runner.spec.inputs[0].dtype)
        rows = runner.spec.inputs[0].shape[0]
        self.most_rows = rows.max if isinstance(rows, Axis) else rows

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
        **unused: Any,
    ) -> Tensor:
        """One prediction; more rows than the engine takes are done in parts.

        Raises:
            EngineError: it needs pooled text that is not given, or cannot take this ControlNet.
        """
        if control and not self.residuals:
            raise EngineError(
                f"{self.runner.place}: this engine takes no ControlNet",
                code="no_control",
                hint="build it with `controlnet`, or use the model itself",
            )
        if self.has_pooled and y is None:
            raise EngineError(
                f"{self.runner.place}: this engine needs pooled text, and none came",
                code="bad_input",
                hint="choose the model type of the engine: an SDXL engine is no SD 1.x",
            )
        values = {"x": x, "timesteps": timesteps.expand(x.shape[0]), "context": context}
        values |= {"y": y} if self.has_pooled and y is not None else {}
        values |= self.residuals.values(control, x)
        output = self.runner.spec.outputs[0]
        parts = []
        for start in range(0, x.shape[0], self.most_rows):
            some = {name: value[start : start + self.most_rows] for name, value in values.items()}
            parts.append(self.runner.results(some)[output])
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def nvidia_backend() -> NvidiaBackend:
    """TensorRT if it is installed, else TensorRT-RTX.

    Raises:
        EngineError: neither is.
    """
    backends = tensorrt(), tensorrt_rtx()
    found = [one.probe() for one in backends]
    for backend, capability in zip(backends, found, strict=True):
        if capability.version:
            return backend
    reasons = "; ".join(one.reason for one in found)
    raise EngineError(f"an engine needs TensorRT: {reasons}", code="backend_missing", hint=found[0].hint)


def load_engine_unet(path: Path, device: str = "cuda") -> EngineUNet:
    """An engine file of a UNet, ready to be called.

    Raises:
        EngineError: TensorRT is missing, or refuses the file.
    """
    return EngineUNet(nvidia_backend().load(path, None, device))
