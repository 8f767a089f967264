"""A model as a stream uses it: UNet, autoencoder and text towers of one family, never changed after it is made."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.accel.placement import bring, is_there
from comfystream.accel.runner import memory_trouble
from comfystream.gpu_turns import device_wide

from .acceleration import Acceleration
from .core import Guidance, Schedule, ScheduleKind
from .core.guidance import GuidanceMode
from .image_prompt import ImagePrompt
from .loading.infer import Family
from .shelf import Shelf
from .text import PromptEncoder

__all__ = ["Autoencoder", "StreamModel", "with_tensors"]


_placing = threading.Lock()  # several streams of a model may begin at once


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """Pictures to latents and back: diffusers' AutoencoderTiny (TAESD) or AutoencoderKL.

    Attributes:
        module: the network.
        scaling: latents are multiplied by it.
        shrink: a picture's side by a latent's.
    """

    module: Any
    scaling: float
    shrink: int = 8

    def encode(self, picture: Tensor) -> Tensor:
        """[frames, 3, height, width] of -1..1 to latents; the mean of a KL autoencoder, so that still is still."""
        given = self.module.encode(picture.to(self.dtype))
        latent = given.latents if hasattr(given, "latents") else given.latent_dist.mode()
        return (latent if self.scaling == 1 else latent * self.scaling).to(picture.dtype)

    def decode(self, latent: Tensor) -> Tensor:
        """Back to [frames, 3, height, width] of about -1..1."""
        given = latent if self.scaling == 1 else latent / self.scaling
        made: Tensor = self.module.decode(given.to(self.dtype)).sample
        return made.to(latent.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return next(self.module.parameters()).dtype


@dataclass(frozen=True, slots=True)
class StreamModel:
    """What the sampler works with.

    Attributes:
        name: for people: file or folder name.
        family: SD 1.5, 2.1 or SDXL.
        unet: diffusers' UNet2DConditionModel, on the host as its file has it until something runs it: see `place`.
        autoencoder: pictures to latents and back.
        prompts: texts to embeddings.
        predicts_velocity: the UNet predicts v rather than the noise.
        schedule: how its steps are spaced by default.
        is_zero_terminal: it was trained with nothing of the picture left at the last timestep.
        device: where it is.
        dtype: what it computes in.
        loras: (name, strength) of what is added to its weights.
        image_prompt: the IP-Adapter that is built in, if any.
        acceleration: which backend runs its networks; None runs them as they are.
        shelf: what that backend has made ready; a model that differs in any part begins with an empty one.
    """

    name: str
    family: Family
    unet: Any
    autoencoder: Autoencoder
    prompts: PromptEncoder
    predicts_velocity: bool = False
    schedule: ScheduleKind = ScheduleKind.LCM
    is_zero_terminal: bool = False
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    loras: tuple[tuple[str, float], ...] = ()
    image_prompt: ImagePrompt | None = None
    acceleration: Acceleration | None = None
    shelf: Shelf = field(default_factory=Shelf, compare=False, repr=False)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.unet.config.in_channels)

    @property
    def guidance_width(self) -> int:
        """Of what a UNet that was distilled with guidance is told of its scale; 0 for others."""
        return int(self.unet.config.time_cond_proj_dim or 0)

    @property
    def is_placed(self) -> bool:
        """Whether the UNet is on the device already."""
        return is_there(self.unet, self.device, self.dtype)

    def typed_unet(self) -> Any:
        """The UNet in the model's precision, wherever it is."""
        with _placing:
            return bring(self.unet, dtype=self.dtype)

    def place(self) -> None:
        """Bring the UNet to the device. Only what is run is brought there: of a model with LoRAs the merged weights.

        Raises:
            EngineError: the device is full.
        """
        with _placing, memory_trouble(self.name), device_wide():
            bring(self.unet, self.device, self.dtype)

    def schedule_of(self, count: int, kind: str = "auto") -> Schedule:
        """The schedule of `count` steps that a node's inputs name; "auto" is the model's own spacing."""
        return Schedule(self.schedule if kind == "auto" else ScheduleKind(kind), count, self.is_zero_terminal)

    def guidance(self, cfg_type: str, scale: float, delta: float) -> Guidance:
        """Out of a node's inputs. A UNet that was distilled with guidance is told its scale and needs no other kind.

        Raises:
            ConfigError: an unknown mode.
        """
        asked = Guidance.of(cfg_type, scale, delta)
        return replace(asked, mode=GuidanceMode.NONE) if self.guidance_width else asked

    def autoencoder_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """What the autoencoder computes in where the rest is in `dtype`: that of SDXL overflows in half precision."""
        overflows = self.family is Family.SDXL and getattr(self.autoencoder.module.config, "force_upcast", False)
        if dtype is not torch.float16 or not overflows:
            return dtype
        has_wide = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_wide else torch.float32

    def with_parts(self, **changes: Any) -> StreamModel:
        """A model that differs in some parts and shares the others."""
        return replace(self, shelf=Shelf(), **changes)


def with_tensors(module: nn.Module, changed: Mapping[str, Tensor]) -> Any:
    """A copy of a module that shares all tensors with it but those that are given, by their names."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, memo=dict(shared))
    for name, value in changed.items():
        owner, _, leaf = name.rpartition(".")
        setattr(twin.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
    return twin
