"""Large pictures through a model of one size: tiles that overlap, blended where they do."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["places", "tiled"]


def places(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: every one whole, the last one at the end."""
    if side <= tile:
        return [0]
    stride = tile - overlap
    count = -(-(side - overlap) // stride)
    return [min(number * stride, side - tile) for number in range(count)]


def tiled(
    enlarge: Callable[[Tensor], Tensor], picture: Tensor, tile: tuple[int, int], scale: int, overlap: int = 32
) -> Tensor:
    """Enlarge a picture in tiles.

    Args:
        enlarge: takes [1, 3, tile height, tile width], gives `scale` times the size; may use its result again.
        picture: [n, 3, height, width]. One that is smaller than a tile is continued at its edges, and cut afterwards.
        tile: height and width of a tile.
        scale: of `enlarge`.
        overlap: of neighbouring tiles, in pixels of the picture; at most half a tile is used.

    Returns:
        [n, 3, height * scale, width * scale], single precision.
    """
    rows, _, height, width = picture.shape
    filled = _filled(picture, tile)
    high, wide = filled.shape[2:]
    over = min(overlap, min(tile) // 2)
    larger = torch.zeros((rows, 3, high * scale, wide * scale), device=picture.device, dtype=torch.float32)
    weights = torch.zeros((1, 1, high * scale, wide * scale), device=picture.device, dtype=torch.float32)
    weight = _weight(tile, scale, over, picture.device)
    for top in places(high, tile[0], over):
        for left in places(wide, tile[1], over):
            at = (
                slice(top * scale, (top + tile[0]) * scale),
                slice(left * scale, (left + tile[1]) * scale),
            )
            weights[..., at[0], at[1]] += weight
            for row in range(rows):
                part = filled[row : row + 1, :, top : top + tile[0], left : left + tile[1]]
                larger[row, :, at[0], at[1]] += enlarge(part)[0].to(larger) * weight[0]
    return (larger / weights)[..., : height * scale, : width * scale]


def _filled(picture: Tensor, tile: tuple[int, int]) -> Tensor:
    down, right = (max(0, wanted - side) for wanted, side in zip(tile, picture.shape[2:], strict=True))
    return pad(picture, (0, right, 0, down), mode="replicate") if down or right else picture


@lru_cache(maxsize=8)
def _weight(tile: tuple[int, int], scale: int, overlap: int, device: torch.device) -> Tensor:
    """[1, 1, height, width], falling towards the edges, never 0: where only one tile is, it is the whole."""
    sides = []
    for side in tile:
        at = torch.arange(side * scale, dtype=torch.float32, device=device) + 0.5
        edge = torch.minimum(at, side * scale - at) / max(1, overlap * scale)
        sides.append(edge.clamp(1e-3, 1.0))
    return (sides[0][:, None] * sides[1][None])[None, None]
