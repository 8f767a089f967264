"""Diffusion models with tensors in and tensors out, as engines want them; what they take is in `model_specs`.

What may change from frame to frame is an input: time step, text, the SDXL pooled text and sizes, the residuals of
ControlNets, the strength of a ControlNet, the strength of a picture prompt in each layer. None of it is baked into an
engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["ControlNetModule", "UNetModule", "VaeDecoderModule", "VaeEncoderModule"]


class UNetModule(nn.Module):
    """A diffusers UNet as (sample, timestep, encoder_hidden_states, ...) -> latent.

    Args:
        unet: a `UNet2DConditionModel`.
        controls: how many residuals of ControlNets it takes, the middle one included; 0 is none.
        is_xl: whether it takes pooled text and sizes.
        picture_layers: of an IP-Adapter: names of the modules in the UNet whose attribute `scale` is the strength of
            the picture there, in the order of the input `ipadapter_scale`; empty without one.
        is_told_scale: whether it takes the strength of the guidance, embedded, as UNets distilled with it do.
    """

    def __init__(
        self,
        unet: nn.Module,
        controls: int = 0,
        is_xl: bool = False,
        picture_layers: Sequence[str] = (),
        is_told_scale: bool = False,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.controls = controls
        self.is_xl = is_xl
        self.picture_layers = tuple(picture_layers)
        self.is_told_scale = is_told_scale

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, *more: Tensor) -> Tensor:
        """One prediction.

        Args:
            sample: [rows, channels, h, w].
            timestep: [rows].
            encoder_hidden_states: [rows, tokens, width], tokens of a picture last.
            more: the strengths of the picture [layers] (IP-Adapter), the strength of the guidance [rows, width],
                pooled text and sizes (SDXL), then the residuals, the middle one last.
        """
        given: dict[str, Any] = {}
        rest = list(more)
        scales = rest.pop(0) if self.picture_layers else None
        if self.is_told_scale:
            given["timestep_cond"] = rest.pop(0)
        if self.is_xl:
            given["added_cond_kwargs"] = {"text_embeds": rest.pop(0), "time_ids": rest.pop(0)}
        if self.controls:
            given["down_block_additional_residuals"] = tuple(rest[:-1])
            given["mid_block_additional_residual"] = rest[-1]
        before = self._set_scales(scales.unbind(0)) if scales is not None else []
        latent: Tensor = self.unet(sample, timestep, encoder_hidden_states, return_dict=False, **given)[0]
        self._set_scales(before)  # exporters refuse a module that is another one afterwards
        return latent

    def _set_scales(self, scales: Sequence[Tensor]) -> list[Any]:
        """Set the strengths of the picture; gives those of before."""
        before = []
        for name, scale in zip(self.picture_layers, scales, strict=False):
            layer: Any = self.unet.get_submodule(name)
            before.append(layer.scale)
            layer.scale = scale
        return before


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
        latent: Tensor = found if isinstance(found, Tensor) else found.mode()  # a TAESD gives the latent itself
        return latent


class VaeDecoderModule(nn.Module):
    """A diffusers autoencoder's second half: latent -> picture."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.vae.decode(latent, return_dict=False)[0]  # type: ignore[operator]
        return image
