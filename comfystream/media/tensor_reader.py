"""From a decoded picture to the tensor that ComfyUI's nodes work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np

from comfystream.media.colour import Colour, colour_of
from comfystream.media.planes import packed_plane
from comfystream.media.scale import Scaler

if TYPE_CHECKING:
    import torch

__all__ = ["TensorReader"]


class TensorReader:
    """Pictures to tensors; keeps its swscale context. Owned by one thread at a time.

    Each tensor has memory of its own: reusing it measured no faster, and nodes may keep what they get.
    """

    def __init__(self) -> None:
        import torch

        self._from_numpy = torch.from_numpy
        self._scaler = Scaler()

    def read(self, image: av.VideoFrame) -> torch.Tensor:
        """The picture as float32 [1, H, W, 3], RGB, 0..1, on the CPU; alpha is dropped.

        8-bit values come out as exactly value / 255, deeper ones as value / 65535 of their 16-bit RGB.
        """
        deep = max(component.bits for component in image.format.components) > 8
        if deep and image.width % 2 and not image.format.is_rgb:
            # swscale 9 puts chroma of 4:2:0 in the wrong places on its straight way from an odd width to rgb48
            image = self._scaler.convert(image, "yuv444p16le")
        packed = self._scaler.convert(
            image, "rgb48le" if deep else "rgb24", colour=Colour(colour_of(image).matrix, full=True)
        )
        pixels = packed_plane(packed, 3, np.uint16 if deep else np.uint8)
        out = np.empty((1, *pixels.shape), np.float32)
        np.divide(pixels, np.float32(65535 if deep else 255), out=out[0], dtype=np.float32, casting="unsafe")
        return self._from_numpy(out)

    def close(self) -> None:
        """Nothing is held."""
