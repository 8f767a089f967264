"""Positions of tokens in time, height and width, as rotations (RoPE, arXiv 2104.09864) the way Wan divides them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["RotaryTable", "rotated"]

THETA = 10_000.0


def _angles(width: int, count: int) -> Tensor:
    """[count, width / 2] in float64."""
    frequencies = THETA ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.outer(torch.arange(count, dtype=torch.float64), frequencies)


class RotaryTable:
    """Rotations of one picture size, for chunks that begin at any frame.

    Args:
        head_width: numbers per head.
        length: positions that the model was made for, in each direction.
        height, width: tokens of a frame.
        frames: latent frames of a chunk.
        device, dtype: of what is given out; it is computed in float64.
    """

    def __init__(
        self,
        head_width: int,
        length: int,
        height: int,
        width: int,
        frames: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        side = 2 * (head_width // 6)
        time = _angles(head_width - 2 * side, length)
        rows = _angles(side, height)[:, None].expand(height, width, -1)
        columns = _angles(side, width)[None].expand(height, width, -1)
        place = torch.cat([rows, columns], -1).flatten(0, 1)
        self._time = time.cos().to(device, dtype), time.sin().to(device, dtype)
        self._place = place.cos().to(device, dtype), place.sin().to(device, dtype)
        self._frames, self.length = frames, length

    def of_chunk(self, start: int, frames: int | None = None) -> tuple[Tensor, Tensor]:
        """Cosines and sines [frames * tokens, head_width / 2] of a chunk that begins at frame `start`."""
        count = self._frames if frames is None else frames
        return self._part(0, start, count), self._part(1, start, count)

    def _part(self, which: int, start: int, count: int) -> Tensor:
        time, place = self._time[which][start : start + count], self._place[which]
        tokens = place.shape[0]
        spread = time[:, None].expand(-1, tokens, -1), place[None].expand(count, -1, -1)
        return torch.cat(spread, -1).flatten(0, 1)


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair of numbers of a head.

    Args:
        x: [1, tokens, heads, width].
        cosine, sine: [tokens, width / 2].
    """
    first, second = x.to(torch.promote_types(x.dtype, cosine.dtype)).unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = cosine[:, None], sine[:, None]
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], -1)
    return turned.flatten(-2).to(x.dtype)
