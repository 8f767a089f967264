"""A UNet alone, as distilled ones are published (SDXL-Lightning, DMD2, lcm-sdxl), in the place of a model's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from comfystream.errors import AssetError

from ..model import StreamModel
from .infer import VELOCITY, Family, family_of_config, predicts_velocity
from .parts import component, from_folder
from .single_file import UNET, ZERO_TERMINAL, unet_of
from .weights import read_weights, under

__all__ = ["with_unet"]

MARKS = (VELOCITY, ZERO_TERMINAL)


def with_unet(model: StreamModel, path: Path) -> StreamModel:
    """The model with another UNet; text encoders, autoencoder and steps stay its own.

    Args:
        model: as it was loaded, on the CPU.
        path: a folder in diffusers' layout (of the UNet, or of a model that has one), or a file of weights in
            diffusers' names or the original ones.

    Raises:
        AssetError: no UNet, damaged, or of another kind than the model's text encoders and autoencoder are for.
    """
    changed = {"unet": _in_folder(path)} if path.is_dir() else _in_file(path, model)
    _check(changed["unet"], model, path)
    return model.with_parts(**changed)


def _in_folder(path: Path) -> Any:
    below = path / "unet"
    return from_folder("UNet2DConditionModel", below if below.is_dir() else path)


def _in_file(path: Path, model: StreamModel) -> dict[str, Any]:
    """The UNet, and how it is sampled: as the model is, unless the file says something else."""
    weights = read_weights(path)
    own = under(weights, UNET) or {name: value for name, value in weights.items() if name not in MARKS}
    velocity = model.predicts_velocity or VELOCITY in weights
    if "conv_in.weight" in own:
        unet = component("UNet2DConditionModel", _config_like(model.unet, own), own, str(path))
    else:
        unet, family = unet_of(own, path.name)
        if family is Family.SD21:
            velocity = predicts_velocity(own, family, weights)
    is_zero = model.is_zero_terminal or ZERO_TERMINAL in weights
    return {"unet": unet, "predicts_velocity": velocity, "is_zero_terminal": is_zero}


def _config_like(own: Any, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Files in diffusers' names come without a config: they are trained from the model's own UNet."""
    told = weights.get("time_embedding.cond_proj.weight")  # distilled with guidance
    return {**own.config, "time_cond_proj_dim": None if told is None else told.shape[1]}


def _check(unet: Any, model: StreamModel, path: Path) -> None:
    kinds = [
        (family_of_config(one.config), one.config.cross_attention_dim, one.config.in_channels)
        for one in (unet, model.unet)
    ]
    if kinds[0] == kinds[1]:
        return
    (family, width, channels), (own, own_width, own_channels) = kinds
    raise AssetError(
        f"UNet {path.name} is for {family} (text of {width} numbers, {channels} channels), model {model.name} is "
        f"{own} (text of {own_width} numbers, {own_channels} channels)",
        code="weights_do_not_fit",
        hint="name a model of the same kind: its text encoders and autoencoder are used",
    )
