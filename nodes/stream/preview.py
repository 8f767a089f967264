"""What an output node shows in the ComfyUI editor: files in its temporary folder."""

from __future__ import annotations

import os
import secrets
import wave
from typing import Any

import torch
from PIL import Image
from torch import Tensor

__all__ = ["preview_pictures", "preview_sound"]


def _temporary(width: int, height: int) -> tuple[str, str, int, str]:
    """Folder, file name stem, next number and subfolder; ComfyUI decides on them."""
    import folder_paths  # a module of the host: there is none until a node runs

    prefix = f"comfystream_{secrets.token_hex(3)}"
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_temp_directory(), width, height
    )
    return folder, name, counter, subfolder


def preview_pictures(images: Tensor) -> list[dict[str, str]]:
    """Write a batch [batch, height, width, 3 or 4] as PNG; returns what the editor needs to show it."""
    folder, name, counter, subfolder = _temporary(images.shape[2], images.shape[1])
    shown = []
    for index, pixels in enumerate(images.mul(255.0).clamp_(0, 255).to(torch.uint8).cpu().numpy()):
        file = f"{name}_{counter + index:05}_.png"
        Image.fromarray(pixels).save(os.path.join(folder, file), compress_level=1)
        shown.append({"filename": file, "subfolder": subfolder, "type": "temp"})
    return shown


def preview_sound(samples: Tensor, sample_rate: int) -> list[dict[str, Any]]:
    """Write int16 mono samples as WAV; returns what the editor needs to play it."""
    folder, name, counter, subfolder = _temporary(0, 0)
    file = f"{name}_{counter:05}_.wav"
    with wave.open(os.path.join(folder, file), "wb") as out:
        out.setparams((1, 2, sample_rate, samples.numel(), "NONE", ""))
        out.writeframes(samples.cpu().numpy().astype("<i2").tobytes())
    return [{"filename": file, "subfolder": subfolder, "type": "temp"}]
