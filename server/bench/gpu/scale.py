"""Architectures of the workloads: the published ones, and tiny ones that show on a processor that all of it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["REAL", "TINY", "Scale"]

SD15: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD_TURBO: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SDXL: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
DEPTH_S: dict[str, Any] = {
    "inner": {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12, "out_indices": [3, 6, 9, 12]},
    "outer": {"reassemble_hidden_size": 384, "neck_hidden_sizes": [48, 96, 192, 384], "fusion_hidden_size": 64},
}
DEPTH_L: dict[str, Any] = {
    "inner": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24, "out_indices": [5, 12, 18, 24]},
    "outer": {"reassemble_hidden_size": 1024, "neck_hidden_sizes": [256, 512, 1024, 1024], "fusion_hidden_size": 256},
}

WAN_1_3B: dict[str, Any] = {
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 8960,
    "num_layers": 30,
}


def _whisper(width: int, layers: int, heads: int) -> dict[str, Any]:
    both = {"layers": layers, "attention_heads": heads, "ffn_dim": 4 * width}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in both.items()}
    return {"d_model": width, "vocab_size": 51865, **sides}


_TINY_UNET: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
}
_TINY_XL: dict[str, Any] = {
    **_TINY_UNET,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}
_TINY_DEPTH: dict[str, Any] = {
    "inner": {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 4,
        "out_indices": [1, 2, 3, 4],
        "image_size": 28,
    },
    "outer": {
        "reassemble_hidden_size": 32,
        "neck_hidden_sizes": [8, 8, 16, 16],
        "fusion_hidden_size": 8,
        "head_hidden_size": 8,
    },
}


_TINY_WAN: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 24,
    "freq_dim": 32,
    "ffn_dim": 48,
    "num_layers": 2,
}
_TINY_WHISPER: dict[str, Any] = {**_whisper(16, 1, 2), "vocab_size": 64, "num_mel_bins": 8, "max_source_positions": 24}
_TINY_WHISPER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the models of all workloads are.

    Attributes:
        name: "real" or "tiny".
        unets: by family: what diffusers' UNet2DConditionModel is made with.
        side: of the pictures that "512" stands for.
        large_side: of those that "1024" stands for.
        taesd_width: channels inside the tiny autoencoder.
        depths: by size of the model: what transformers' configurations are made with.
        depth_side: of the square that a depth model looks at.
        upscaler: (channels, convolutions) of the SRVGG, and (channels, inner channels) of the FSRCNN.
        picture_width: of the embedding of a style picture.
        video: what diffusers' WanTransformer3DModel is made with.
        video_tokens: of its prompts.
        wide: (width, height) that "832 x 480" stands for.
        wan_width: channels inside Wan's autoencoder.
        tae_widths: channels inside the tiny one, of the encoder, and of the decoder's layers.
        whispers: by size: what transformers' WhisperConfig is made with.
        control_widths: channels of the layers that look at a control picture.
    """

    name: str
    unets: Mapping[str, Mapping[str, Any]]
    side: int
    large_side: int
    taesd_width: int
    depths: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    depth_side: int = 518
    upscaler: tuple[tuple[int, int], tuple[int, int]] = ((64, 16), (56, 12))
    picture_width: int = 1024
    control_widths: tuple[int, ...] = (16, 32, 96, 256)
    video: Mapping[str, Any] = field(default_factory=lambda: WAN_1_3B)
    video_tokens: int = 512
    wide: tuple[int, int] = (832, 480)
    wan_width: int = 96
    tae_widths: tuple[int, tuple[int, int, int, int]] = (64, (256, 128, 64, 64))
    whispers: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"tiny": _whisper(384, 4, 6), "base": _whisper(512, 6, 8)}
    )


REAL = Scale(
    "real",
    {"sd15": SD15, "sd21": SD_TURBO, "sdxl": SDXL},
    512,
    1024,
    64,
    {"small": DEPTH_S, "large": DEPTH_L},
)
TINY = Scale(
    "tiny",
    {"sd15": _TINY_UNET, "sd21": _TINY_UNET, "sdxl": _TINY_XL},
    64,
    128,
    8,
    {"small": _TINY_DEPTH, "large": _TINY_DEPTH},
    56,
    ((8, 2), (8, 4)),
    24,
    (8, 8, 16, 16),
    _TINY_WAN,
    16,
    (96, 64),
    4,
    (6, (8, 6, 5, 4)),
    {"tiny": _TINY_WHISPER, "base": _TINY_WHISPER},
)
