"""A video model as a stream uses it; never changed after it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from .autoencoder import VideoAutoencoder
from .pipelines import Pipeline
from .text import VideoText
from .transformer import CausalStep

__all__ = ["VideoModel"]


@dataclass(frozen=True, slots=True)
class VideoModel:
    """What the video sampler works with.

    Attributes:
        name: for people: file or folder name.
        pipeline: how it was distilled, so how it is run.
        step: the transformer, as streams run it.
        autoencoder: pictures to latents and back.
        text: prompts to embeddings.
        device: where it is.
        dtype: what it computes in.
        acceleration: what runs it.
        loras: (name, strength) of what is added to its weights.
    """

    name: str
    pipeline: Pipeline
    step: CausalStep
    autoencoder: VideoAutoencoder
    text: VideoText
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    acceleration: str = "none"
    loras: tuple[tuple[str, float], ...] = ()

    @property
    def transformer(self) -> Any:
        """Diffusers' WanTransformer3DModel."""
        return self.step.transformer

    def with_parts(self, **changes: Any) -> VideoModel:
        """A model that differs in some parts and shares the others."""
        return replace(self, **changes)
