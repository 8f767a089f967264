"""The algorithms of streaming diffusion, on torch alone: what a model is made of does not matter here."""

from __future__ import annotations

from .batch import StreamBatch
from .blend import Glide, blend, linear, normalised, slerp
from .guidance import Guidance
from .noise import mixed_noise, slot_noise
from .schedule import Schedule, ScheduleKind, check_steps, parse_steps
from .sequential import denoise_in_turn
from .similarity import SimilarityFilter, skip_probability

__all__ = [
    "Glide",
    "Guidance",
    "Schedule",
    "ScheduleKind",
    "SimilarityFilter",
    "StreamBatch",
    "blend",
    "check_steps",
    "denoise_in_turn",
    "linear",
    "mixed_noise",
    "normalised",
    "parse_steps",
    "skip_probability",
    "slerp",
    "slot_noise",
]
