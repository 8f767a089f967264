"""Diffusion models with tensors in and tensors out, as engines want them; what they take is in `model_specs`.

What may change from frame to frame is an input: time step, text, the SDXL pooled text and sizes, the residuals of
ControlNets, the strength of a ControlNet. None of it is baked into an engine.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["ControlNetModule", "UNetModule", "VaeDecoderModule", "VaeEncoderModule"]


class UNetModule(nn.Module):
    """A diffusers UNet as (sample, timestep, encoder_hidden_states, ...) -> latent.

    Args:
        unet: a `UNet2DConditionModel`.
        controls: how many residuals of ControlNets it takes, the middle one included; 0 is none.
        is_xl: whether it takes pooled text and sizes.
    """

    def __init__(self, unet: nn.Module, controls: int = 0, is_xl: bool = False) -> None:
        super().__init__()
        self.unet = unet
        self.controls = controls
        self.is_xl = is_xl

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, *more: Tensor) -> Tensor:
        """One prediction; `more` is pooled text and sizes (SDXL), then the residuals, the middle one last."""
        given: dict[str, Any] = {}
        residuals = more
        if self.is_xl:
            given["added_cond_kwargs"] = {"text_embeds": more[0], "time_ids": more[1]}
            residuals = more[2:]
        if self.controls:
            given["down_block_additional_residuals"] = tuple(residuals[:-1])
            given["mid_block_additional_residual"] = residuals[-1]
        latent: Tensor = self.unet(sample, timestep, encoder_hidden_states, return_dict=False, **given)[0]
        return latent


class ControlNetModule(nn.Module):
    """A diffusers ControlNet as tensors -> its residuals, the middle one last. Its strength is an input."""

    def __init__(self, controlnet: nn.Module, is_xl: bool = False) -> None:
        super().__init__()
        self.controlnet = controlnet
        self.is_xl = is_xl

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor,
        conditioning_scale: Tensor,
        *more: Tensor,
    ) -> tuple[Tensor, ...]:
        """Residuals for `UNetModule`."""
        given: dict[str, Any] = {}
        if self.is_xl:
            given["added_cond_kwargs"] = {"text_embeds": more[0], "time_ids": more[1]}
        down, middle = self.controlnet(
            sample, timestep, encoder_hidden_states, controlnet_cond, return_dict=False, **given
        )
        return tuple(one * conditioning_scale for one in (*down, middle))


class VaeEncoderModule(nn.Module):
    """A diffusers autoencoder's first half: picture -> mean of the latent, not scaled."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor) -> Tensor:
        found = self.vae.encode(images, return_dict=False)[0]  # type: ignore[operator]
        latent: Tensor = found.mode() if hasattr(found, "mode") else found
        return latent


class VaeDecoderModule(nn.Module):
    """A diffusers autoencoder's second half: latent -> picture."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.vae.decode(latent, return_dict=False)[0]  # type: ignore[operator]
        return image
