"""The fixed noise of each step slot. Fixed noise is what keeps one frame like the next."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .blend import blend

__all__ = ["mixed_noise", "slot_noise"]


def slot_noise(seed: int, slots: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise [slots, *shape] of a seed, drawn on the CPU so that every device gets the same.

    Slots are drawn one after the other: a slot keeps its noise when there are more or fewer of them.
    """
    generator = torch.Generator("cpu").manual_seed(seed & 0xFFFF_FFFF_FFFF_FFFF)
    return torch.stack([torch.randn(shape, generator=generator) for _ in range(slots)]).to(dtype)


def mixed_noise(
    seeds: Sequence[tuple[int, float]],
    slots: int,
    shape: tuple[int, ...],
    method: str = "linear",
    is_normalised: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Noise of several seeds, by weight. A linear mix is scaled back to the mean norm of what went in.

    Args:
        seeds: (seed, weight) pairs, one or more.
        slots: how many step slots.
        shape: of one slot.
        method: "linear" or "slerp" (for exactly two).
        is_normalised: divide the weights by their sum.
        dtype: of the result.
    """
    noises = [slot_noise(seed, slots, shape, dtype) for seed, _ in seeds]
    if len(noises) == 1:
        return noises[0]
    mixed = blend(noises, [weight for _, weight in seeds], method, is_normalised)
    if method == "slerp" and len(noises) == 2:
        return mixed
    wanted = torch.stack([noise.norm() for noise in noises]).mean()
    return mixed * (wanted / mixed.norm().clamp_min(1e-8))
