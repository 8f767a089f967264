"""The names of tensors in original checkpoints (Stability AI's layout) and in diffusers: the same models, other words.

Each function gives pairs (original, diffusers) of prefixes or whole names for a model of given depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["autoencoder_pairs", "control_pairs", "open_clip_to_hf", "renamed", "tiny_autoencoder", "unet_pairs"]

Pair = tuple[str, str]

_RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)


def _resnet(original: str, ours: str) -> Iterator[Pair]:
    return ((f"{original}.{one}.", f"{ours}.{other}.") for one, other in _RESNET)


def _unet_down(levels: int, layers: int) -> Iterator[Pair]:
    yield from (("time_embed.0.", "time_embedding.linear_1."), ("time_embed.2.", "time_embedding.linear_2."))
    yield "time_embed.cond_proj.", "time_embedding.cond_proj."
    yield from (("label_emb.0.0.", "add_embedding.linear_1."), ("label_emb.0.2.", "add_embedding.linear_2."))
    yield "input_blocks.0.0.", "conv_in."
    number = 1
    for level in range(levels):
        for layer in range(layers):
            yield from _resnet(f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{layer}")
            yield f"input_blocks.{number}.1.", f"down_blocks.{level}.attentions.{layer}."
            number += 1
        if level < levels - 1:
            yield f"input_blocks.{number}.0.op.", f"down_blocks.{level}.downsamplers.0.conv."
            number += 1
    yield from _resnet("middle_block.0", "mid_block.resnets.0")
    yield "middle_block.1.", "mid_block.attentions.0."
    yield from _resnet("middle_block.2", "mid_block.resnets.1")


def unet_pairs(levels: int, layers: int, attends: Sequence[bool]) -> list[Pair]:
    """A UNet.

    Args:
        levels: how many resolutions.
        layers: ResNets per resolution on the way down.
        attends: per resolution, whether it has attention.
    """
    pairs = [*_unet_down(levels, layers), ("out.0.", "conv_norm_out."), ("out.2.", "conv_out.")]
    number = 0
    for up, level in enumerate(reversed(range(levels))):
        for layer in range(layers + 1):
            pairs += _resnet(f"output_blocks.{number}.0", f"up_blocks.{up}.resnets.{layer}")
            place = 1
            if attends[level]:
                pairs.append((f"output_blocks.{number}.1.", f"up_blocks.{up}.attentions.{layer}."))
                place = 2
            if layer == layers and level > 0:
                pairs.append((f"output_blocks.{number}.{place}.conv.", f"up_blocks.{up}.upsamplers.0.conv."))
            number += 1
    # longest first: "output_blocks.2.1.conv." must not be taken for an attention's "output_blocks.2.1."
    return sorted(pairs, key=lambda pair: -len(pair[0]))


def control_pairs(levels: int, layers: int) -> list[Pair]:
    """A ControlNet."""
    pairs = [*_unet_down(levels, layers), ("middle_block_out.0.", "controlnet_mid_block.")]
    pairs += [(f"zero_convs.{i}.0.", f"controlnet_down_blocks.{i}.") for i in range(levels * (layers + 1))]
    pairs += [("input_hint_block.0.", "controlnet_cond_embedding.conv_in.")]
    pairs += [(f"input_hint_block.{2 * i + 2}.", f"controlnet_cond_embedding.blocks.{i}.") for i in range(6)]
    return [*pairs, ("input_hint_block.14.", "controlnet_cond_embedding.conv_out.")]


_ATTENTION = (("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0"))


def _autoencoder_side(side: str, levels: int, layers: int) -> Iterator[Pair]:
    yield from ((f"{side}.{name}.", f"{side}.{name}.") for name in ("conv_in", "conv_out"))
    yield f"{side}.norm_out.", f"{side}.conv_norm_out."
    for number in (1, 2):
        yield f"{side}.mid.block_{number}.", f"{side}.mid_block.resnets.{number - 1}."
    for one, other in _ATTENTION:
        yield f"{side}.mid.attn_1.{one}.", f"{side}.mid_block.attentions.0.{other}."
    way, changed = ("down", "downsample") if side == "encoder" else ("up", "upsample")
    for level in range(levels):
        ours = level if side == "encoder" else levels - 1 - level
        for layer in range(layers + (side == "decoder")):
            yield f"{side}.{way}.{level}.block.{layer}.", f"{side}.{way}_blocks.{ours}.resnets.{layer}."
        yield f"{side}.{way}.{level}.{changed}.conv.", f"{side}.{way}_blocks.{ours}.{changed}rs.0.conv."


def autoencoder_pairs(levels: int, layers: int) -> list[Pair]:
    """A KL autoencoder. Beside these, "nin_shortcut" is called "conv_shortcut"."""
    sides = [*_autoencoder_side("encoder", levels, layers), *_autoencoder_side("decoder", levels, layers)]
    return [*sides, ("quant_conv.", "quant_conv."), ("post_quant_conv.", "post_quant_conv.")]


def renamed(weights: Mapping[str, Tensor], pairs: Iterable[Pair]) -> dict[str, Tensor]:
    """Tensors under diffusers' names; what no pair knows keeps its own, so that a check finds it."""
    table = list(pairs)
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        found = next(((one, other) for one, other in table if name.startswith(one)), None)
        out[found[1] + name[len(found[0]) :] if found else name] = value
    return out


_OPEN_CLIP_LAYER = (
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)


def open_clip_to_hf(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An OpenCLIP text tower under the names of transformers' CLIP; its fused q, k, v are taken apart."""
    plain = {
        "positional_embedding": "embeddings.position_embedding.weight",
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "ln_final.weight": "final_layer_norm.weight",
        "ln_final.bias": "final_layer_norm.bias",
    }
    out = {f"text_model.{plain[name]}": value for name, value in weights.items() if name in plain}
    if "text_projection" in weights:
        out["text_projection.weight"] = weights["text_projection"].T.contiguous()
    for name, value in weights.items():
        if not name.startswith("transformer.resblocks."):
            continue
        number, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
        base = f"text_model.encoder.layers.{number}."
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for letter, part in zip("qkv", torch.chunk(value, 3), strict=True):
                out[f"{base}self_attn.{letter}_proj.{kind}"] = part.contiguous()
            continue
        one, other = next(pair for pair in _OPEN_CLIP_LAYER if rest.startswith(pair[0]))
        out[base + other + rest[len(one) :]] = value
    return out


def tiny_autoencoder(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One file of a TAESD as diffusers has it: `encoder.layers.N`, `decoder.layers.N` (which leaves out a clamp).

    ComfyUI's scale and shift between a TAESD's latents and those of other autoencoders are left out: nothing here
    uses these.
    """
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name in ("vae_scale", "vae_shift"):
            continue
        side, _, rest = name.removeprefix("taesd_").partition(".")
        if side in ("encoder", "decoder") and rest.split(".", 1)[0].isdigit():
            number, tail = rest.split(".", 1)
            name = f"{side}.layers.{int(number) - (side == 'decoder')}.{tail}"
        out[name] = value
    return out
