"""Pictures to tensors and back.

`TensorReader` and `ImageWriter` keep what they need between frames: one of each per lane. The functions here make a
new one per call and are for the odd picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfystream.media.image_writer import ImageWriter
from comfystream.media.tensor_reader import TensorReader

if TYPE_CHECKING:
    import av
    import torch

__all__ = ["ImageWriter", "TensorReader", "to_image", "to_tensor"]


def to_tensor(image: av.VideoFrame) -> torch.Tensor:
    """A picture as float32 [1, H, W, 3], RGB, 0..1, on the CPU."""
    return TensorReader().read(image)


def to_image(tensor: torch.Tensor, like: av.VideoFrame | None = None, format: str = "yuv420p") -> av.VideoFrame:
    """The first picture of [B, H, W, C] in 0..1 as yuv420p (or rgb24), with the colour and time of `like`."""
    return ImageWriter().write(tensor, like, format)
