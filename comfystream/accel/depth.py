"""Depth models of transformers, such as Depth Anything v1 and v2: picture -> depth, as engines want them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.errors import AssetError, ConfigError, EngineError

from .spec import PRECISIONS, ModelSpec, TensorSpec
from .weights import check_safetensors

__all__ = ["DepthModule", "depth_spec", "load_depth_model", "patch_of"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which all of them were trained with


class DepthModule(nn.Module):
    """[n, 3, side, side] of 0..1 -> [n, 1, side, side] in the model's own range, single precision.

    Args:
        model: gives `predicted_depth`, larger where it is nearer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        depth: Tensor = self.model(pixel_values=(images - self.mean) / self.std).predicted_depth[:, None].float()
        return depth


def load_depth_model(folder: Path) -> Any:
    """A depth model's folder in the layout of transformers.

    Raises:
        AssetError: it holds no depth model, or a damaged one.
        EngineError: transformers is missing.
    """
    try:
        import transformers
    except ImportError:
        raise EngineError(
            "depth models need the package transformers",
            code="backend_missing",
            hint="pip install 'comfystream[diffusion]'",
        ) from None
    if not (folder / "config.json").is_file():
        raise AssetError(
            f"{folder}: no depth model: there is no config.json in it", code="no_file", hint="comfystream fetch models"
        )
    for file in sorted(folder.glob("*.safetensors")):
        check_safetensors(file)
    try:
        model = transformers.AutoModelForDepthEstimation.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        said = " ".join(str(error).split())[:160]
        raise AssetError(f"{folder}: cannot be loaded as a depth model: {said}", code="broken_weights") from error
    return model.eval().requires_grad_(False)


def patch_of(model: Any) -> int:
    """Sides of its input are multiples of this."""
    inner = getattr(model.config, "backbone_config", None) or model.config
    return int(getattr(inner, "patch_size", None) or 1)


def depth_spec(model: Any, side: int, batch: int = 1, precision: str = "fp32") -> ModelSpec:
    """Inputs of `DepthModule`: one size, a square.

    Raises:
        ConfigError: the side is no multiple of the model's patches.
    """
    patch = patch_of(model)
    if side < patch or side % patch:
        nearest = max(1, round(side / patch)) * patch
        raise ConfigError(
            f"a side of {side} is no multiple of the model's patches of {patch}",
            code="bad_shape",
            hint=f"use {nearest}",
        )
    shape = (batch, 3, side, side)
    return ModelSpec("depth", (TensorSpec("images", PRECISIONS[precision], shape),), ("depth",), precision)
