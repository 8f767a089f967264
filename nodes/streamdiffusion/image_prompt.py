"""IP-Adapter: a picture as a prompt, by extra keys and values in every cross-attention (arXiv 2308.06721)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from comfystream.errors import AssetError, ConfigError

from .loading.weights import fill, under
from .preprocess import constant

__all__ = ["WEIGHT_TYPES", "ImagePrompt", "build", "layer_weights"]

HEAD_DIM = 64
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_STAGES = ("down_blocks", "mid_block", "up_blocks")  # in the order in which they run; the names come in another one
_INPUT, _MIDDLE, _OUTPUT = range(3)
# How strong the picture is in a layer, by its place in that order, 0 the first and 1 the last, and by its stage. What
# the words mean is what the IP-Adapter nodes of ComfyUI made of them: "ease in" begins strong.
WEIGHT_TYPES: dict[str, Callable[[float, int], float]] = {
    "linear": lambda place, stage: 1.0,
    "ease in": lambda place, stage: 1 - 0.95 * place,
    "ease out": lambda place, stage: 0.05 + 0.95 * place,
    "ease in-out": lambda place, stage: 1 - 0.95 * abs(2 * place - 1),
    "reverse in-out": lambda place, stage: 0.05 + 0.95 * abs(2 * place - 1),
    "weak input": lambda place, stage: 0.2 if stage == _INPUT else 1.0,
    "weak middle": lambda place, stage: 0.2 if stage == _MIDDLE else 1.0,
    "weak output": lambda place, stage: 0.2 if stage == _OUTPUT else 1.0,
    "strong middle": lambda place, stage: 1.0 if stage == _MIDDLE else 0.2,
}
STYLE_TRANSFER = "style transfer"  # only the layers that carry style (InstantStyle, arXiv 2404.02733)


def layer_weights(names: list[str], weight_type: str) -> list[float]:
    """How strong the picture is in each cross-attention.

    Args:
        names: of the attention layers, as a UNet lists them.
        weight_type: a key of `WEIGHT_TYPES`, or "style transfer".

    Raises:
        ConfigError: an unknown type.
    """
    if weight_type == STYLE_TRANSFER:
        return [1.0 if "up_blocks.0.attentions.1" in name else 0.0 for name in names]
    if weight_type not in WEIGHT_TYPES:
        known = ", ".join((*WEIGHT_TYPES, STYLE_TRANSFER))
        raise ConfigError(f"IP-Adapter weight type {weight_type!r} is unknown", hint=f"one of: {known}")
    stages = [next((n for n, stage in enumerate(_STAGES) if name.startswith(stage)), _INPUT) for name in names]
    order = sorted(range(len(names)), key=stages.__getitem__)
    last, strength = max(len(names) - 1, 1), WEIGHT_TYPES[weight_type]
    return [strength(order.index(number) / last, stage) for number, stage in enumerate(stages)]


class ImageAttention(nn.Module):
    """A processor for diffusers' Attention: the last tokens are the picture's, with keys and values of their own."""

    def __init__(self, keys: nn.Linear, values: nn.Linear, tokens: int, scale: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.tokens = keys, values, tokens
        self.scale = scale  # a view: whoever sets the strength writes the vector of all layers

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *rest: Any, **more: Any
    ) -> Tensor:
        """As diffusers calls it, for [rows, pixels, width]."""
        text, picture = encoder_hidden_states[:, : -self.tokens], encoder_hidden_states[:, -self.tokens :]
        rows, heads = hidden_states.shape[0], attn.heads  # `len` would be a constant in an export

        def split(value: Tensor) -> Tensor:
            return value.view(rows, value.shape[1], heads, -1).transpose(1, 2)

        query = split(attn.to_q(hidden_states))
        mixed = scaled_dot_product_attention(query, split(attn.to_k(text)), split(attn.to_v(text)))
        seen = scaled_dot_product_attention(query, split(self.keys(picture)), split(self.values(picture)))
        mixed = mixed + seen * self.scale  # `addcmul` becomes float32 in an export
        out = attn.to_out[0](mixed.transpose(1, 2).reshape(rows, hidden_states.shape[1], -1))
        return attn.to_out[1](out)


class PlainProjection(nn.Module):
    """One vector of a picture to some tokens."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        width = weights["norm.weight"].shape[0]
        out, wide = weights["proj.weight"].shape
        self.proj, self.norm, self.tokens = nn.Linear(wide, out), nn.LayerNorm(width), out // width
        self.width = width

    def forward(self, pooled: Tensor) -> Tensor:
        """[rows, wide] to [rows, tokens, width]."""
        return self.norm(self.proj(pooled).view(len(pooled), self.tokens, self.width))


