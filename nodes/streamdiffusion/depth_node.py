"""Depth of a live picture, by any depth model of transformers, such as Depth Anything V2."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from comfystream.errors import AssetError
from comfystream.model_files import model_input

from .core.transfer import brought
from .loading.entry import device_of, dtype_of, find
from .loading.parts import libraries
from .loading.weights import read_folder
from .preprocess import constant

__all__ = ["NODES", "depth_of", "load_depth"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@lru_cache(maxsize=2)
def load_depth(folder: Path, device: torch.device) -> Any:
    """A depth model's folder.

    Raises:
        AssetError: it holds no depth model, or a damaged one.
    """
    _, transformers = libraries()
    try:
        read_folder(folder)  # damage is told in our words; what tensors were once called, transformers knows
        module = transformers.AutoModelForDepthEstimation.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise AssetError(f"{folder} holds no depth model: {str(error).splitlines()[0]}", code="bad_config") from error
    return module.requires_grad_(False).eval().to(device, dtype_of("auto", device))


def depth_of(module: Any, image: Tensor, side: int = 518) -> Tensor:
    """Near is bright.

    Args:
        module: gives `predicted_depth`.
        image: [frames, height, width, 3] of 0..1.
        side: the model looks at a square of this many pixels, rounded to its patches.

    Returns:
        [frames, height, width, 3] of 0..1, on the model's device.
    """
    weight = next(module.parameters())
    patch = module.config.backbone_config.patch_size
    square = (max(1, side // patch) * patch,) * 2
    picture = brought(image[..., :3], weight.device, torch.float32).movedim(-1, 1)
    small = interpolate(picture, square, mode="bilinear", antialias=True)
    mean, std = (constant(values, small.device, small.dtype).view(1, 3, 1, 1) for values in (MEAN, STD))
    depth = module(pixel_values=((small - mean) / std).to(weight.dtype)).predicted_depth[:, None].float()
    low, high = depth.amin(dim=(2, 3), keepdim=True), depth.amax(dim=(2, 3), keepdim=True)
    depth = (depth - low) / (high - low).clamp_min(1e-6)
    return interpolate(depth, picture.shape[-2:], mode="bilinear").movedim(1, -1).expand(-1, -1, -1, 3)


class StreamDiffusionDepth:
    """A depth picture, for a ControlNet."""

    CATEGORY, FUNCTION, RETURN_TYPES = "StreamDiffusion", "estimate", ("IMAGE",)
    DESCRIPTION = "How near everything is, near is bright; by a depth model's folder in transformers' layout."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        text = model_input("", "depth", default="depth-anything-v2-small")
        side = ("INT", {"default": 518, "min": 56, "max": 1036, "step": 14})
        return {
            "required": {"image": ("IMAGE",), "model": text},
            "optional": {"side": side, "device": ("STRING", {"default": "auto"})},
        }

    def estimate(self, image: Tensor, model: str, side: int = 518, device: str = "auto") -> tuple[Tensor]:
        return (depth_of(load_depth(find(model, "depth"), device_of(device)), image, side),)


NODES: dict[str, tuple[type, str]] = {"StreamDiffusionDepth": (StreamDiffusionDepth, "Stream Depth")}
