"""What a model is, read off the shapes of its weights: a single file says nothing else about itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from torch import Tensor

from comfystream.errors import AssetError

__all__ = [
    "Family",
    "autoencoder_config",
    "clip_config",
    "control_config",
    "family_of_config",
    "other_sampling",
    "predicts_velocity",
    "unet_config",
]


class Family(StrEnum):
    """Which of Stable Diffusion's kinds."""

    SD15 = "sd15"
    SD21 = "sd21"
    SDXL = "sdxl"


HEAD_DIM = 64  # of SD 2.1 and SDXL; SD 1.5 has a fixed number of heads instead
SD15_HEADS = 8
CLIP_HEAD_DIM = 64
VELOCITY = "v_pred"  # an empty tensor that says so
VELOCITY_SPREAD = 0.09  # see `predicts_velocity`


def family_of_config(config: Mapping[str, Any]) -> Family:
    """The kind, from a UNet's config. Never guessed from the file's name."""
    if config.get("addition_embed_type") == "text_time":
        return Family.SDXL
    return Family.SD21 if config.get("use_linear_projection") else Family.SD15


def other_sampling(what: str) -> AssetError:
    """The refusal of a model that predicts something else, or has noise levels of its own."""
    return AssetError(
        f"{what} is sampled in a way that is not understood",
        code="model_sampling",
        hint="models that predict noise or velocity at Stable Diffusion's noise levels are",
    )


def predicts_velocity(weights: Mapping[str, Tensor], family: Family, names: Collection[str] = ()) -> bool:
    """Whether a UNet in the original layout predicts velocity rather than noise.

    Some files hold an empty tensor of that name. Those of SD 2 (the 768 ones) do not: there it shows in how the biases
    of the last attention's first norm are spread, more than 0.09 in those that were trained for velocity.

    Args:
        weights: of the UNet.
        family: its kind.
        names: of the whole file's tensors.
    """
    if VELOCITY in names or family is not Family.SD21 or weights["input_blocks.0.0.weight"].shape[1] != 4:
        return VELOCITY in names
    last = _count(weights, r"output_blocks\.(\d+)\.1\.transformer_blocks\.") - 1
    bias = weights.get(f"output_blocks.{last}.1.transformer_blocks.0.norm1.bias")
    return bias is not None and float(bias.float().std(unbiased=False)) > VELOCITY_SPREAD


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    found = [int(match[1]) for name in weights if (match := re.match(pattern, name))]
    return max(found) + 1 if found else 0


def _levels(weights: Mapping[str, Tensor]) -> tuple[list[int], list[int], int]:
    """Channels and transformer depth per resolution, and ResNets per resolution."""
    channels, depths, layers, number = [0], [0], [0], 1
    while any(name.startswith(f"input_blocks.{number}.") for name in weights):
        if f"input_blocks.{number}.0.op.weight" in weights:
            channels.append(0)
            depths.append(0)
            layers.append(0)
        else:
            channels[-1] = weights[f"input_blocks.{number}.0.out_layers.3.weight"].shape[0]
            depths[-1] = _count(weights, rf"input_blocks\.{number}\.1\.transformer_blocks\.(\d+)\.")
            layers[-1] += 1
        number += 1
    return channels, depths, layers[0]


def unet_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config of diffusers' UNet2DConditionModel for weights in the original layout.

    Raises:
        AssetError: these are no weights of such a UNet.
    """
    if "input_blocks.0.0.weight" not in weights or "out.2.weight" not in weights:
        raise AssetError(
            "the file holds no Stable Diffusion UNet", hint="SD 1.5, SD 2.1 and SDXL are understood", code="not_a_unet"
        )
    config = _trunk_config(weights)
    config["out_channels"] = weights["out.2.weight"].shape[0]
    for name in ("time_embed.cond_proj.weight", "time_embedding.cond_proj.weight"):  # distilled with guidance
        if name in weights:
            config["time_cond_proj_dim"] = weights[name].shape[1]
    attends = [name.startswith("Cross") for name in config["down_block_types"]]
    config["up_block_types"] = ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attends)]
    return config


def _trunk_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    channels, depths, layers = _levels(weights)
    middle = _count(weights, r"middle_block\.1\.transformer_blocks\.(\d+)\.")
    keys = [name for name in weights if name.endswith("attn2.to_k.weight")]
    if not keys or not middle:
        raise AssetError("the file's UNet has no cross-attention", code="not_a_unet")
    is_linear = weights["middle_block.1.proj_in.weight"].ndim == 2
    config: dict[str, Any] = {
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "cross_attention_dim": weights[keys[0]].shape[1],
        "use_linear_projection": is_linear,
        "transformer_layers_per_block": [*(max(depth, 1) for depth in depths[:-1]), depths[-1] or middle],
        "attention_head_dim": [max(1, wide // HEAD_DIM) for wide in channels] if is_linear else SD15_HEADS,
    }
    if "label_emb.0.0.weight" in weights:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": weights["label_emb.0.0.weight"].shape[1],
        }
    return config


def control_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config of diffusers' ControlNetModel for weights in the original layout.

    Raises:
        AssetError: these are no weights of a ControlNet.
    """
    if "input_hint_block.0.weight" not in weights:
        raise AssetError("the file holds no ControlNet", code="not_a_controlnet")
    config = _trunk_config(weights)
    widths = [weights[f"input_hint_block.{number}.weight"].shape[0] for number in (0, 4, 8, 12)]
    return config | {"conditioning_embedding_out_channels": widths}


def autoencoder_config(weights: Mapping[str, Tensor], family: Family) -> dict[str, Any]:
    """Config of diffusers' AutoencoderKL for weights in the original layout."""
    levels = _count(weights, r"encoder\.down\.(\d+)\.")
    if not levels:
        raise AssetError("the file holds no autoencoder", hint="give a VAE or a TAESD beside it", code="no_vae")
    widths = [weights[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
    return {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": _count(weights, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": weights["post_quant_conv.weight"].shape[0],
        "scaling_factor": 0.13025 if family is Family.SDXL else 0.18215,
    }


def clip_config(weights: Mapping[str, Tensor], is_open_clip: bool) -> dict[str, Any]:
    """Config of transformers' CLIP text model for its weights (names begin with "text_model.")."""
    tokens = weights["text_model.embeddings.token_embedding.weight"]
    layers = _count(weights, r"text_model\.encoder\.layers\.(\d+)\.")
    projection = weights.get("text_projection.weight")
    last = tokens.shape[0] - 1
    return {
        "vocab_size": tokens.shape[0],
        "hidden_size": tokens.shape[1],
        "intermediate_size": weights["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, tokens.shape[1] // CLIP_HEAD_DIM),
        "max_position_embeddings": weights["text_model.embeddings.position_embedding.weight"].shape[0],
        "projection_dim": projection.shape[0] if projection is not None else tokens.shape[1],
        "hidden_act": "gelu" if is_open_clip else "quick_gelu",
        "bos_token_id": last - 1,
        "eos_token_id": last,
        "pad_token_id": 0 if is_open_clip else last,
    }
