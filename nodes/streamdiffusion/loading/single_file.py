"""Models in one file, in the original layout, as most checkpoints are; and the same layout inside ComfyUI's objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comfystream.errors import AssetError

from ..core import ScheduleKind
from ..model import Autoencoder, StreamModel
from ..text import PromptEncoder, TextTower
from .folder import of_module
from .infer import Family, autoencoder_config, clip_config, family_of_config, predicts_velocity, unet_config
from .names import autoencoder_pairs, open_clip_to_hf, renamed, tiny_autoencoder, unet_pairs
from .parts import component, tokenizer_in, transformers_part
from .weights import read_weights, under

__all__ = ["autoencoder_of", "load_autoencoder_file", "load_single_file", "model_of", "unet_of"]

UNET, AUTOENCODER = "model.diffusion_model.", "first_stage_model."
TAESD_SCALING = 1.0
ZERO_TERMINAL = "ztsnr"  # an empty tensor that says so


def unet_of(weights: Mapping[str, Tensor], what: str) -> tuple[Any, Family]:
    """A UNet of weights in the original layout."""
    config = unet_config(weights)
    attends = [kind.startswith("Cross") for kind in config["down_block_types"]]
    pairs = unet_pairs(len(attends), config["layers_per_block"], attends)
    return component("UNet2DConditionModel", config, renamed(weights, pairs), what), family_of_config(config)


def autoencoder_of(weights: Mapping[str, Tensor], family: Family, what: str) -> Autoencoder:
    """An autoencoder of weights in the original layout, or of a TAESD."""
    if any(
        name.startswith(("encoder.layers.", "decoder.layers.", "taesd_", "encoder.0.", "decoder.1."))
        for name in weights
    ):
        return _tiny(tiny_autoencoder(weights), what)
    if any(name.startswith("encoder.down_blocks.") for name in weights):
        raise AssetError(
            f"{what}: the VAE is in diffusers' layout without its config",
            code="bad_config",
            hint="give the folder that it lies in, with its config.json",
        )
    kept = {name: value for name, value in weights.items() if not name.startswith(("loss.", "model_ema."))}
    config = autoencoder_config(kept, family)
    pairs = autoencoder_pairs(len(config["block_out_channels"]), config["layers_per_block"])
    names = {name.replace("nin_shortcut", "conv_shortcut"): value for name, value in renamed(kept, pairs).items()}
    flat = {
        name: value.flatten(1) if ".attentions." in name and value.ndim == 4 else value for name, value in names.items()
    }
    return of_module(component("AutoencoderKL", config, flat, what))


def _tiny(weights: Mapping[str, Tensor], what: str) -> Autoencoder:
    """The layers of each stage are told apart by their strides, which only the count of convolutions shows."""
    stages = _tiny_stages(weights)
    width = weights["encoder.layers.0.weight"].shape[0]
    config = {
        "encoder_block_out_channels": [width] * len(stages),
        "decoder_block_out_channels": [width] * len(stages),
        "num_encoder_blocks": stages,
        "num_decoder_blocks": list(reversed(stages)),
        "latent_channels": weights["decoder.layers.0.weight"].shape[1],
        "scaling_factor": TAESD_SCALING,
    }
    return of_module(component("AutoencoderTiny", config, weights, what))


def _tiny_stages(weights: Mapping[str, Tensor]) -> list[int]:
    """Blocks per resolution of the encoder: single convolutions stand between runs of blocks."""
    kinds: dict[int, bool] = {}
    for name in weights:
        if name.startswith("encoder.layers."):
            parts = name.split(".")
            kinds[int(parts[2])] = kinds.get(int(parts[2]), False) or len(parts) > 4
    stages: list[int] = [0]
    for number in sorted(kinds)[1:-1]:
        if kinds[number]:
            stages[-1] += 1
        else:
            stages.append(0)
    return stages


def load_autoencoder_file(path: Path, family: Family) -> Autoencoder:
    """A VAE or TAESD file of its own; a TAESD may be two files, of which either is named."""
    weights = read_weights(path)
    for one, other in (("encoder", "decoder"), ("decoder", "encoder")):
        twin = path.with_name(path.name.replace(one, other))
        is_half = not any(name.startswith((other, f"taesd_{other}", AUTOENCODER)) for name in weights)
        if one in path.name and twin != path and is_half:
            return _tiny(tiny_autoencoder({**_sided(one, weights), **_sided(other, read_weights(twin))}), str(path))
    return autoencoder_of(under(weights, AUTOENCODER) or weights, family, str(path))


def _sided(side: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name if name.startswith(side) else f"{side}.{name}": value for name, value in weights.items()}


_HF_CLIP = (("cond_stage_model.transformer.", 0), ("conditioner.embedders.0.transformer.", 0))
_OPEN_CLIP = (("cond_stage_model.model.", 0), ("conditioner.embedders.1.model.", 1))


def _towers(weights: Mapping[str, Tensor], family: Family, tokenizer: Any, what: str) -> tuple[TextTower, ...]:
    towers = []
    is_xl = family is Family.SDXL
    for prefix, _ in _HF_CLIP:
        if found := under(weights, prefix):
            module = transformers_part("CLIPTextModel", clip_config(found, is_open_clip=False), found, f"{what}: text")
            pad = module.config.eos_token_id
            towers.append(TextTower(module, tokenizer, pad, from_the_end=int(is_xl), is_normed=not is_xl))
    for prefix, _ in _OPEN_CLIP:
        if found := open_clip_to_hf(under(weights, prefix)):
            cls_name = "CLIPTextModelWithProjection" if is_xl else "CLIPTextModel"
            module = transformers_part(cls_name, clip_config(found, is_open_clip=True), found, f"{what}: text")
            towers.append(TextTower(module, tokenizer, 0, from_the_end=1, is_normed=not is_xl))
    return tuple(towers)


def model_of(
    name: str,
    unet_weights: Mapping[str, Tensor],
    autoencoder: Autoencoder | None,
    rest: Mapping[str, Tensor],
    tokenizer: Any = None,
) -> StreamModel:
    """A model of weights in the original layout.

    Args:
        name: for people.
        unet_weights: without a prefix.
        autoencoder: one that was made already; else it is made of `rest`.
        rest: the whole checkpoint: text encoders and autoencoder by their usual prefixes.
        tokenizer: for the text encoders.
    """
    unet, family = unet_of(unet_weights, name)
    made = autoencoder or autoencoder_of(under(rest, AUTOENCODER), family, f"{name}: VAE")
    prompts = PromptEncoder(family, _towers(rest, family, tokenizer, name), torch.float32)
    velocity = predicts_velocity(unet_weights, family, rest)
    return StreamModel(name, family, unet, made, prompts, velocity, ScheduleKind.LCM, ZERO_TERMINAL in rest)


def load_single_file(path: Path, tokenizers: list[Path], autoencoder: Path | None = None) -> StreamModel:
    """A checkpoint file.

    Args:
        path: .safetensors or .ckpt.
        tokenizers: folders that may hold a CLIP tokenizer, best first.
        autoencoder: a VAE or TAESD to use in place of the checkpoint's.

    Raises:
        AssetError: the file is damaged or holds another kind of model.
    """
    weights = read_weights(path)
    unet = under(weights, UNET)
    if not unet:
        raise AssetError(
            f"{path.name} is no Stable Diffusion checkpoint: it has no tensors below {UNET}",
            code="not_a_unet",
            hint="a UNet alone, a LoRA or a VAE is not a whole model",
        )
    family = family_of_config(unet_config(unet))
    own = load_autoencoder_file(autoencoder, family) if autoencoder else None
    return model_of(path.name, unet, own, weights, tokenizer_in(tokenizers))
