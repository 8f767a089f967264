"""Pictures and settings for streams."""

from __future__ import annotations

import torch

from comfystream_nodes.streamdiffusion.settings import StreamSettings


def picture(seed: int = 0, side: int = 64) -> torch.Tensor:
    return torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(seed))


def settings_for(model, text: str = "a cat", **more) -> StreamSettings:
    return StreamSettings(prompt=model.prompts.encode(text), negative=model.prompts.encode("blurry"), **more)