class _Look(nn.Module):
    """Some learned queries look at a picture's patches and at themselves (one layer of a "plus" adapter)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)
        self.heads = max(1, inner // HEAD_DIM)

    def forward(self, patches: Tensor, queries: Tensor) -> Tensor:
        patches, queries = self.norm1(patches), self.norm2(queries)

        def split(value: Tensor) -> Tensor:
            return value.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        keys, values = self.to_kv(torch.cat([patches, queries], 1)).chunk(2, -1)
        seen = scaled_dot_product_attention(split(self.to_q(queries)), split(keys), split(values))
        return self.to_out(seen.transpose(1, 2).flatten(2))


class PlusProjection(nn.Module):
    """All patches of a picture to some tokens, as "plus" adapters do it (a Perceiver resampler)."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.tokens, inside = weights["latents"].shape[1:]
        self.width, wide = weights["proj_out.weight"].shape[0], weights["proj_in.weight"].shape[1]
        inner, middle = weights["layers.0.0.to_q.weight"].shape[0], weights["layers.0.1.1.weight"].shape[0]
        depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        self.latents = nn.Parameter(torch.empty(1, self.tokens, inside))
        self.proj_in, self.proj_out = nn.Linear(wide, inside), nn.Linear(inside, self.width)
        self.norm_out = nn.LayerNorm(self.width)

        def mixer() -> nn.Sequential:
            first, last = nn.Linear(inside, middle, bias=False), nn.Linear(middle, inside, bias=False)
            return nn.Sequential(nn.LayerNorm(inside), first, nn.GELU(), last)

        self.layers = nn.ModuleList(nn.ModuleList([_Look(inside, inner), mixer()]) for _ in range(depth))

    def forward(self, patches: Tensor) -> Tensor:
        """[rows, patches, wide] to [rows, tokens, width]."""
        queries, patches = self.latents.expand(len(patches), -1, -1), self.proj_in(patches)
        for look, mix in self.layers:
            queries = look(patches, queries) + queries
            queries = mix(queries) + queries
        return self.norm_out(self.proj_out(queries))


