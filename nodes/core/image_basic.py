"""ComfyUI's oldest picture nodes (V1): make, scale, invert, batch, pad."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .limits import MAX_BATCH, MAX_RESOLUTION, SCALE_METHODS
from .resampling import resize

__all__ = ["NODES"]

CROPS = ["disabled", "center"]


def _size(default: int, low: int) -> tuple[str, dict[str, Any]]:
    return ("INT", {"default": default, "min": low, "max": MAX_RESOLUTION, "step": 1})


class EmptyImage:
    """A picture of one colour."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "width": _size(512, 1),
                "height": _size(512, 1),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": MAX_BATCH}),
                "color": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"}),
            }
        }

    def generate(self, width: int, height: int, batch_size: int = 1, color: int = 0) -> tuple[Tensor]:
        rgb = torch.tensor([(color >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)], dtype=torch.float32)
        return (rgb.expand(batch_size, height, width, 3).contiguous(),)


class ImageScale:
    """Scale to a width and a height; 0 = as the aspect ratio says."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"
    CATEGORY = "image/upscaling"
    ESSENTIALS_CATEGORY = "Image Tools"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (SCALE_METHODS,),
                "width": _size(512, 0),
                "height": _size(512, 0),
                "crop": (CROPS,),
            }
        }

    def upscale(self, image: Tensor, upscale_method: str, width: int, height: int, crop: str) -> tuple[Tensor]:
        if width == 0 and height == 0:
            return (image,)
        old_height, old_width = image.shape[1:3]
        width = width or max(1, round(old_width * height / old_height))
        height = height or max(1, round(old_height * width / old_width))
        return (resize(image, width, height, upscale_method, crop),)


class ImageScaleBy:
    """Scale by a factor."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"
    CATEGORY = "image/upscaling"
    ESSENTIALS_CATEGORY = "Image Tools"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (SCALE_METHODS,),
                "scale_by": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01}),
            }
        }

    def upscale(self, image: Tensor, upscale_method: str, scale_by: float) -> tuple[Tensor]:
        height, width = image.shape[1:3]
        return (resize(image, round(width * scale_by), round(height * scale_by), upscale_method),)


class ImageInvert:
    """Each value v becomes 1 - v."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "invert"
    CATEGORY = "image/color"
    ESSENTIALS_CATEGORY = "Image Tools"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}}

    def invert(self, image: Tensor) -> tuple[Tensor]:
        return (1.0 - image,)


class ImageBatch:
    """Two batches one after the other; the second is brought to the size of the first."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "batch"
    CATEGORY = "image/batch"
    DEPRECATED = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image1": ("IMAGE",), "image2": ("IMAGE",)}}

    def batch(self, image1: Tensor, image2: Tensor) -> tuple[Tensor]:
        return (cat_images([image1, image2]),)


def cat_images(images: list[Tensor]) -> Tensor:
    """Batches one after the other: alpha added where another has one, sizes brought to that of the first."""
    first = images[0]
    channels = max(image.shape[-1] for image in images)
    height, width = first.shape[1:3]
    same = []
    for image in images:
        whole = pad(image, (0, 1), value=1.0) if image.shape[-1] < channels else image
        same.append(resize(whole, width, height, "bilinear", "center").to(first.device))
    return torch.cat(same)


@lru_cache(maxsize=8)
def _feather(
    height: int, width: int, sides: tuple[bool, bool, bool, bool], feathering: int, device: torch.device
) -> Tensor | None:
    """Mask inside the old picture: 1 at a padded side, falling with the square of the distance to 0."""
    if not 0 < feathering * 2 < min(height, width):
        return None
    left, top, right, bottom = sides
    rows = torch.arange(height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    far = torch.tensor(float("inf"), dtype=torch.float64)
    from_row = torch.minimum(rows if top else far.expand(height), height - rows if bottom else far)
    from_column = torch.minimum(columns if left else far.expand(width), width - columns if right else far)
    distance = torch.minimum(from_row[:, None], from_column[None, :])
    ramp = ((feathering - distance) / feathering).clamp_(min=0)
    return (ramp * ramp).to(torch.float32).to(device)


class ImagePadForOutpaint:
    """A grey border, and the mask of what is new."""

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "expand_image"
    CATEGORY = "image/transform"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = ("INT", {"default": 0, "min": 0, "max": MAX_RESOLUTION, "step": 8})
        feathering = ("INT", {"default": 40, "min": 0, "max": MAX_RESOLUTION, "step": 1, "advanced": True})
        return {
            "required": {
                "image": ("IMAGE",),
                "left": side,
                "top": side,
                "right": side,
                "bottom": side,
                "feathering": feathering,
            }
        }

    def expand_image(
        self, image: Tensor, left: int, top: int, right: int, bottom: int, feathering: int
    ) -> tuple[Tensor, Tensor]:
        height, width = image.shape[1:3]
        out = pad(image.to(torch.float32), (0, 0, left, right, top, bottom), value=0.5)
        mask = torch.ones((1, height + top + bottom, width + left + right), device=image.device)
        sides = (left > 0, top > 0, right > 0, bottom > 0)
        inside = _feather(height, width, sides, feathering, image.device)
        mask[:, top : top + height, left : left + width] = 0.0 if inside is None else inside
        return out, mask


NODES: dict[str, tuple[type, str]] = {
    "EmptyImage": (EmptyImage, "Empty Image"),
    "ImageBatch": (ImageBatch, "Batch Images (DEPRECATED)"),
    "ImageInvert": (ImageInvert, "Invert Image Colors"),
    "ImagePadForOutpaint": (ImagePadForOutpaint, "Pad Image for Outpainting"),
    "ImageScale": (ImageScale, "Upscale Image"),
    "ImageScaleBy": (ImageScaleBy, "Upscale Image By"),
}
