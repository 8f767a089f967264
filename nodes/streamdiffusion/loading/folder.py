"""Models in diffusers' folder layout: unet, vae, text_encoder, tokenizer, scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..core import ScheduleKind
from ..model import Autoencoder, StreamModel
from ..text import PromptEncoder, TextTower
from .infer import Family, family_of_config, other_sampling
from .parts import from_folder, tokenizer_in
from .weights import read_config

__all__ = ["load_autoencoder", "load_folder"]

PREDICTIONS = ("epsilon", "v_prediction")
OTHER_SCHEDULERS = ("EDM", "FlowMatch")  # noise levels of their own


def load_autoencoder(folder: Path) -> Autoencoder:
    """A VAE's folder: AutoencoderTiny or AutoencoderKL, as its config says."""
    config = read_config(folder)
    name = config.get("_class_name", "AutoencoderKL")
    module = from_folder("AutoencoderTiny" if name == "AutoencoderTiny" else "AutoencoderKL", folder)
    return of_module(module)


def of_module(module: Any) -> Autoencoder:
    """With the scaling that the module's config says."""
    channels = getattr(module.config, "block_out_channels", None) or module.config.encoder_block_out_channels
    return Autoencoder(module, float(module.config.scaling_factor), 2 ** (len(channels) - 1))


def load_folder(folder: Path) -> StreamModel:
    """A whole model, on the CPU as it was saved.

    Raises:
        AssetError: a part is missing, damaged, or does not fit.
    """
    unet = from_folder("UNet2DConditionModel", folder / "unet")
    family = family_of_config(unet.config)
    scheduler = read_config(folder / "scheduler", "scheduler_config.json") if (folder / "scheduler").is_dir() else {}
    kind = str(scheduler.get("prediction_type", "epsilon"))
    named = str(scheduler.get("_class_name", ""))
    if kind not in PREDICTIONS or named.startswith(OTHER_SCHEDULERS):
        raise other_sampling(f"model {folder.name} ({', '.join(filter(None, (named, kind)))})")
    trailing = scheduler.get("timestep_spacing") == "trailing"
    return StreamModel(
        name=folder.name,
        family=family,
        unet=unet,
        autoencoder=load_autoencoder(folder / "vae"),
        prompts=PromptEncoder(family, _towers(folder, family), torch.float32),
        predicts_velocity=kind == "v_prediction",
        schedule=ScheduleKind.TURBO if trailing else ScheduleKind.LCM,
        is_zero_terminal=bool(scheduler.get("rescale_betas_zero_snr")),
    )


def _towers(folder: Path, family: Family) -> tuple[TextTower, ...]:
    towers = []
    for suffix in ("", "_2"):
        place = folder / f"text_encoder{suffix}"
        if not place.is_dir():
            continue
        cls_name = "CLIPTextModelWithProjection" if suffix else "CLIPTextModel"
        module = from_folder(cls_name, place, is_transformers=True)
        tokenizer = tokenizer_in([folder / f"tokenizer{suffix}"])
        pad = tokenizer.pad_token_id if tokenizer is not None else 0
        is_xl = family is Family.SDXL
        towers.append(TextTower(module, tokenizer, pad, from_the_end=int(is_xl), is_normed=not is_xl))
    return tuple(towers)
