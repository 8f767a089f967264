"""Scaling of pictures [B, C, H, W]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image


def lanczos(samples: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Scale with Pillow's Lanczos filter, at 8 bits, as ComfyUI does."""
    scaled = []
    for picture in samples:
        levels = (picture.movedim(0, -1).cpu().numpy() * 255.0).clip(0, 255).astype(np.uint8)
        shape = levels[..., 0] if levels.shape[-1] == 1 else levels
        pixels = np.asarray(Image.fromarray(shape).resize((width, height), Image.Resampling.LANCZOS))
        scaled.append(torch.from_numpy(pixels.reshape(height, width, -1).astype(np.float32) / 255.0).movedim(-1, 0))
    return torch.stack(scaled).to(samples.device, samples.dtype)


def bislerp(samples: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Scale by spherical interpolation between neighbours, first across, then down; lengths are interpolated too."""
    across = _slerp_last(samples.float(), width)
    down = _slerp_last(across.transpose(-1, -2), height)
    return down.transpose(-1, -2).to(samples.dtype)


def _slerp_last(values: torch.Tensor, size: int) -> torch.Tensor:
    left, right, weight = _neighbours(values.shape[-1], size, values.device)
    return _slerp(values[..., left], values[..., right], weight)


def _neighbours(old: int, new: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    index = torch.arange(old, dtype=torch.float32, device=device).reshape(1, 1, 1, -1)

    def resized(of: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(of, size=(1, new), mode="bilinear").flatten()

    moved = torch.arange(1, old + 1, dtype=torch.float32, device=device).reshape(1, 1, 1, -1)
    moved[..., -1] -= 1
    return resized(index).long(), resized(moved).long(), resized(index).frac()


def _slerp(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    # vectors lie along the channels (dim 1)
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    unit_a, unit_b = (a / length_a).nan_to_num(0.0), (b / length_b).nan_to_num(0.0)
    cosine = (unit_a * unit_b).sum(1, keepdim=True)
    angle = cosine.clamp(-1, 1).acos()
    turned = ((1 - weight) * angle).sin() / angle.sin() * unit_a + (weight * angle).sin() / angle.sin() * unit_b
    mixed = turned * (length_a * (1 - weight) + length_b * weight)
    straight = a * (1 - weight) + b * weight
    return torch.where(cosine > 1 - 1e-5, a, torch.where(cosine < 1e-5 - 1, straight, mixed))


def common_upscale(samples: torch.Tensor, width: int, height: int, upscale_method: str, crop: str) -> torch.Tensor:
    """Scale pictures or latents [B, C, H, W] or [B, C, T, H, W].

    Args:
        samples: values of any range ("lanczos": 0 to 1).
        width: new width.
        height: new height.
        upscale_method: "nearest-exact", "bilinear", "area", "bicubic", "bislerp" or "lanczos".
        crop: "center" cuts to the new aspect ratio first; "disabled" stretches.
    """
    lead = tuple(samples.shape)
    if samples.ndim > 4:
        samples = samples.movedim(1, -3).reshape(-1, lead[1], *lead[-2:])
    if crop == "center":
        samples = _center_crop(samples, width / height)
    if upscale_method == "bislerp":
        scaled = bislerp(samples, width, height)
    elif upscale_method == "lanczos":
        scaled = lanczos(samples, width, height)
    else:
        scaled = torch.nn.functional.interpolate(samples, size=(height, width), mode=upscale_method)
    if len(lead) == 4:
        return scaled
    return scaled.reshape(lead[0], *lead[2:-2], lead[1], height, width).movedim(-3, 1)


def _center_crop(samples: torch.Tensor, aspect: float) -> torch.Tensor:
    height, width = samples.shape[-2:]
    x = round((width - width * (aspect / (width / height))) / 2) if width / height > aspect else 0
    y = round((height - height * ((width / height) / aspect)) / 2) if width / height < aspect else 0
    return samples.narrow(-2, y, height - 2 * y).narrow(-1, x, width - 2 * x)


def reshape_mask(input_mask: torch.Tensor, output_shape: tuple[int, ...]) -> torch.Tensor:
    """Scale a mask to the size of `output_shape` [B, C, ..., H, W] and repeat it over channels and batch."""
    mask = input_mask.reshape(-1, 1, *input_mask.shape[-2:])
    scaled = torch.nn.functional.interpolate(mask, size=tuple(output_shape[-2:]), mode="bilinear")
    wide = scaled.expand(-1, output_shape[1], -1, -1) if scaled.shape[1] < output_shape[1] else scaled
    repeats = -(-output_shape[0] // wide.shape[0])
    return wide.repeat(repeats, 1, 1, 1)[: output_shape[0]]


def get_tiled_scale_steps(width: int, height: int, tile_x: int, tile_y: int, overlap: int) -> int:
    """How many tiles `tiled_scale` will run."""
    return len(_starts(height, tile_y, overlap)) * len(_starts(width, tile_x, overlap))


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    return list(range(0, size - overlap, tile - overlap)) if size > tile else [0]


def tiled_scale(
    samples: torch.Tensor,
    function: Callable[[torch.Tensor], torch.Tensor],
    tile_x: int = 64,
    tile_y: int = 64,
    overlap: int = 8,
    upscale_amount: float = 4,
    out_channels: int = 3,
    output_device: Any = "cpu",
    pbar: Any = None,
) -> torch.Tensor:
    """Run `function` on overlapping tiles of [B, C, H, W] and feather them together."""
    height, width = samples.shape[-2:]
    shape = (samples.shape[0], out_channels, round(height * upscale_amount), round(width * upscale_amount))
    total = torch.zeros(shape, device=output_device)
    weights = torch.zeros((1, 1, *shape[-2:]), device=output_device)
    for y in _starts(height, tile_y, overlap):
        for x in _starts(width, tile_x, overlap):
            top, left = max(0, min(height - overlap, y)), max(0, min(width - overlap, x))
            tile = samples[..., top : top + tile_y, left : left + tile_x]
            done = function(tile).to(output_device)
            feather = _feather(done.shape[-2], done.shape[-1], round(overlap * upscale_amount), output_device)
            rows = slice(round(top * upscale_amount), round(top * upscale_amount) + done.shape[-2])
            columns = slice(round(left * upscale_amount), round(left * upscale_amount) + done.shape[-1])
            total[..., rows, columns] += done * feather
            weights[..., rows, columns] += feather
            if pbar is not None:
                pbar.update(1)
    return total / weights


def _feather(height: int, width: int, border: int, device: Any) -> torch.Tensor:
    def ramp(size: int) -> torch.Tensor:
        place = torch.arange(size, device=device, dtype=torch.float32)
        return (torch.minimum(place, place.flip(0)) + 1).clamp(max=max(border, 1)) / max(border, 1)

    return ramp(height)[:, None] * ramp(width)[None, :]
