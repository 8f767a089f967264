"""Resizing of pictures and masks; results equal to ComfyUI's, lanczos through Pillow in 8 bits included."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

__all__ = ["fit_longer_side", "match_channels", "repeat_batch", "resize", "resize_mask", "to_uint8"]


def to_uint8(picture: Tensor) -> Tensor:
    """Values 0..1 to bytes on the CPU, cut off (not rounded) as ComfyUI does it."""
    return picture.mul(255.0).clamp_(0, 255).to(torch.uint8).cpu()


def _lanczos(picture: Tensor, width: int, height: int) -> Tensor:
    channels = picture.shape[-1]
    if channels not in (1, 3, 4):
        raise ValueError(f"lanczos takes pictures with 1, 3 or 4 channels, got {channels}; choose another method")
    pixels = to_uint8(picture).numpy()
    out = picture.new_empty((picture.shape[0], height, width, channels))
    for index, item in enumerate(pixels):
        source = Image.fromarray(item[..., 0] if channels == 1 else item)
        resized = source.resize((width, height), resample=Image.Resampling.LANCZOS)
        out[index] = torch.from_numpy(np.array(resized)).view(height, width, channels)
    return out.div_(255.0)


def _center_crop(picture: Tensor, width: int, height: int) -> Tensor:
    """The largest centred window with the aspect ratio of the target."""
    old_height, old_width = picture.shape[1:3]
    old_aspect, new_aspect = old_width / old_height, width / height
    x = y = 0
    if old_aspect > new_aspect:
        x = round((old_width - old_width * (new_aspect / old_aspect)) / 2)
    elif old_aspect < new_aspect:
        y = round((old_height - old_height * (old_aspect / new_aspect)) / 2)
    return picture[:, y : old_height - y, x : old_width - x]


def resize(picture: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Resize a batch of pictures.

    Args:
        picture: float [batch, height, width, channels].
        width: target width in pixels, at least 1.
        height: target height in pixels, at least 1.
        method: one of `SCALE_METHODS`.
        crop: "center" cuts to the target's aspect ratio first, "disabled" stretches.

    Returns:
        Float [batch, height, width, channels]; the input itself when there is nothing to do.
    """
    if crop == "center":
        picture = _center_crop(picture, width, height)
    if method == "lanczos":
        return _lanczos(picture, width, height)
    if picture.shape[1:3] == (height, width):
        return picture
    return interpolate(picture.movedim(-1, 1), size=(height, width), mode=method).movedim(1, -1)


def resize_mask(mask: Tensor, width: int, height: int, method: str = "bilinear", crop: str = "disabled") -> Tensor:
    """Resize masks [..., height, width] to [batch, height, width]; see `resize`."""
    flat = mask.reshape(-1, mask.shape[-2], mask.shape[-1], 1)
    return resize(flat, width, height, method, crop).squeeze(-1)


def fit_longer_side(width: int, height: int, longer: int) -> tuple[int, int]:
    """Width and height with the longer side at `longer`, aspect ratio kept."""
    if height > width:
        return round((width / height) * longer), longer
    if width > height:
        return longer, round((height / width) * longer)
    return longer, longer


def repeat_batch(items: Tensor, count: int) -> Tensor:
    """The first `count` items, starting over when there are fewer."""
    have = items.shape[0]
    if have >= count:
        return items[:count]
    if have == 1:
        return items.expand(count, *items.shape[1:])
    return items.repeat(-(-count // have), *[1] * (items.dim() - 1))[:count]


def match_channels(destination: Tensor, source: Tensor) -> Tensor:
    """`source` with as many channels as `destination`: an alpha too many is cut, a missing one is opaque."""
    if destination.shape[-1] < source.shape[-1]:
        return source[..., : destination.shape[-1]]
    if destination.shape[-1] > source.shape[-1]:
        return pad(source, (0, 1), value=1.0)
    return source
