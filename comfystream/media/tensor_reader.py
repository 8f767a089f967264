"""From a decoded picture to the tensor that ComfyUI's nodes work on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import av
import numpy as np
from numpy.typing import NDArray

from comfystream.media.colour import Colour, colour_of
from comfystream.media.planes import packed_plane
from comfystream.media.scale import Scaler

if TYPE_CHECKING:
    import torch

__all__ = ["FloatPool", "TensorReader"]


class FloatPool:
    """Float32 arrays that are used again once nobody else holds them.

    A new array of some megabytes costs a page fault per 4 KiB, which is more than the conversion itself. An array whose
    memory a tensor shares is held by that tensor's storage, so its reference count says whether it is free; a node that
    keeps a picture keeps its array out of the pool. Owned by one thread; others may only let go.
    """

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        self._arrays: list[NDArray[np.float32]] = []

    def take(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """An array of that shape with arbitrary content."""
        for array in self._arrays:
            if array.shape == shape and sys.getrefcount(array) <= 3:  # the list, this name, the argument
                return array
        array = np.empty(shape, np.float32)
        self._arrays = [*self._arrays, array][-self._keep :]
        return array


class TensorReader:
    """Pictures to tensors; keeps its swscale context and memory. Owned by one thread at a time."""

    def __init__(self) -> None:
        import torch

        self._from_numpy = torch.from_numpy
        self._scaler = Scaler()
        self._pool = FloatPool()

    def read(self, image: av.VideoFrame) -> torch.Tensor:
        """The picture as float32 [1, H, W, 3], RGB, 0..1, on the CPU; alpha is dropped.

        8-bit values come out as exactly value / 255, deeper ones as value / 65535 of their 16-bit RGB. The tensor is
        the caller's: it is never written to again while anything holds it.
        """
        deep = max(component.bits for component in image.format.components) > 8
        packed = self._scaler.convert(
            image, "rgb48le" if deep else "rgb24", colour=Colour(colour_of(image).matrix, full=True)
        )
        pixels = packed_plane(packed, 3, np.uint16 if deep else np.uint8)
        out = self._pool.take((1, *pixels.shape))
        np.divide(pixels, np.float32(65535 if deep else 255), out=out[0], dtype=np.float32, casting="unsafe")
        return self._from_numpy(out)
