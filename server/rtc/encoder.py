"""Pictures to VP8 or H.264, one at a time, each ready to be sent when the call returns."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from comfystream.media.planes import byte_planes
from comfystream.media.scale import Scaler

from .bitrate import range_for

__all__ = ["RTP_VIDEO", "VideoEncoder"]

RTP_VIDEO = Fraction(1, 90_000)  # the clock of video over RTP (RFC 6184 5.1, RFC 7741 4.1)

_SMALL = 640 * 640  # pixels
_FPS = 30  # what rate control reckons with
_NO_PERIODIC_KEYS = 3000  # key frames come when somebody needs one
_RENEW = 0.15  # a bitrate that is off by more than this share is worth a new VP8 encoder (and its key frame)


class VideoEncoder:
    """An encoder that follows picture size and bitrate; owned by one thread at a time.

    Args:
        codec: "VP8" or "H264".
    """

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self._open = _open_h264 if codec == "H264" else _open_vp8
        self._context: VideoCodecContext | None = None
        self._scaler = Scaler()

    def encode(self, image: av.VideoFrame, pts: int, bitrate: int, *, is_key: bool = False) -> av.Packet[Any]:
        """Encode one picture.

        Args:
            image: any size and pixel format; it is not changed.
            pts: media time in 1/90000 s, more than that of the picture before.
            bitrate: bits per second to aim at.
            is_key: make it a picture that a viewer can begin with. The first one is, and the first of a new size.
        """
        picture = self._picture(image, pts)
        context = self._fit((picture.width, picture.height), bitrate)
        picture.pict_type = PictureType.I if is_key else PictureType.NONE
        packets = context.encode(picture)
        packet = packets[0] if len(packets) == 1 else av.Packet(b"".join(map(bytes, packets)))
        packet.pts, packet.time_base = pts, RTP_VIDEO
        return packet

    def _picture(self, image: av.VideoFrame, pts: int) -> av.VideoFrame:
        """A yuv420p picture of even size that is ours: others may hold `image`, and encoders write to its times."""
        picture = self._scaler.convert(image, "yuv420p", (max(2, image.width & ~1), max(2, image.height & ~1)))
        if picture is image:
            picture = av.VideoFrame(image.width, image.height, "yuv420p")
            for mine, theirs in zip(byte_planes(picture), byte_planes(image), strict=True):
                np.copyto(mine, theirs)
        picture.pts, picture.time_base = pts, RTP_VIDEO
        return picture

    def _fit(self, size: tuple[int, int], bitrate: int) -> VideoCodecContext:
        context = self._context
        if context is not None and (context.width, context.height) == size:
            if self.codec == "H264":
                _set_rate(context, bitrate)  # libx264 takes it with the next picture
                return context
            if abs(bitrate - (context.bit_rate or 0)) <= _RENEW * bitrate:
                return context
        self._context = context = self._open(size, bitrate)
        return context


def _set_rate(context: VideoCodecContext, bitrate: int) -> None:
    if context.bit_rate != bitrate:
        context.bit_rate = bitrate


def _new(name: str, size: tuple[int, int], bitrate: int, options: dict[str, str]) -> VideoCodecContext:
    context = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.bit_rate = bitrate
    context.framerate, context.time_base = Fraction(_FPS), RTP_VIDEO
    context.gop_size = _NO_PERIODIC_KEYS
    context.options = options
    return context


def _open_h264(size: tuple[int, int], bitrate: int) -> VideoCodecContext:
    """Without `forced-idr` a picture on demand would not be one that a late viewer can begin with.

    libx264 takes another bitrate while it runs only when it keeps a buffer model (`bufsize`): here of half a second at
    the most that such a picture is ever given.
    """
    preset = "superfast" if size[0] * size[1] <= _SMALL else "ultrafast"
    options = {"preset": preset, "tune": "zerolatency", "forced-idr": "1"}
    most = max(bitrate, range_for(*size).most)
    options |= {"maxrate": str(most), "bufsize": str(most // 2)}
    context = _new("libx264", size, bitrate, options)
    context.profile = "Baseline"
    context.thread_count = _threads(size)
    return context


def _open_vp8(size: tuple[int, int], bitrate: int) -> VideoCodecContext:
    """Constant bitrate with a second of buffer, as libwebrtc does it; in real time, one picture in, one out."""
    rate = str(bitrate)
    options = {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", "error-resilient": "0"}
    options |= {"minrate": rate, "maxrate": rate, "bufsize": rate, "undershoot-pct": "100", "overshoot-pct": "15"}
    context = _new("libvpx", size, bitrate, options | {"static-thresh": "1", "noise-sensitivity": "0"})
    context.qmin, context.qmax = 2, 56
    context.thread_count = _threads(size)
    return context


def _threads(size: tuple[int, int]) -> int:
    """A second thread costs more than it saves on small pictures and on machines with few cores."""
    most = max(1, (os.cpu_count() or 1) // 2)
    return min(most, 1 if size[0] * size[1] <= _SMALL else 2 if size[0] * size[1] <= 1280 * 960 else 4)
