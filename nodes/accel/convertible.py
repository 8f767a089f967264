"""The UNet in a MODEL, ComfyUI's or that of diffusers, as a module with ComfyUI's inputs, and what it takes."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from comfystream.accel.comfy_modules import (
    ComfyUNetModule,
    comfy_unet_spec,
    diffusers_unet,
    precision_of,
    residuals_of,
)
from comfystream.accel.model_specs import Ranges
from comfystream.accel.spec import ModelSpec
from comfystream.errors import EngineError

__all__ = ["module_of_model"]


def module_of_model(model: Any, ranges: Ranges, takes_control: bool) -> tuple[nn.Module, ModelSpec]:
    """What an engine is made of.

    Args:
        model: ComfyUI's MODEL, its LoRAs included, or a UNet of diffusers.
        ranges: rows and sizes.
        takes_control: whether residuals of ControlNets are inputs.

    Raises:
        EngineError: there is no UNet in it.
    """
    if hasattr(model, "get_model_object"):
        return _of_comfyui(model, ranges, takes_control)
    if hasattr(getattr(model, "config", None), "cross_attention_dim"):
        return diffusers_unet(model, ranges, precision_of(model), takes_control)
    raise EngineError(f"there is no UNet in a {type(model).__name__}", code="bad_model_type")


def _of_comfyui(model: Any, ranges: Ranges, takes_control: bool) -> tuple[nn.Module, ModelSpec]:
    unet = model.get_model_object("diffusion_model")
    config = model.model.model_config.unet_config
    if "model_channels" not in config or "context_dim" not in config:
        raise EngineError(
            f"a {type(unet).__name__} is no UNet of Stable Diffusion, and no other is converted here",
            code="bad_model_type",
        )
    importlib.import_module("comfy.model_management").load_models_gpu([model], force_patch_weights=True)
    residuals = _residuals(config) if takes_control else ()
    pooled = config.get("adm_in_channels") or 0
    spec = comfy_unet_spec(
        ranges,
        precision_of(unet),
        text_width=int(config["context_dim"]),
        channels=int(config.get("in_channels", 4)),
        pooled_width=int(pooled),
        residuals=residuals,
    )
    return ComfyUNetModule(unet, bool(pooled), len(residuals)), spec


def _residuals(config: Any) -> tuple[tuple[int, int], ...]:
    multiples = config.get("channel_mult", (1, 2, 4, 4))
    blocks = config.get("num_res_blocks", 2)
    layers = (blocks,) * len(multiples) if isinstance(blocks, int) else tuple(blocks)
    return residuals_of([int(config["model_channels"]) * one for one in multiples], layers)
