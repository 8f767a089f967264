"""A model of one line, and the stream-batch equations written down plainly, frame by frame, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from comfystream_nodes.streamdiffusion.core import Guidance, Schedule
from comfystream_nodes.streamdiffusion.core.batch import Tables

SHAPE = (4, 6, 5)


def frames_of(count: int) -> Tensor:
    """Latents [count, 4, h, w] of noise, always the same."""
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def toy_model(text: float, unguided: float, front: int = 0):
    """Predicts something that depends on the picture, the time and the words; `front` rows hear the negative ones.

    Whether it is noise or velocity is up to who asks.
    """

    def denoise(x: Tensor, times: Tensor) -> Tensor:
        words = torch.full((len(x), 1, 1, 1), text, dtype=x.dtype)
        words[:front] = unguided
        return torch.sin(x * 1.3 + words) * 0.8 + times.view(-1, 1, 1, 1).to(x.dtype) / 1000 * x

    return denoise


def reference(
    frame: Tensor,
    steps: list[int],
    noise: Tensor,
    guidance: Guidance,
    text: float,
    unguided: float,
    adds_noise=True,
    is_velocity: bool = False,
) -> Tensor:
    """One frame [4, h, w] through all steps, after the equations of the paper; nothing of `core` but its schedule."""
    times = Schedule().timesteps()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2
    kept = torch.cumprod(1 - betas, 0).double()

    def as_noise(predicted: Tensor, x: Tensor, t: int) -> Tensor:
        return kept[t] ** 0.5 * predicted + (1 - kept[t]) ** 0.5 * x if is_velocity else predicted

    mode = guidance.mode.value if guidance.scale > 1 else "none"
    model, x0, stock = toy_model(text, unguided), frame, noise[0]
    other = toy_model(unguided, unguided)

    def consistency(x: Tensor, e: Tensor, t: int) -> Tensor:
        alpha, sigma = kept[t] ** 0.5, (1 - kept[t]) ** 0.5
        skip, out = 0.25 / ((10 * t) ** 2 + 0.25), 10 * t / ((10 * t) ** 2 + 0.25) ** 0.5
        return out * (x - sigma * e) / alpha + skip * x

    for k, index in enumerate(steps):
        t = times[index]
        alpha, sigma = kept[t] ** 0.5, (1 - kept[t]) ** 0.5
        x = alpha * x0 + (sigma * noise[k] if adds_noise or k == 0 else 0)
        time = torch.tensor([t])
        e = as_noise(model(x[None], time)[0], x, t)
        if mode == "full":
            u = as_noise(other(x[None], time)[0], x, t)
            e = u + guidance.scale * (e - u)
        elif mode in ("self", "initialize"):
            if mode == "initialize" and k == 0:
                stock = as_noise(other(x[None], time)[0], x, t)
            u = guidance.delta * stock
            e = u + guidance.scale * (e - u)
        x0 = consistency(x, e, t)
        if k + 1 < len(steps):
            later = times[steps[k + 1]]
            ratio = kept[later] ** 0.5 / (1 - kept[later]) ** 0.5
            stock = noise[k + 1] + consistency(sigma * stock, e, t) * ratio
    return x0


def tables(
    steps: list[int], guidance: Guidance, frames: int = 1, adds_noise: bool = True, is_velocity: bool = False
) -> Tables:
    values = Schedule().tables(steps, frames, torch.float64)
    return Tables.make(values, frames, guidance, adds_noise=adds_noise, predicts_velocity=is_velocity)
