"""All that can change from one frame to the next, in one value that is replaced as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from comfystream.errors import ConfigError

from .control import Control
from .core import Guidance, Schedule, ScheduleKind, check_steps
from .core.guidance import GuidanceMode
from .text import Embedding

__all__ = ["Similarity", "StreamSettings", "Style"]


@dataclass(frozen=True, slots=True)
class Similarity:
    """When frames are skipped: see `core.similarity`."""

    threshold: float = 0.98
    most_in_a_row: int = 10


@dataclass(frozen=True, slots=True)
class Style:
    """A picture as a prompt.

    Attributes:
        tokens: [1, tokens, width], of the picture.
        blank: the same of no picture, for unguided rows.
        scale: how strong.
        weight_type: how the strength is spread over the layers.
    """

    tokens: Tensor
    blank: Tensor
    scale: float = 1.0
    weight_type: str = "linear"


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream makes its next frame.

    Attributes:
        prompt: what to make.
        negative: what not to; used by the guidance modes full and initialize.
        steps: indices into the schedule, rising; as many as the stream has slots.
        schedule: what they point into.
        guidance: mode and strength.
        seeds: (seed, weight) pairs.
        seed_method: "linear" or "slerp".
        has_normalised_seeds: whether their weights are divided by the sum.
        transition_frames: over how many frames another prompt or seed comes in; 0 at once.
        transition_method: "linear" or "slerp".
        frames: the frame buffer's size, F.
        adds_noise: whether noise is put on between steps.
        is_batched: one model call per frame (a delay of the steps), or one per step (no delay).
        similarity: skip frames that look the same, or None.
        controls: ControlNets in use.
        style: IP-Adapter in use, or None.
        size: (width, height) to work at; None for the frame's own, rounded to what the model takes.
    """

    prompt: Embedding
    negative: Embedding | None = None
    steps: tuple[int, ...] = (32, 45)
    schedule: Schedule = field(default_factory=lambda: Schedule(ScheduleKind.LCM, 50))
    guidance: Guidance = field(default_factory=Guidance)
    seeds: tuple[tuple[int, float], ...] = ((2, 1.0),)
    seed_method: str = "linear"
    has_normalised_seeds: bool = True
    transition_frames: int = 0
    transition_method: str = "linear"
    frames: int = 1
    adds_noise: bool = True
    is_batched: bool = True
    similarity: Similarity | None = None
    controls: tuple[Control, ...] = ()
    style: Style | None = None
    size: tuple[int, int] | None = None

    def checked(self) -> StreamSettings:
        """Itself, when it can be used.

        Raises:
            ConfigError: a value out of range.
        """
        check_steps(self.steps, self.schedule.count)
        if not 1 <= self.frames <= 16:
            raise ConfigError(f"frame_buffer_size is {self.frames}", hint="use 1 to 16")
        if not self.seeds:
            raise ConfigError("there is no seed")
        needs_picture = self.guidance.active in (GuidanceMode.SELF, GuidanceMode.INITIALIZE)
        if self.schedule.is_zero_terminal and self.steps[0] == 0 and needs_picture:
            raise ConfigError(
                f"this model's first step begins with noise alone, where {self.guidance.mode} guidance says nothing",
                hint="use cfg_type none or full, or a t_index_list that begins with 1 or more",
            )
        return self

    def row_counts(self) -> tuple[int, ...]:
        """All numbers of rows that the UNet is run with, the largest first."""
        slots = len(self.steps)
        if self.is_batched:
            return (self.guidance.rows(slots, self.frames),)
        front = self.guidance.unguided_rows(slots, self.frames)
        if not front:
            return (self.frames,)
        return (2 * self.frames,) if front == slots * self.frames else (2 * self.frames, self.frames)
