"""Networks with the calling conventions of ComfyUI as tensors in, tensors out, as engines want them.

Nothing of ComfyUI is imported here: what its networks take and give is a matter of names.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from comfystream.errors import EngineError

from .file_names import COMFYUI_NAMES
from .model_specs import Ranges, unet_spec
from .modules import UNetModule
from .spec import PRECISIONS, Axis, ModelSpec, TensorSpec

__all__ = [
    "ComfyControlModule",
    "ComfyUNetModule",
    "PooledUNetModule",
    "comfy_control_spec",
    "comfy_unet_spec",
    "diffusers_unet",
    "precision_of",
    "residuals_of",
    "residuals_of_config",
]

Residuals = tuple[tuple[int, int], ...]


def residuals_of(widths: Sequence[int], layers: Sequence[int]) -> Residuals:
    """What a ControlNet adds to a UNet: (channels, division of the latent's sides) of each residual, the middle last.

    Args:
        widths: channels of each level.
        layers: residual blocks in each level.
    """
    found = [(widths[0], 1)]
    for level, (width, count) in enumerate(zip(widths, layers, strict=True)):
        found += [(width, 2**level)] * count
        if level < len(widths) - 1:
            found.append((width, 2 ** (level + 1)))
    return (*found, (widths[-1], 2 ** (len(widths) - 1)))


def residuals_of_config(config: Any) -> Residuals:
    """The same, from the configuration of a UNet or ControlNet of diffusers."""
    widths = tuple(config.block_out_channels)
    layers = config.layers_per_block
    return residuals_of(widths, (layers,) * len(widths) if isinstance(layers, int) else tuple(layers))


class ComfyUNetModule(nn.Module):
    """A UNet of ComfyUI as (x, timesteps, context, ...) -> latent.

    Args:
        unet: called as `unet(x, timesteps, context, y=..., control=...)`.
        has_pooled: whether it takes `y`.
        controls: how many residuals it takes, the middle one included; 0 is none.
    """

    def __init__(self, unet: nn.Module, has_pooled: bool = False, controls: int = 0) -> None:
        super().__init__()
        self.unet = unet
        self.has_pooled = has_pooled
        self.controls = controls

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, *more: Tensor) -> Tensor:
        """One prediction; `more` is the pooled text, then the residuals, the middle one last."""
        given: dict[str, Any] = {"y": more[0]} if self.has_pooled else {}
        if self.controls:
            *down, middle = more[-self.controls :]
            given["control"] = {"input": [], "output": down, "middle": [middle]}
        latent: Tensor = self.unet(x, timesteps, context, **given)
        return latent


class ComfyControlModule(nn.Module):
    """A ControlNet of ComfyUI as (x, hint, timesteps, context, ...) -> residuals, the middle one last.

    Its strength is no part of it: ComfyUI multiplies what comes out.
    """

    def __init__(self, network: nn.Module, has_pooled: bool = False) -> None:
        super().__init__()
        self.network = network
        self.has_pooled = has_pooled

    def forward(self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        """All residuals."""
        given = {"y": more[0]} if self.has_pooled else {}
        found = self.network(x=x, hint=hint, timesteps=timesteps, context=context, **given)
        if not isinstance(found, dict) or set(found) - {"output", "middle"}:
            raise EngineError(
                "this ControlNet gives other residuals than those of Stable Diffusion", code="bad_model_type"
            )
        return (*found["output"], *found["middle"])


class PooledUNetModule(nn.Module):
    """An SDXL UNet of diffusers with ComfyUI's pooled text: `y` is [pooled text | embedded sizes].

    diffusers embeds the six sizes itself; ComfyUI's samplers hand them over embedded, in the same way (cosine first).

    Args:
        unet: a `UNet2DConditionModel` with "text_time" conditioning.
        pooled_width: of the text's part of `y`.
        controls: as `UNetModule`.
    """

    def __init__(self, unet: Any, pooled_width: int, controls: int = 0) -> None:
        super().__init__()
        self.unet = copy.copy(unet)
        self.unet._modules = {**unet._modules, "add_time_proj": nn.Identity()}
        self.pooled_width = pooled_width
        self.controls = controls

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, y: Tensor, *residuals: Tensor) -> Tensor:
        """One prediction."""
        given: dict[str, Any] = {
            "added_cond_kwargs": {"text_embeds": y[:, : self.pooled_width], "time_ids": y[:, self.pooled_width :]}
        }
        if self.controls:
            given["down_block_additional_residuals"] = tuple(residuals[:-1])
            given["mid_block_additional_residual"] = residuals[-1]
        latent: Tensor = self.unet(x, timesteps, context, return_dict=False, **given)[0]
        return latent


def comfy_unet_spec(
    ranges: Ranges,
    precision: str,
    *,
    text_width: int,
    channels: int = 4,
    pooled_width: int = 0,
    residuals: Residuals = (),
) -> ModelSpec:
    """Inputs of a UNet by ComfyUI's names: `x, timesteps, context`, then `y`, then the residuals.

    Args:
        ranges: rows and sizes.
        precision: of weights and inputs.
        text_width: of the text.
        channels: of the latent.
        pooled_width: of `y`, 2816 for SDXL; 0 for models without it.
        residuals: as `unet_spec`.
    """
    plain = unet_spec(ranges, precision, text_width=text_width, channels=channels, residuals=residuals)
    spec = plain.renamed(COMFYUI_NAMES)
    return replace(spec, inputs=(*spec.inputs[:3], *_pooled(ranges, precision, pooled_width), *spec.inputs[3:]))


def diffusers_unet(unet: Any, ranges: Ranges, precision: str, takes_control: bool) -> tuple[nn.Module, ModelSpec]:
    """A `UNet2DConditionModel` with ComfyUI's inputs; one with pooled text takes it as `y`."""
    config = unet.config
    residuals = residuals_of_config(config) if takes_control else ()
    is_xl = config.addition_embed_type == "text_time"
    whole = int(config.projection_class_embeddings_input_dim) if is_xl else 0
    width = config.cross_attention_dim
    spec = comfy_unet_spec(
        ranges,
        precision,
        text_width=int(width if isinstance(width, int) else width[-1]),
        channels=config.in_channels,
        pooled_width=whole,
        residuals=residuals,
    )
    if is_xl:
        return PooledUNetModule(unet, whole - 6 * config.addition_time_embed_dim, len(residuals)), spec
    return UNetModule(unet, len(residuals)), spec


def precision_of(module: nn.Module) -> str:
    """By the first weight: fp16, bf16, else fp32."""
    first = next(module.parameters())
    return {"torch.float16": "fp16", "torch.bfloat16": "bf16"}.get(str(first.dtype), "fp32")


def comfy_control_spec(
    ranges: Ranges, precision: str, *, text_width: int, outputs: int, pooled_width: int = 0
) -> ModelSpec:
    """Inputs and outputs of `ComfyControlModule`."""
    x, timesteps, context = comfy_unet_spec(ranges, precision, text_width=text_width).inputs
    sides = [_of_picture(ranges.axis(name)) for name in ("height", "width")]
    hint = TensorSpec("hint", PRECISIONS[precision], (ranges.axis("batch"), 3, *sides))
    names = (*(f"down_{index:02d}" for index in range(outputs - 1)), "middle")
    inputs = (x, hint, timesteps, context, *_pooled(ranges, precision, pooled_width))
    return ModelSpec("controlnet", inputs, names, precision)


def _of_picture(side: int | Axis) -> int | Axis:
    """Axes of one name are of one size, and the latent's is another."""
    return side if isinstance(side, int) else replace(side, name=f"picture_{side.name}")


def _pooled(ranges: Ranges, precision: str, width: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec("y", PRECISIONS[precision], (ranges.axis("batch"), width)),) if width else ()
