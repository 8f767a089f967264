"""From files to video models: diffusers' folders, Wan's own folders and files, and checkpoints of causal training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comfystream.accel.placement import bring
from comfystream.errors import AssetError

from ..loading.names import renamed
from ..loading.parts import component, libraries, unknown_keys_out
from ..loading.weights import fill, read_config, read_folder, read_weights
from .autoencoder import VideoAutoencoder
from .model import VideoModel
from .names import autoencoder_pairs, generator_of, text_pairs, transformer_pairs
from .pipelines import Pipeline
from .tae import tiny_autoencoder_of, tiny_video_autoencoder
from .text import VideoText
from .transformer import CausalStep
from .wan_vae import wan_autoencoder

__all__ = ["load_autoencoder", "load_text", "load_transformer", "load_video_model", "placed", "video_dtype_of"]

HEAD_WIDTH = 128  # of all of Wan's transformers
VAE_BLOCKS = 2
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def video_dtype_of(name: str, device: torch.device) -> torch.dtype:
    """A precision by name; "auto" is bfloat16, which these models were trained in, on a GPU, and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise AssetError(f"dtype {name!r} is unknown", hint=f"one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def load_transformer(path: Path) -> Any:
    """A Wan transformer on the CPU as it was saved.

    Args:
        path: a folder in diffusers' layout (or one with a `transformer` folder), or a weight file with Wan's or
            diffusers' names; a `config.json` beside the file may say `num_heads` or `num_attention_heads`.

    Raises:
        AssetError: it is damaged, or of another architecture.
    """
    if path.is_file():
        return _of_weights(read_weights(path), path.parent, str(path))
    folder = path / "transformer" if (path / "transformer").is_dir() else path
    config = read_config(folder)
    if config.get("_class_name") == "WanTransformer3DModel":
        return _made(config, read_folder(folder), str(folder))
    return _of_weights(read_folder(folder), folder, str(folder))


def _of_weights(weights: Mapping[str, Tensor], beside: Path, what: str) -> Any:
    own = generator_of(weights)
    blocks = {int(name.split(".")[1]) for name in own if name.startswith("blocks.") and name.split(".")[1].isdigit()}
    if not blocks or "patch_embedding.weight" not in own or own["patch_embedding.weight"].ndim != 5:
        raise AssetError(
            f"{what} is no Wan transformer", code="weights_do_not_fit", hint="it holds another kind of model"
        )
    named = renamed(own, transformer_pairs(max(blocks) + 1))
    return _made(_config_of(named, len(blocks), beside, what), named, what)


def _config_of(weights: Mapping[str, Tensor], blocks: int, beside: Path, what: str) -> dict[str, Any]:
    """What can be read off the weights; the number of heads cannot."""
    try:
        patch = weights["patch_embedding.weight"].shape
        sizes = {
            "text_dim": weights["condition_embedder.text_embedder.linear_1.weight"].shape[1],
            "freq_dim": weights["condition_embedder.time_embedder.linear_1.weight"].shape[1],
            "ffn_dim": weights["blocks.0.ffn.net.0.proj.weight"].shape[0],
            "out_channels": weights["proj_out.weight"].shape[0] // (patch[2] * patch[3] * patch[4]),
        }
    except KeyError as error:
        raise AssetError(
            f"{what} is no whole Wan transformer: {error.args[0]} is missing",
            code="weights_do_not_fit",
            hint="the file is of another architecture, or parts of it are missing",
        ) from error
    told = read_config(beside) if (beside / "config.json").is_file() else {}
    heads = int(told.get("num_attention_heads") or told.get("num_heads") or patch[0] // HEAD_WIDTH)
    if not heads or patch[0] % heads:
        raise AssetError(f"{what}: {patch[0]} numbers are not divided among {heads} heads", code="bad_config")
    sizes |= {"num_attention_heads": heads, "attention_head_dim": patch[0] // heads, "num_layers": blocks}
    return {**sizes, "in_channels": patch[1], "patch_size": tuple(patch[2:]), "eps": told.get("eps", 1e-6)}


def _made(config: Mapping[str, Any], weights: Mapping[str, Tensor], what: str) -> Any:
    transformer = component("WanTransformer3DModel", config, weights, what)
    if transformer.config.image_dim or transformer.config.patch_size[0] != 1:
        raise AssetError(f"{what} makes video of a picture, which no pipeline here does", code="weights_do_not_fit")
    transformer.rope = None  # its table is no weight; positions are computed anew, from the stream's index
    return transformer


def load_autoencoder(path: Path, kind: str) -> VideoAutoencoder:
    """An autoencoder for video.

    Args:
        path: a folder in diffusers' layout (or one with a `vae` folder), or a file; with "wan" in Wan's own layout.
        kind: wan or tae.

    Raises:
        AssetError: it is damaged or of another kind.
    """
    if kind not in ("wan", "tae"):
        raise AssetError(f"vae_type {kind!r} is unknown", hint="use wan or tae")
    if kind == "tae":
        weights = read_weights(path) if path.is_file() else read_folder(path)
        return tiny_video_autoencoder(tiny_autoencoder_of(weights, str(path)))
    if path.is_file():
        return wan_autoencoder(_wan_of_file(path), str(path))
    folder = path / "vae" if (path / "vae").is_dir() else path
    config = read_config(folder)
    if config.get("_class_name") != "AutoencoderKLWan":
        raise _no_wan(folder)
    return wan_autoencoder(component("AutoencoderKLWan", config, read_folder(folder), str(folder)), str(folder))


def _no_wan(path: Path) -> AssetError:
    hint = "it holds something else; for a tiny autoencoder set vae_type to tae"
    return AssetError(f"{path} is no autoencoder of Wan's", code="weights_do_not_fit", hint=hint)


def _wan_of_file(path: Path) -> Any:
    """Wan's own layout; a pruned one ("light") has the same names and is narrower."""
    weights = read_weights(path)
    needed = ("encoder.conv1.weight", "conv2.weight", "decoder.head.2.weight")
    if any(name not in weights for name in needed):
        raise _no_wan(path)
    first, latent, last = (weights[name] for name in needed)
    config = {"base_dim": first.shape[0], "decoder_base_dim": last.shape[1], "z_dim": latent.shape[0]}
    levels = 4
    return component("AutoencoderKLWan", config, renamed(weights, autoencoder_pairs(levels, VAE_BLOCKS)), str(path))


def load_text(path: Path | None, tokenizer: Path | None) -> VideoText:
    """UMT5 with its tokenizer.

    Args:
        path: a folder in the layout of transformers, a file with Wan's names, or None for none.
        tokenizer: its folder, or None for none.

    Raises:
        AssetError: one of them is damaged or of another kind.
    """
    return VideoText(None if path is None else _umt5(path), None if tokenizer is None else _tokenizer(tokenizer))


def _umt5(path: Path) -> Any:
    _, transformers = libraries()
    weights = read_weights(path) if path.is_file() else read_folder(path)
    beside = path.parent if path.is_file() else path
    if "token_embedding.weight" in weights:
        count = sum(name.endswith(".attn.q.weight") for name in weights)
        weights = renamed(weights, text_pairs(count))
    told = unknown_keys_out(read_config(beside)) if (beside / "config.json").is_file() else {}
    config = told if "d_model" in told else _XXL  # in Wan's folders that file is the transformer's
    shared = weights.get("shared.weight", weights.get("encoder.embed_tokens.weight"))
    weights = {name: value for name, value in weights.items() if name != _EMBEDDED}
    if shared is not None:  # one tensor by two names, of which a file may hold either
        weights = {"shared.weight": shared, "encoder.embed_tokens.weight": shared, **weights}
    try:
        with torch.device("meta"):
            module = transformers.UMT5EncoderModel(transformers.UMT5Config(**config))
    except (TypeError, ValueError) as error:
        raise AssetError(f"{path}: its config does not make a UMT5: {error}", code="bad_config") from error
    fill(module, weights, str(path))
    module.encoder.embed_tokens.weight = module.shared.weight  # one again: it is two gigabytes
    return module


_EMBEDDED = "spiece_model"  # ComfyUI's files carry the tokenizer as a tensor
# The one text encoder of Wan's models; its own file has no config.
_XXL = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}


def _tokenizer(folder: Path) -> Any:
    _, transformers = libraries()
    try:
        return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        said = str(error).splitlines()[0][:160]
        raise AssetError(f"{folder} is no tokenizer's folder: {said}", code="no_tokenizer") from error


def load_video_model(
    pipeline: Pipeline, transformer: Path, autoencoder: Path, kind: str, text: Path | None, tokenizer: Path | None
) -> VideoModel:
    """A whole model on the CPU, as it was saved."""
    made = load_transformer(transformer)
    vae = load_autoencoder(autoencoder, kind)
    if vae.channels != made.config.in_channels:
        raise AssetError(
            f"{autoencoder} has latents of {vae.channels} channels, {transformer} takes {made.config.in_channels}",
            code="weights_do_not_fit",
            hint="they are of different models",
        )
    return VideoModel(transformer.name, pipeline, CausalStep(made), vae, load_text(text, tokenizer))


def placed(model: VideoModel, device: torch.device, dtype: torch.dtype) -> VideoModel:
    """The model on a device, in a precision. Its modules are moved, not copied."""
    bring(model.transformer, device, dtype)  # all of it, as published
    bring(model.autoencoder.module, device, dtype)
    if model.text.module is not None:  # UMT5 overflows in float16
        model.text.module.to(device, torch.bfloat16 if dtype == torch.float16 else dtype)
    text = VideoText(model.text.module, model.text.tokenizer, dtype, model.text.tokens)
    return model.with_parts(device=device, dtype=dtype, text=text)
