"""Autoencoders with pictures of 0..1 on one side and latents as ComfyUI hands them around on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.errors import EngineError

from .modules import VaeDecoderModule, VaeEncoderModule

__all__ = ["TAESD_SCALES", "PictureDecoder", "PictureEncoder", "VaeHalves", "halves_of"]

TAESD_SCALES = {"taesd": 0.18215, "taesdxl": 0.13025}
"""By the names of the published files: what a large autoencoder's latents are multiplied with for the tiny one."""


class PictureEncoder(nn.Module):
    """Picture [n, 3, h, w] of 0..1 -> latent.

    Args:
        encode: a module of pictures in its own range.
        low: what it takes for black.
        high: what it takes for white.
        scale: its latents are larger by this.
    """

    def __init__(self, encode: nn.Module, low: float = 0.0, high: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.inner = encode
        self.low, self.high, self.scale = low, high, scale

    def forward(self, images: Tensor) -> Tensor:
        latent: Tensor = self.inner(images * (self.high - self.low) + self.low)
        return latent if self.scale == 1 else latent / self.scale

    def extra_repr(self) -> str:
        return f"{self.low}, {self.high}, {self.scale}"  # part of an engine's key


class PictureDecoder(nn.Module):
    """Latent -> picture [n, 3, h, w] of 0..1; arguments as `PictureEncoder`."""

    def __init__(self, decode: nn.Module, low: float = 0.0, high: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.inner = decode
        self.low, self.high, self.scale = low, high, scale

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.inner(latent if self.scale == 1 else latent * self.scale)
        return ((image - self.low) / (self.high - self.low)).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"{self.low}, {self.high}, {self.scale}"


@dataclass(frozen=True, slots=True)
class VaeHalves:
    """Both halves of an autoencoder.

    Attributes:
        encoder: a `PictureEncoder`; None where there is none.
        decoder: a `PictureDecoder`; None where there is none.
        channels: of the latent.
        is_tiny: whether half precision is enough for it.
    """

    encoder: nn.Module | None
    decoder: nn.Module | None
    channels: int = 4
    is_tiny: bool = False


class _StageEncoder(nn.Module):
    """The first half of ComfyUI's `first_stage_model`; the mean, so that a still picture is a still latent."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, images: Tensor) -> Tensor:
        stage: Any = self.stage
        if not hasattr(stage, "regularization"):
            latent: Tensor = stage.encode(images)
            return latent
        moments = stage.encoder(images)
        if hasattr(stage, "quant_conv"):
            moments = stage.quant_conv(moments)
        mean: Tensor = moments.chunk(2, 1)[0]
        return mean


class _StageDecoder(nn.Module):
    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.stage.decode(latent)  # type: ignore[operator]
        return image


def halves_of(vae: Any) -> VaeHalves:
    """Out of ComfyUI's VAE, or an autoencoder of diffusers (KL or tiny).

    Raises:
        EngineError: it is neither.
    """
    if hasattr(vae, "first_stage_model"):
        stage = vae.first_stage_model
        low, high = (float(end) for end in vae.process_input(torch.tensor([0.0, 1.0])))
        if getattr(vae, "latent_dim", 2) != 2:
            raise EngineError("an autoencoder of videos is not accelerated here", code="bad_model_type")
        channels = int(getattr(vae, "latent_channels", 4))
        is_tiny = not hasattr(stage, "regularization")
        return VaeHalves(
            PictureEncoder(_StageEncoder(stage), low, high),
            PictureDecoder(_StageDecoder(stage), low, high),
            channels,
            is_tiny,
        )
    if hasattr(getattr(vae, "config", None), "latent_channels"):
        is_tiny = type(vae).__name__ == "AutoencoderTiny"
        scale = 1.0 if not is_tiny else TAESD_SCALES["taesd"]
        return VaeHalves(
            PictureEncoder(VaeEncoderModule(vae), -1.0, 1.0, scale),
            PictureDecoder(VaeDecoderModule(vae), -1.0, 1.0, scale),
            int(vae.config.latent_channels),
            is_tiny,
        )
    raise EngineError(f"there is no autoencoder in a {type(vae).__name__}", code="bad_model_type")
