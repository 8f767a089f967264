"""The plain way: every frame goes through all steps before the next one comes. No delay, one model call per step."""

from __future__ import annotations

from torch import Tensor

from .batch import Denoise, Tables
from .guidance import GuidanceMode

__all__ = ["denoise_in_turn"]


def _x0(tables: Tables, rows: slice, x: Tensor, predicted: Tensor, is_velocity: bool = False) -> Tensor:
    values = tables.values
    if is_velocity:
        plain = values.alpha[rows] * x - values.sigma[rows] * predicted
    else:
        plain = (x - values.sigma[rows] * predicted) / values.alpha[rows]
    return values.c_out[rows] * plain + values.c_skip[rows] * x


def denoise_in_turn(tables: Tables, noise: Tensor, latent: Tensor, denoise: list[Denoise]) -> Tensor:
    """All steps of one group of frames.

    Args:
        tables: the steps.
        noise: [n, channels, height, width].
        latent: [F, channels, height, width].
        denoise: the model for each step: called with the F frames, behind F unguided ones where the guidance of that
            step needs them (all steps for "full", the first for "initialize").

    Returns:
        The result, of the latent's shape.
    """
    frames, mode, guidance = tables.frames, tables.guidance.active, tables.guidance
    x0, stock = latent, noise[:1]
    for slot in range(tables.slots):
        rows = slice(slot * frames, (slot + 1) * frames)
        x = x0 * tables.values.alpha[rows]
        if tables.adds_noise or slot == 0:
            x = x + noise[slot : slot + 1] * tables.values.sigma[rows]
        times = tables.values.timesteps[rows]
        doubled = mode is GuidanceMode.FULL or (mode is GuidanceMode.INITIALIZE and slot == 0)
        predicted = denoise[slot](x.repeat(2, 1, 1, 1), times.repeat(2)) if doubled else denoise[slot](x, times)
        if tables.predicts_velocity and not tables.keeps_velocity:
            predicted = tables.values.alpha[rows][:1] * predicted
            predicted = predicted + tables.values.sigma[rows][:1] * (x.repeat(2, 1, 1, 1) if doubled else x)
        if doubled:
            stock = predicted[:frames] if mode is GuidanceMode.INITIALIZE else stock
        text = predicted[-frames:]
        if mode is GuidanceMode.FULL:
            text = predicted[:frames].lerp(text, guidance.scale)
        elif mode is not GuidanceMode.NONE:
            text = (stock * guidance.delta).lerp(text, guidance.scale)
        x0 = _x0(tables, rows, x, text, tables.keeps_velocity)
        if mode in (GuidanceMode.SELF, GuidanceMode.INITIALIZE) and slot + 1 < tables.slots:
            drift = _x0(tables, rows, stock * tables.values.sigma[rows], text)
            stock = noise[slot + 1 : slot + 2] + drift * tables.next_ratio[rows]
    return x0
