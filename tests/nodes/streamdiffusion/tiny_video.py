"""Tiny random video models, written to disk in the real formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from comfystream_nodes.streamdiffusion.video.tae import TinyVideoAutoencoder

TEXT_WIDTH, TOKENS = 24, 16


def transformer(seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": TEXT_WIDTH,
        "freq_dim": 32,
        "ffn_dim": 48,
        "num_layers": 2,
        "rope_max_seq_len": 64,
        **more,
    }
    made = WanTransformer3DModel(**config).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if "norm" in name:  # all ones, so that a wrong place would not show
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        elif "bias" in name:
            parameter.data.normal_(std=0.1)
    made.scale_shift_table.data.mul_(0.5)
    return made


def wan_vae(seed: int = 0, base: int = 4) -> Any:
    torch.manual_seed(seed)
    made = AutoencoderKLWan(base_dim=base).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if name.endswith("gamma"):
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return made


def tae(seed: int = 0) -> TinyVideoAutoencoder:
    torch.manual_seed(seed)
    made = TinyVideoAutoencoder(6, (8, 6, 5, 4)).eval().requires_grad_(False)
    last = made.decoder[22]
    last.weight.mul_(8.0)  # a random one gives nearly black pictures, in which 8 bits show no difference
    last.bias.fill_(0.5)
    return made


def text_encoder(seed: int = 1) -> Any:
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=len(WORDS), d_model=TEXT_WIDTH, d_kv=6, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    made = UMT5EncoderModel(config).eval().requires_grad_(False)
    made.shared.weight.normal_(std=1.0)
    return made


WORDS = ["<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in ("a", "cat", "dog", "of", "brass", "&", "in"))]


def write_tokenizer(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words = Tokenizer(models.Unigram([(word, -1.0) for word in WORDS], unk_id=2))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    fast.save_pretrained(str(folder))
    return folder


def write_folder(folder: Path, kind: str = "wan") -> Path:
    """A model as diffusers saves it; with "tae", the tiny autoencoder's file is `tae.pth`."""
    transformer().save_pretrained(folder / "transformer")
    vae = wan_vae()
    vae.decoder.conv_out.weight.mul_(20.0)
    vae.save_pretrained(folder / "vae")
    torch.save(tae().state_dict(), folder / "tae.pth")
    text_encoder().save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    return folder


def original(weights: Mapping[str, Tensor], pairs: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Tensors under the names of Wan's own files."""
    made = {}
    for name, value in weights.items():
        theirs, ours = next((pair for pair in pairs if name.startswith(pair[1])), ("", ""))
        made[theirs + name[len(ours) :]] = value
    return made


def write_lora(
    path: Path, name: str = "blocks.1.self_attn.q", width: int = 24, prefix: str = "diffusion_model."
) -> Path:
    torch.manual_seed(11)
    save_file(
        {
            f"{prefix}{name}.lora_A.weight": torch.randn(2, width),
            f"{prefix}{name}.lora_B.weight": torch.randn(width, 2),
        },
        path,
    )
    return path
