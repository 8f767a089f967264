"""A runner in the place of a ControlNet: called as ComfyUI calls its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .runner import Runner, torch_dtype

__all__ = ["EngineControlNet"]


class EngineControlNet(nn.Module):
    """Gives `{"output": [...], "middle": [...]}`, on whatever backend the runner is.

    Args:
        runner: of a `ComfyControlModule`.
    """

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner
        self.dtype = torch_dtype(runner.spec.inputs[0].dtype)
        self.most_rows = runner.spec.inputs[0].at("max")[0]

    def forward(
        self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None = None, **unused: Any
    ) -> dict[str, list[Tensor]]:
        """All residuals; they are the caller's own. More rows than the runner takes are done in parts."""
        rows = len(x)
        values = {"x": x, "hint": _of_rows(hint, rows), "timesteps": timesteps.expand(rows)}
        values["context"] = _of_rows(context, rows)
        if y is not None and any(one.name == "y" for one in self.runner.spec.inputs):
            values["y"] = _of_rows(y, rows)
        parts: list[list[Tensor]] = []
        for start in range(0, rows, self.most_rows):
            some = {name: value[start : start + self.most_rows] for name, value in values.items()}
            found = self.runner.results(some)
            parts.append([found[name] for name in self.runner.spec.outputs])
        *down, middle = parts[0] if len(parts) == 1 else [torch.cat(same) for same in zip(*parts, strict=True)]
        return {"output": down, "middle": [middle]}


def _of_rows(value: Tensor, rows: int) -> Tensor:
    """ComfyUI gives one picture for all rows, or one for each."""
    return value if len(value) == rows else value.repeat(-(-rows // len(value)), *[1] * (value.ndim - 1))[:rows]
