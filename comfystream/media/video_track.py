"""The pictures of a file that is being written."""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import Any, cast

import av
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from comfystream.clock import rescale
from comfystream.frames import VideoFrame
from comfystream.media.colour import Colour, colour_of
from comfystream.media.reference import Referencer
from comfystream.media.scale import Scaler, SizeMode, pad_even

__all__ = ["VideoTrack"]

_LOG = logging.getLogger(__name__)
_FINEST = Fraction(1, 90_000)  # MP4's clock is 32 bits per frame: finer bases are rounded to this


class VideoTrack:
    """Encodes pictures of one size with the times that they carry.

    Args:
        container: where packets will go.
        codec, options: encoder and its settings.
        first: the first picture: its size (made even by repeating the last column or row), colour and time base.
        fps: for the encoder's rate control.
        sample_aspect: width of a pixel over its height.
        threads: of the encoder; 0 = its choice.
        key_every_s: media seconds from one key frame to the next; None leaves it to the encoder.
    """

    def __init__(
        self,
        container: OutputContainer,
        codec: str,
        options: dict[str, str],
        first: VideoFrame,
        *,
        fps: Fraction,
        sample_aspect: Fraction = Fraction(1),
        threads: int = 0,
        key_every_s: int | None = None,
    ) -> None:
        self._key_every_s = key_every_s
        self._next_key_s = Fraction(0)
        self._scaler = Scaler()
        self._referencer = Referencer()
        image = self._planar(first.image)
        self._size = (image.width, image.height)
        self._base = max(first.time_base, _FINEST)
        self._last: int | None = None
        self._warned = False
        self.count = 0
        stream = cast(VideoStream, container.add_stream(codec, rate=fps.limit_denominator(65535), options=options))
        context: Any = stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt = "yuv420p"
        context.time_base = stream.time_base = self._base
        context.thread_count = threads
        context.sample_aspect_ratio = sample_aspect
        self._tag(context, image)
        self._stream = stream

    @property
    def reached(self) -> Fraction:
        """Media time in seconds of the last picture."""
        return (self._last or 0) * self._base

    def encode(self, frame: VideoFrame) -> list[Any]:
        """Packets that are ready."""
        image = self._fitting(frame.image)
        picture = self._referencer.refer(image)
        pts = rescale(frame.pts, frame.time_base, self._base)
        self._last = pts if self._last is None else max(pts, self._last + 1)
        picture.pts, picture.time_base = self._last, self._base
        if self._key_every_s is not None and self.reached >= self._next_key_s:
            picture.pict_type = PictureType.I
            self._next_key_s = self.reached + self._key_every_s
        self.count += 1
        return list(self._stream.encode(picture))

    def flush(self) -> list[Any]:
        """The rest of the packets."""
        return list(self._stream.encode(None))

    def _tag(self, context: Any, image: av.VideoFrame) -> None:
        self._colour: Colour = colour_of(image)
        context.colorspace, context.color_range = self._colour.tags
        for name in ("color_primaries", "color_trc"):
            if hasattr(image, name):  # PyAV before 16 has neither on frames
                setattr(context, name, int(getattr(image, name)))

    def _planar(self, image: av.VideoFrame) -> av.VideoFrame:
        return pad_even(self._scaler.convert(image, "yuv420p"))

    def _fitting(self, image: av.VideoFrame) -> av.VideoFrame:
        planar = self._planar(image)
        if (planar.width, planar.height) == self._size:
            return planar
        if not self._warned:
            size, new = (f"{w}x{h}" for w, h in (self._size, (planar.width, planar.height)))
            _LOG.warning("pictures changed from %s to %s; they are fitted into %s", size, new, size)
            self._warned = True
        return self._scaler.resize(planar, self._size, SizeMode.FIT)
