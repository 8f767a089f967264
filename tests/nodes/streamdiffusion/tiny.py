"""Tiny random models, written to disk in the real formats: diffusers' folders, single files in the original layout."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

FAMILIES = ("sd15", "sd21", "sdxl")
WIDTH = 32
SYMBOLS = [*string.ascii_lowercase, *string.digits, ",", ".", "!"]


def vocabulary() -> dict[str, int]:
    words = [*SYMBOLS, *(f"{symbol}</w>" for symbol in SYMBOLS), "<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}


def write_tokenizer(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def unet(family: str, seed: int = 0, **more: Any) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    if family == "sd15":
        more |= {"attention_head_dim": 8}
    else:
        more |= {"attention_head_dim": (1, 1), "use_linear_projection": True}
    if family == "sdxl":
        more |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 6 * 256 + WIDTH,
            "transformer_layers_per_block": (1, 2),
        }
    downs = ("DownBlock2D", "CrossAttnDownBlock2D") if family == "sdxl" else ("CrossAttnDownBlock2D", "DownBlock2D")
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=downs,
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(downs)),
        cross_attention_dim=2 * WIDTH if family == "sdxl" else WIDTH,
        sample_size=8,
        **more,
    ).eval()


def taesd(seed: int = 0) -> AutoencoderTiny:
    torch.manual_seed(seed)
    made = AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16, 16),
        decoder_block_out_channels=(16, 16, 16, 16),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    ).eval()
    last = made.decoder.layers[-1]
    last.weight.data.mul_(5.0)  # a random one gives nearly black pictures, in which 8 bits show no difference
    last.bias.data.fill_(0.5)
    return made


def kl(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
    ).eval()


def text_encoder(has_projection: bool = False, seed: int = 0, act: str = "quick_gelu", layers: int = 3) -> Any:
    torch.manual_seed(seed)
    words = len(vocabulary())
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=max(1, WIDTH // 64),
        hidden_act=act,
        projection_dim=WIDTH,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    return (CLIPTextModelWithProjection if has_projection else CLIPTextModel)(config).eval()


def write_folder(folder: Path, family: str = "sd15", is_tiny_vae: bool = True, **scheduler: Any) -> Path:
    """A model as diffusers saves it."""
    unet(family).save_pretrained(folder / "unet")
    (taesd() if is_tiny_vae else kl()).save_pretrained(folder / "vae")
    text_encoder(seed=1).save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    if family == "sdxl":
        text_encoder(True, seed=2, act="gelu").save_pretrained(folder / "text_encoder_2")
        write_tokenizer(folder / "tokenizer_2")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


def controlnet(family: str = "sd15", seed: int = 5) -> ControlNetModel:
    made = ControlNetModel.from_unet(unet(family, seed), conditioning_embedding_out_channels=(8, 8, 16, 16))
    torch.manual_seed(seed)
    for parameter in made.parameters():  # a fresh ControlNet adds nothing: its last convolutions are zero
        if not parameter.any():
            parameter.data.normal_(std=0.1)
    return made.eval()


def image_encoder(seed: int = 7) -> CLIPVisionModelWithProjection:
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=24,
    )
    return CLIPVisionModelWithProjection(config).eval()


def write_ip_adapter(path: Path, model: UNet2DConditionModel, tokens: int = 4) -> Path:
    width = model.config.cross_attention_dim
    torch.manual_seed(9)
    weights = {
        "image_proj.proj.weight": torch.randn(tokens * width, 24) * 0.2,
        "image_proj.proj.bias": torch.zeros(tokens * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    names = [name for name in model.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(names):
        hidden = model.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for which in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * number + 1}.{which}.weight"] = torch.randn(hidden, width) * 0.3
    save_file(weights, path)
    return path


def write_lora(path: Path, width: int = WIDTH, layer: str = "down_blocks_0_attentions_0", hidden: int = 32) -> Path:
    """A kohya file for one cross-attention of the SD 1.5 kind, and one layer of the text encoder."""
    torch.manual_seed(11)
    base = f"lora_unet_{layer}_transformer_blocks_0_attn2_to_k"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    weights = {}
    for name, wide, high in ((base, width, hidden), (text, WIDTH, WIDTH)):
        weights[f"{name}.lora_down.weight"] = torch.randn(2, wide)
        weights[f"{name}.lora_up.weight"] = torch.randn(high, 2)
        weights[f"{name}.alpha"] = torch.tensor(1.0)
    save_file(weights, path)
    return path
