"""Noise levels of the denoising steps: the tables of the LCM and the turbo schedule.

LCM is "Latent Consistency Models" (arXiv 2310.04378) as diffusers' `LCMScheduler` computes it; turbo is the trailing
spacing that "Adversarial Diffusion Distillation" models (SD-Turbo, SDXL-Turbo) were made for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from comfystream.errors import ConfigError

__all__ = ["Schedule", "ScheduleKind", "SlotTables", "alphas_cumprod", "check_steps", "parse_steps"]

TRAIN_STEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0
LCM_ORIGINAL_STEPS = 50
LEAST_ALPHA = 2.0**-24  # cumulated: what is left of the picture where nothing should be; a root of it is 2**-12


class ScheduleKind(StrEnum):
    """How timesteps are spaced, and whether the consistency model's boundary condition is applied."""

    LCM = "lcm"
    TURBO = "turbo"


def check_steps(steps: Sequence[int], count: int) -> tuple[int, ...]:
    """Step indices that a schedule of `count` steps has, in rising order.

    Raises:
        ConfigError: none given, one out of range, or not rising.
    """
    if not steps:
        raise ConfigError("t_index_list is empty", hint="give at least one step index, such as 32,45")
    outside = [index for index in steps if not 0 <= index < count]
    if outside:
        raise ConfigError(
            f"t_index_list holds {outside[0]}, which is out of range: num_inference_steps is {count}",
            code="t_index_out_of_range",
            hint=f"use indices from 0 to {count - 1}, or more num_inference_steps",
        )
    if any(later <= earlier for earlier, later in zip(steps, steps[1:], strict=False)):
        raise ConfigError(
            f"t_index_list {list(steps)} does not rise", hint="a later step has less noise, so a larger index"
        )
    return tuple(steps)


def parse_steps(text: str | Sequence[int]) -> tuple[int, ...]:
    """Step indices out of "32,45", "[32, 45]" or a list.

    Raises:
        ConfigError: something in it is no whole number, or it is negative.
    """
    try:
        if isinstance(text, str):
            stripped = text.strip()
            given = json.loads(stripped) if stripped.startswith("[") else [p for p in stripped.split(",") if p.strip()]
        else:
            given = list(text)
        steps = tuple(int(part) for part in given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"t_index_list {text!r} is no list of whole numbers", hint="such as 32,45") from error
    if not steps or any(index < 0 for index in steps):
        raise ConfigError(f"t_index_list {text!r} needs one or more indices of 0 or more", hint="such as 32,45")
    return steps


def alphas_cumprod(is_zero_terminal: bool = False) -> Tensor:
    """How much of a picture's variance is left at each of the 1000 timesteps; float32.

    Args:
        is_zero_terminal: nothing (2**-24) is left at the last one, and proportionally less before: "Common Diffusion
            Noise Schedules and Sample Steps are Flawed" (arXiv 2305.08891), algorithm 1.
    """
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float32) ** 2
    kept = torch.cumprod(1.0 - betas, dim=0)
    if not is_zero_terminal:
        return kept
    roots = kept.double().sqrt()
    rescaled = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    return (rescaled**2).clamp_min(LEAST_ALPHA).float()


@dataclass(frozen=True, slots=True)
class SlotTables:
    """One number per row of the batch, as [rows, 1, 1, 1]; a slot's F rows are equal.

    Attributes:
        timesteps: [rows], what the model is told.
        alpha: the root of the cumulated alpha: how much of the picture is left.
        sigma: the root of one minus it: how much noise is in it.
        c_skip: how much of the input the result keeps (LCM's boundary condition; 0 for turbo).
        c_out: how much of the prediction it takes.
    """

    timesteps: Tensor
    alpha: Tensor
    sigma: Tensor
    c_skip: Tensor
    c_out: Tensor


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps that indices of a `t_index_list` point into.

    Attributes:
        kind: LCM or turbo.
        count: num_inference_steps, 1 or more.
        is_zero_terminal: the model was trained with nothing of the picture left at the last timestep.
    """

    kind: ScheduleKind = ScheduleKind.LCM
    count: int = LCM_ORIGINAL_STEPS
    is_zero_terminal: bool = False

    def timesteps(self) -> list[int]:
        """All timesteps, falling, each within 0..999.

        Raises:
            ConfigError: more steps than the schedule can have.
        """
        if not 1 <= self.count <= TRAIN_STEPS:
            raise ConfigError(f"num_inference_steps is {self.count}", hint=f"use 1 to {TRAIN_STEPS}")
        if self.kind is ScheduleKind.TURBO:
            return [round(TRAIN_STEPS - index * TRAIN_STEPS / self.count) - 1 for index in range(self.count)]
        original = max(LCM_ORIGINAL_STEPS, self.count)  # the model was distilled on 50; more are spaced as finely
        stride = TRAIN_STEPS // original
        falling = [index * stride - 1 for index in range(original, 0, -1)]
        return [falling[index * original // self.count] for index in range(self.count)]

    def tables(self, steps: Sequence[int], frames: int = 1, dtype: torch.dtype = torch.float32) -> SlotTables:
        """The numbers of the chosen steps, each repeated for the frames of a slot; on the CPU.

        Args:
            steps: indices into `timesteps()`, rising.
            frames: rows per slot (the frame buffer's size).
            dtype: of the tables; they are computed in float64 from float32 betas.

        Raises:
            ConfigError: an index out of range.
        """
        every = self.timesteps()
        chosen = [every[index] for index in check_steps(steps, len(every))]
        times = torch.tensor(chosen).repeat_interleave(frames)
        kept = alphas_cumprod(self.is_zero_terminal)[times].double()
        scaled = (times.double() * TIMESTEP_SCALING) ** 2
        if self.kind is ScheduleKind.LCM:
            c_skip = SIGMA_DATA**2 / (scaled + SIGMA_DATA**2)
            c_out = (scaled / (scaled + SIGMA_DATA**2)).sqrt()
        else:
            c_skip, c_out = torch.zeros_like(scaled), torch.ones_like(scaled)

        def shaped(values: Tensor) -> Tensor:
            return values.to(dtype).view(-1, 1, 1, 1)

        return SlotTables(times, shaped(kept.sqrt()), shaped((1 - kept).sqrt()), shaped(c_skip), shaped(c_out))
