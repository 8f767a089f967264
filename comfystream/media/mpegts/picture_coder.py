"""Pictures to H.264 in Annex B form, one in, one out."""

from __future__ import annotations

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from comfystream.media.encoders import ENCODERS, bitrate_for, choose_encoder, open_encoder
from comfystream.media.mpegts.nal import with_delimiter
from comfystream.media.mpegts.unit import CLOCK
from comfystream.media.planes import byte_planes
from comfystream.media.scale import Scaler

__all__ = ["PictureCoder", "even_size"]


def even_size(image: av.VideoFrame) -> tuple[int, int]:
    """The size that a picture is encoded at."""
    return max(2, image.width & ~1), max(2, image.height & ~1)


class PictureCoder:
    """An encoder that follows the size of the pictures; owned by one thread at a time.

    Args:
        encoder: a name of `comfystream.media.encoders.ENCODERS`; None = the best that works.
        bitrate: bits per second; None = by size.
    """

    def __init__(self, encoder: str | None = None, bitrate: int | None = None) -> None:
        self.name = choose_encoder(encoder)
        self._format = ENCODERS[self.name].format
        self._bitrate = bitrate
        self._context: VideoCodecContext | None = None
        self._scaler = Scaler()

    @property
    def size(self) -> tuple[int, int] | None:
        """Of the picture before."""
        return None if self._context is None else (self._context.width, self._context.height)

    def renew(self) -> None:
        """Go on with a new encoder."""
        self._context = None

    def encode(self, image: av.VideoFrame, pts: int, *, is_key: bool) -> bytes:
        """One picture.

        Args:
            image: any size and pixel format; it is not changed.
            pts: in 1/90000 s, more than that of the picture before.
            is_key: make it an IDR picture with parameter sets; the first of a new size is one anyway.
        """
        size = even_size(image)
        if self._context is None or self.size != size:
            self._context = open_encoder(self.name, size, self._bitrate or bitrate_for(*size))
        picture = self._picture(image, size)
        picture.pts, picture.time_base = pts, CLOCK
        picture.pict_type = PictureType.I if is_key else PictureType.NONE
        return with_delimiter(b"".join(map(bytes, self._context.encode(picture))))

    def _picture(self, image: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
        """A picture that is ours: others may hold `image`, and encoders write to its times."""
        picture = self._scaler.convert(image, self._format, size)
        if picture is not image:
            return picture
        copy = av.VideoFrame(image.width, image.height, self._format)
        for mine, theirs in zip(byte_planes(copy), byte_planes(image), strict=True):
            np.copyto(mine, theirs)
        copy.colorspace, copy.color_range = image.colorspace, image.color_range
        return copy