@dataclass(frozen=True, slots=True)
class ImagePrompt:
    """An adapter that is built into a UNet.

    Attributes:
        projection: a picture's vector to tokens.
        encoder: transformers' CLIPVisionModelWithProjection.
        layers: names of the cross-attentions, in order.
        scales: [layers], how strong the picture is in each; written before a tick, read by the processors.
        tokens: how many a picture has.
    """

    projection: PlainProjection | PlusProjection
    encoder: Any
    layers: tuple[str, ...]
    scales: Tensor
    tokens: int

    @torch.inference_mode()
    def encode(self, picture: Tensor) -> Tensor:
        """Tokens [1, tokens, width] of an IMAGE [1, height, width, 3] of 0..1."""
        side = self.encoder.config.image_size
        weight = next(self.encoder.parameters())
        small = picture[:1, ..., :3].movedim(-1, 1).to(weight.device, torch.float32)
        edge = min(small.shape[-2:])
        top, left = (small.shape[-2] - edge) // 2, (small.shape[-1] - edge) // 2
        small = small[..., top : top + edge, left : left + edge]
        small = interpolate(small, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (constant(values, small.device, small.dtype).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        return self._tokens(((small - mean) / std).to(weight.dtype))

    def _tokens(self, pixels: Tensor) -> Tensor:
        if isinstance(self.projection, PlainProjection):
            return self.projection(self.encoder(pixel_values=pixels).image_embeds)
        return self.projection(self.encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2])

    @torch.inference_mode()
    def blank(self) -> Tensor:
        """Tokens [1, tokens, width] of no picture, for unguided rows."""
        if isinstance(self.projection, PlainProjection):
            weight = self.projection.proj.weight
            return self.projection(weight.new_zeros((1, weight.shape[1])))
        side, weight = self.encoder.config.image_size, next(self.encoder.parameters())
        return self._tokens(weight.new_zeros((1, 3, side, side)))


def build(
    unet: Any, weights: Mapping[str, Tensor], encoder: Any, name: str, device: torch.device, dtype: torch.dtype
) -> ImagePrompt:
    """Put an adapter into a UNet, which must be one of its own (see `with_tensors`).

    Args:
        unet: its cross-attentions get new processors.
        weights: of the adapter's file: "image_proj." and "ip_adapter.".
        encoder: the picture encoder.
        name: of the file, for messages.
        device: where the pictures are read; the UNet with its new layers is left where it is.
        dtype: what it computes in.

    Raises:
        AssetError: the file is of another kind or for another architecture.
    """
    picture, layers = under(weights, "image_proj."), under(weights, "ip_adapter.")
    kind = PlainProjection if "proj.weight" in picture else PlusProjection if "latents" in picture else None
    if not layers or kind is None:
        raise AssetError(
            f"{name} is no IP-Adapter file that is understood",
            code="not_an_ip_adapter",
            hint="plain and plus adapters are; FaceID adapters have other projections",
        )
    _check_encoder(encoder, picture, name)
    projection = fill(kind(picture), picture, f"{name}: image_proj").to(device, dtype)
    processors = dict(unet.attn_processors)
    names = [key for key in processors if key.endswith("attn2.processor")]
    scales = torch.zeros(len(names), device=device, dtype=dtype)
    for number, key in enumerate(names):
        attention = unet.get_submodule(key.removesuffix(".processor"))
        keys, values = _layer(attention, layers, number, projection, name)
        processors[key] = ImageAttention(keys, values, projection.tokens, scales[number])
    unet.set_attn_processor(processors)
    return ImagePrompt(projection, encoder, tuple(names), scales, projection.tokens)


def _check_encoder(encoder: Any, picture: Mapping[str, Tensor], name: str) -> None:
    is_plain = "proj.weight" in picture
    wanted = picture["proj.weight" if is_plain else "proj_in.weight"].shape[1]
    given = encoder.config.projection_dim if is_plain else encoder.config.hidden_size
    if given != wanted:
        raise AssetError(
            f"IP-Adapter {name} was trained with another image encoder: it reads {wanted} numbers, not {given}",
            code="weights_do_not_fit",
            hint="most adapters use CLIP ViT-H, the plain one of SDXL without vit-h in its name ViT-bigG",
        )


def _layer(
    attention: Any, layers: Mapping[str, Tensor], number: int, projection: PlainProjection | PlusProjection, name: str
) -> tuple[nn.Linear, nn.Linear]:
    width, hidden = attention.to_k.weight.shape[1], attention.to_k.weight.shape[0]
    pair = []
    for which in ("to_k_ip", "to_v_ip"):
        weight = layers.get(f"{2 * number + 1}.{which}.weight")
        if weight is None or tuple(weight.shape) != (hidden, width) or width != projection.width:
            shape = "none" if weight is None else list(weight.shape)
            raise AssetError(
                f"IP-Adapter {name} is for another architecture: its layer {number} is {shape} where "
                f"[{hidden}, {width}] was expected",
                code="weights_do_not_fit",
                hint="use the adapter for this model's kind (SD 1.5 or SDXL)",
            )
        linear = nn.Linear(width, hidden, bias=False, device="meta")
        linear.weight = nn.Parameter(weight, requires_grad=False)
        pair.append(linear)
    return pair[0], pair[1]
