"""From a node's tensor to a picture that encoders take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from comfystream.errors import MediaError
from comfystream.media.colour import Colour, colour_like, copy_tags, tag, yuv_matrix
from comfystream.media.planes import byte_planes, packed_plane
from comfystream.media.scale import Scaler

if TYPE_CHECKING:
    import torch

__all__ = ["ImageWriter", "first_picture", "opencv"]

_BLOCK_BYTES = 512 << 10  # float rows per step: what stays in the second-level cache between two operations


def opencv() -> Any | None:
    """The cv2 module, or None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


class ImageWriter:
    """Tensors to pictures; keeps its swscale context and memory. Owned by one thread at a time.

    Args:
        use_opencv: None takes OpenCV where it is installed (half the time); False works without.
    """

    def __init__(self, use_opencv: bool | None = None) -> None:
        self._cv2 = opencv() if use_opencv is not False else None
        if use_opencv and self._cv2 is None:
            raise MediaError("OpenCV is not installed", hint="pip install comfystream[opencv]")
        self._scaler = Scaler()
        self._block = np.empty(0, np.float32)

    def write(self, tensor: torch.Tensor, like: av.VideoFrame | None = None, format: str = "yuv420p") -> av.VideoFrame:
        """The first picture of a batch.

        Args:
            tensor: [B, H, W, C] or [H, W, C] with 1, 3 or 4 channels (alpha is dropped), any float type (0..1) or
                uint8, any device. Values outside are clamped, NaN is black, others are rounded to the nearest of 256.
            like: the input picture: its colour matrix, range, primaries and time are carried over. Without it BT.601 or
                BT.709 by size, limited range.
            format: "yuv420p" (any size; an odd one has a chroma sample for its last column or row) or "rgb24".
        """
        return self.write_array(_pixels(tensor), like, format)

    def write_array(
        self, pixels: NDArray[Any], like: av.VideoFrame | None = None, format: str = "yuv420p"
    ) -> av.VideoFrame:
        """As `write`, for an array [H, W, 1 or 3] of float32 (0..1) or uint8."""
        height, width, _ = pixels.shape
        colour = colour_like(like, width, height)
        if format == "rgb24":
            image = self._rgb(pixels)
        elif format != "yuv420p":
            raise ValueError(f"format must be yuv420p or rgb24, got {format}")
        elif self._cv2 is not None:
            image = self._yuv(pixels, colour)
        else:
            image = self._scaler.convert(self._rgb(pixels), "yuv420p", colour=colour)
        if like is not None:
            copy_tags(like, image)
        if format == "yuv420p":
            tag(image, colour)
        return image

    def _rgb(self, pixels: NDArray[Any]) -> av.VideoFrame:
        height, width, _ = pixels.shape
        image = av.VideoFrame(width, height, "rgb24")
        target = packed_plane(image, 3)
        for start in range(0, height, rows := self._rows(width)):
            block = slice(start, min(start + rows, height))
            self._quantise(pixels[block], target[block])
        return image

    def _yuv(self, pixels: NDArray[Any], colour: Colour) -> av.VideoFrame:
        """RGB to planes with OpenCV, a block of rows at a time; chroma is the mean of four pixels."""
        cv2: Any = self._cv2
        height, width, _ = pixels.shape
        even = width + width % 2
        image = av.VideoFrame(width, height, "yuv420p")
        luma, *chroma = byte_planes(image)
        rows = self._rows(width)
        rgb, yuv = np.empty((rows, even, 3), np.uint8), np.empty((rows, even, 3), np.uint8)
        half = np.empty((rows // 2, even // 2, 3), np.uint8)
        matrix = yuv_matrix(colour)
        for start in range(0, height, rows):
            count = min(rows, height - start)
            padded, at = count + count % 2, start // 2
            self._quantise(pixels[start : start + count], rgb[:count, :width])
            rgb[:count, width:] = rgb[:count, width - 1 : width]
            rgb[count:padded] = rgb[count - 1]
            cv2.transform(rgb[:padded], matrix, dst=yuv[:padded])
            small = half[: padded // 2]
            cv2.resize(yuv[:padded], (even // 2, padded // 2), dst=small, interpolation=cv2.INTER_AREA)
            cv2.extractChannel(yuv[:count, :width], 0, dst=luma[start : start + count])
            for channel, plane in enumerate(chroma, 1):
                cv2.extractChannel(small, channel, dst=plane[at : at + padded // 2])
        return image

    def _rows(self, width: int) -> int:
        return max(2, _BLOCK_BYTES // (width * 12) // 2 * 2)

    def _quantise(self, pixels: NDArray[Any], target: NDArray[Any]) -> None:
        """Float 0..1 (or uint8) to uint8; NaN is 0."""
        if pixels.dtype == np.uint8:
            target[...] = pixels
            return
        size = pixels.size
        if self._block.size < size:
            self._block = np.empty(size, np.float32)
        block = self._block[:size].reshape(pixels.shape)
        if self._cv2 is not None and pixels.shape == target.shape and target.flags.c_contiguous:
            np.clip(pixels, np.float32(0), np.float32(1), out=block)
            self._cv2.convertScaleAbs(block, dst=target, alpha=255)  # rounds to nearest; NaN becomes 0
            return
        np.multiply(pixels, np.float32(255), out=block)
        np.add(block, np.float32(0.5), out=block)
        np.clip(block, np.float32(0), np.float32(255), out=block)
        with np.errstate(invalid="ignore"):
            np.copyto(target, block, casting="unsafe")


def first_picture(tensor: torch.Tensor) -> torch.Tensor:
    """The first picture of a batch as [H, W, 1 or 3], on its device.

    Raises:
        MediaError: the tensor is no picture.
    """
    picture = tensor.detach()
    if picture.dim() == 4 and picture.shape[0]:
        picture = picture[0]
    if picture.dim() != 3 or picture.shape[-1] not in (1, 3, 4) or not picture.numel():
        raise MediaError(
            f"a picture must be [batch, height, width, 1, 3 or 4 channels], got {list(tensor.shape)}",
            code="not_a_picture",
            hint="connect an IMAGE output here",
        )
    return picture[..., :3]


def _pixels(tensor: torch.Tensor) -> NDArray[Any]:
    """First picture as a numpy array [H, W, 1 or 3], float32 or uint8, on the CPU."""
    import torch

    picture = first_picture(tensor)
    if picture.device.type != "cpu" and picture.is_floating_point():  # a quarter of the bytes to carry over
        picture = picture.float().nan_to_num(0.0, 1.0, 0.0).clamp(0, 1).mul(255).add_(0.5).to(torch.uint8)
    if picture.dtype not in (torch.float32, torch.uint8):
        picture = picture.float()
    return picture.cpu().numpy()
