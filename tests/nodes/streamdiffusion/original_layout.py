"""Tiny models as checkpoints in the original layout: the inverse of what the loaders do."""

from __future__ import annotations

import torch
from torch import Tensor

from comfystream_nodes.streamdiffusion.loading.names import autoencoder_pairs, control_pairs, unet_pairs


def _back(weights: dict[str, Tensor], pairs: list[tuple[str, str]]) -> dict[str, Tensor]:
    ordered = sorted(pairs, key=lambda pair: -len(pair[1]))
    out = {}
    for name, value in weights.items():
        one, other = next(pair for pair in ordered if name.startswith(pair[1]))
        out[one + name[len(other) :]] = value.clone()
    return out


def original_unet(unet) -> dict[str, Tensor]:
    attends = [kind.startswith("Cross") for kind in unet.config.down_block_types]
    return _back(unet.state_dict(), unet_pairs(len(attends), unet.config.layers_per_block, attends))


def original_control(net) -> dict[str, Tensor]:
    return _back(net.state_dict(), control_pairs(len(net.config.block_out_channels), net.config.layers_per_block))


def original_autoencoder(vae) -> dict[str, Tensor]:
    pairs = autoencoder_pairs(len(vae.config.block_out_channels), vae.config.layers_per_block)
    out = {}
    for name, value in _back(vae.state_dict(), pairs).items():
        is_attention = ".attn_1." in name and value.ndim == 2
        out[name.replace("conv_shortcut", "nin_shortcut")] = value[:, :, None, None].clone() if is_attention else value
    return out


def _open_clip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = {name.removeprefix("text_model."): value for name, value in weights.items()}
    out = {
        "positional_embedding": plain["embeddings.position_embedding.weight"],
        "token_embedding.weight": plain["embeddings.token_embedding.weight"],
        "ln_final.weight": plain["final_layer_norm.weight"],
        "ln_final.bias": plain["final_layer_norm.bias"],
    }
    if "text_projection.weight" in plain:
        out["text_projection"] = plain["text_projection.weight"].T.contiguous()
    layers = {name.split(".")[2] for name in plain if name.startswith("encoder.layers.")}
    for number in layers:
        theirs, ours = f"transformer.resblocks.{number}.", f"encoder.layers.{number}."
        for kind in ("weight", "bias"):
            fused = torch.cat([plain[f"{ours}self_attn.{letter}_proj.{kind}"] for letter in "qkv"])
            out[f"{theirs}attn.in_proj_{kind}"] = fused
            for one, other in (
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("attn.out_proj", "self_attn.out_proj"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                out[f"{theirs}{one}.{kind}"] = plain[f"{ours}{other}.{kind}"]
    return {name: value.clone() for name, value in out.items()}


def original_checkpoint(model) -> dict[str, Tensor]:
    """Everything of a model in one table."""
    parts = {"model.diffusion_model.": original_unet(model.unet)}
    parts["first_stage_model."] = original_autoencoder(model.autoencoder.module)
    towers = [tower.module.state_dict() for tower in model.prompts.towers]
    named = {name if name.startswith("text_model.") else f"text_model.{name}": v for name, v in towers[0].items()}
    if model.family == "sd15":
        parts["cond_stage_model.transformer."] = named
    elif model.family == "sd21":
        parts["cond_stage_model.model."] = _open_clip(towers[0])
    else:
        parts["conditioner.embedders.0.transformer."] = named
        parts["conditioner.embedders.1.model."] = _open_clip(towers[1])
    return {prefix + name: value.contiguous() for prefix, part in parts.items() for name, value in part.items()}
