"""Mixing embeddings or noise by weight, and gliding from one to another over some frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from comfystream.errors import ConfigError

__all__ = ["METHODS", "Glide", "blend", "linear", "normalised", "slerp"]

METHODS = ("linear", "slerp")
SMALL_ANGLE = 1e-6  # radians; below, a great circle is a straight line


def normalised(weights: Sequence[float]) -> list[float]:
    """Weights that sum to 1; equal ones where the sum is 0.

    Raises:
        ConfigError: none given, or one is no finite number.
    """
    if not weights or not all(math.isfinite(weight) for weight in weights):
        raise ConfigError("weights must be one or more finite numbers")
    total = sum(weights)
    return [1 / len(weights)] * len(weights) if abs(total) < 1e-12 else [weight / total for weight in weights]


def linear(first: Tensor, second: Tensor, amount: float) -> Tensor:
    """The straight way from `first` (0) to `second` (1)."""
    return torch.lerp(first, second, amount)


def slerp(first: Tensor, second: Tensor, amount: float) -> Tensor:
    """The way along the great circle between two tensors, each taken as one long vector; no wait for the device."""
    wide = torch.float64 if first.dtype == torch.float64 else torch.float32
    one, two = first.flatten().to(wide), second.flatten().to(wide)
    cosine = torch.dot(one, two) / (one.norm() * two.norm()).clamp_min(1e-12)
    angle = torch.arccos(cosine.clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    is_straight = sine.abs() < SMALL_ANGLE
    safe = torch.where(is_straight, torch.ones_like(sine), sine)
    round_way = torch.sin((1 - amount) * angle) / safe * one + torch.sin(amount * angle) / safe * two
    mixed = torch.where(is_straight, torch.lerp(one, two, amount), round_way)
    return mixed.view(first.shape).to(first.dtype)


def blend(
    values: Sequence[Tensor], weights: Sequence[float], method: str = "linear", is_normalised: bool = True
) -> Tensor:
    """Mix tensors of one shape.

    Args:
        values: one or more.
        weights: one per value.
        method: "slerp" goes along the great circle, for exactly two; else, and for "linear", the weighted sum.
        is_normalised: divide the weights by their sum first.

    Raises:
        ConfigError: an unknown method, or not as many weights as values.
    """
    if method not in METHODS:
        raise ConfigError(f"interpolation method {method!r} is unknown", hint="use linear or slerp")
    if len(values) != len(weights) or not values:
        raise ConfigError(f"{len(values)} values cannot be mixed by {len(weights)} weights")
    shares = normalised(weights) if is_normalised else list(weights)
    if len(values) == 1:
        return values[0] if is_normalised else values[0] * shares[0]
    if method == "slerp" and len(values) == 2:
        return slerp(values[0], values[1], shares[1])
    mixed = values[0] * shares[0]
    for value, share in zip(values[1:], shares[1:], strict=True):
        mixed = mixed + value * share
    return mixed


class Glide:
    """What a stream uses while it goes from one set of tensors to another over some frames. Used by one thread.

    A new target in the middle of the way starts from where the glide is, so nothing jumps.
    """

    def __init__(self) -> None:
        self._start: tuple[Tensor, ...] = ()
        self._target: tuple[Tensor, ...] = ()
        self._now: tuple[Tensor, ...] = ()
        self._done = self._frames = 0
        self._method = "linear"

    @property
    def is_moving(self) -> bool:
        """Whether the next frame will differ from the last by the glide alone."""
        return self._done < self._frames

    @property
    def now(self) -> tuple[Tensor, ...]:
        """What the last frame used."""
        return self._now

    def aim(self, target: Sequence[Tensor], frames: int = 0, method: str = "linear") -> None:
        """Go to `target` within `frames` frames; with 0, or where nothing of that shape was there, at once."""
        fits = [value.shape for value in self._now] == [value.shape for value in target]
        self._start, self._target, self._method = self._now, tuple(target), method
        self._done, self._frames = 0, max(frames, 0) if fits else 0
        if not self._frames:
            self._now = self._target

    def step(self) -> tuple[Tensor, ...]:
        """What the next frame uses."""
        if self.is_moving:
            self._done += 1
            amount = self._done / self._frames
            mix = slerp if self._method == "slerp" else linear
            arrived = self._done == self._frames
            pairs = zip(self._start, self._target, strict=True)
            self._now = self._target if arrived else tuple(mix(one, two, amount) for one, two in pairs)
        return self._now
