"""Models small enough to compile and export in a test, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from comfystream.accel.spec import Axis, ModelSpec, TensorSpec

__all__ = ["BATCH", "PAIR", "Pair", "tiny_depth", "tiny_unet"]

BATCH = Axis("batch", 1, 2, 4)
PAIR = ModelSpec(
    "pair",
    (TensorSpec("picture", "float32", (BATCH, 3, 8, 8)), TensorSpec("strength", "float32", (BATCH,))),
    ("mixed", "mean"),
)


class Pair(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, picture: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        mixed = self.layer(picture) * strength[:, None, None, None]
        return mixed, mixed.mean(dim=(2, 3))


def tiny_unet(**options: Any) -> Any:
    """diffusers' UNet with two levels and 0.3 million weights."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    given: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**given, **options}).eval()


def tiny_depth() -> Any:
    """Depth Anything with four small layers."""
    import transformers

    torch.manual_seed(0)
    inner = transformers.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=inner,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        patch_size=14,
    )
    model = transformers.DepthAnythingForDepthEstimation(config).eval()
    for parameter in model.parameters():  # as they come, the depth is zero everywhere
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.4 / parameter[0].numel() ** 0.5)
    return model
