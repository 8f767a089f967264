"""Residual classifier-free guidance: how many rows a model runs, and what becomes of its predictions.

"StreamDiffusion" (arXiv 2312.12491), section 3.2. With g the scale and delta the weight of the stock noise:

    none        e = e_text                                       n rows
    full        e = u + g (e_text - u), u predicted              2 n rows
    self        u = delta * stock                                n rows
    initialize  as self; u of the first slot is predicted        n + 1 rows

A model that was distilled with guidance ("Latent Consistency Models", arXiv 2310.04378, section 4.2) is told the scale
instead: e = e_text(g), n rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from comfystream.errors import ConfigError

__all__ = ["Guidance", "GuidanceMode", "embedded_scale"]


class GuidanceMode(StrEnum):
    """Where the unguided prediction comes from."""

    NONE = "none"
    FULL = "full"
    SELF = "self"
    INITIALIZE = "initialize"


@dataclass(frozen=True, slots=True)
class Guidance:
    """Mode and strength.

    Attributes:
        mode: where the unguided prediction comes from.
        scale: g; 1 and below switch guidance off.
        delta: weight of the stock noise.
    """

    mode: GuidanceMode = GuidanceMode.SELF
    scale: float = 1.1
    delta: float = 1.0

    @staticmethod
    def of(mode: str, scale: float, delta: float) -> Guidance:
        """Out of a node's inputs.

        Raises:
            ConfigError: an unknown mode.
        """
        if mode not in tuple(GuidanceMode):
            raise ConfigError(f"cfg_type {mode!r} is unknown", hint="use none, full, self or initialize")
        return Guidance(GuidanceMode(mode), scale, delta)

    @property
    def active(self) -> GuidanceMode:
        """The mode that has an effect: none where the scale is 1 or less."""
        return self.mode if self.scale > 1 else GuidanceMode.NONE

    def rows(self, slots: int, frames: int = 1) -> int:
        """How many rows the model runs per tick."""
        return slots * frames + self.unguided_rows(slots, frames)

    def unguided_rows(self, slots: int, frames: int = 1) -> int:
        """How many of them stand in front, with the negative prompt."""
        return {GuidanceMode.FULL: slots * frames, GuidanceMode.INITIALIZE: frames}.get(self.active, 0)

    def layout(self, guided: Tensor, unguided: Tensor, slots: int, frames: int = 1) -> Tensor:
        """Conditioning of every row: [1, ...] each, or [rows, ...] per row already, to [rows, ...]."""
        return layout(guided, unguided, slots * frames, self.unguided_rows(slots, frames))


def layout(guided: Tensor, unguided: Tensor, guided_rows: int, unguided_rows: int) -> Tensor:
    """First `unguided_rows` times the one, then `guided_rows` times the other, in one tensor."""
    out = guided.new_empty((unguided_rows + guided_rows, *guided.shape[1:]))
    out[:unguided_rows] = unguided
    out[unguided_rows:] = guided
    return out


def embedded_scale(scale: float, width: int) -> Tensor:
    """What a model that was distilled with guidance is told: sines and cosines of g - 1, in thousandths.

    Args:
        scale: g; such models were made for about 3 to 14.
        width: of the embedding (`time_cond_proj_dim`), 4 or more.

    Returns:
        [1, width], float32, on the CPU.
    """
    half = width // 2
    waves = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / (half - 1)))
    angles = (scale - 1) * 1000.0 * waves
    blank = angles.new_zeros(width % 2)
    return torch.cat([angles.sin(), angles.cos(), blank])[None]
