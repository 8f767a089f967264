"""Tiny random video models, written to disk in the real formats."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

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
