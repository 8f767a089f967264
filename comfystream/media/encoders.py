"""H.264 encoders for live pictures, the fastest one of this machine that really works."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import av.error
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from comfystream.errors import MediaError
from comfystream.media.mpegts.unit import CLOCK
from comfystream.media.planes import byte_planes

__all__ = ["ENCODERS", "EncoderKind", "bitrate_for", "choose_encoder", "open_encoder", "prove"]

_FPS = 30  # what rate control reckons with
_NO_PERIODIC_KEYS = 3000
_BITS_PER_PIXEL = 0.12
_LEAST_BITRATE, _MOST_BITRATE = 200_000, 20_000_000
_SMALL, _MIDDLE = 640 * 640, 1280 * 720  # pixels
_PROOF_SIZE, _PROOF_PICTURES = (256, 256), 4


@dataclass(frozen=True, slots=True)
class EncoderKind:
    """How an encoder is set up so that each picture comes out before the next one goes in.

    Attributes:
        name: FFmpeg's.
        format: pixel format that it takes.
        options: its own.
        profile: of H.264; None = its default.
    """

    name: str
    format: str
    options: Mapping[str, str]
    profile: str | None = None


_X264 = {"tune": "zerolatency", "forced-idr": "1"}
_NVENC = {"preset": "p3", "tune": "ull", "zerolatency": "1", "delay": "0", "rc": "cbr", "forced-idr": "1"}
_AMF = {"usage": "ultralowlatency", "quality": "speed", "forced_idr": "1"}
ENCODERS: Mapping[str, EncoderKind] = {
    kind.name: kind
    for kind in (
        EncoderKind("h264_nvenc", "yuv420p", _NVENC),
        EncoderKind("h264_videotoolbox", "yuv420p", {"realtime": "1", "prio_speed": "1", "allow_sw": "0"}),
        EncoderKind("h264_qsv", "nv12", {"preset": "veryfast", "async_depth": "1", "forced_idr": "1"}),
        EncoderKind("h264_amf", "nv12", _AMF),
        EncoderKind("h264_vaapi", "nv12", {"async_depth": "1"}),
        EncoderKind("libx264", "yuv420p", _X264, "Baseline"),
    )
}


def bitrate_for(width: int, height: int) -> int:
    """Bits per second that pictures of this size are given: 0.94 Mbit/s for 512x512, 3.3 for 1280x720."""
    return round(min(_MOST_BITRATE, max(_LEAST_BITRATE, width * height * _FPS * _BITS_PER_PIXEL)))


def open_encoder(name: str, size: tuple[int, int], bitrate: int) -> VideoCodecContext:
    """An encoder with times in 1/90000 s and key frames only where they are asked for.

    Args:
        name: one of `ENCODERS`.
        size: width and height, even.
        bitrate: bits per second to aim at.

    Raises:
        MediaError: FFmpeg was built without it.
    """
    kind = ENCODERS[name]
    try:
        context = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
    except (av.error.FFmpegError, ValueError) as error:  # UnknownCodecError is a ValueError
        raise MediaError(f"this FFmpeg has no {name}", code="no_encoder") from error
    context.width, context.height = size
    context.pix_fmt = kind.format
    context.bit_rate = bitrate
    context.framerate, context.time_base = Fraction(_FPS), CLOCK
    context.gop_size, context.max_b_frames = _NO_PERIODIC_KEYS, 0
    context.options = {**kind.options, "maxrate": str(bitrate * 3 // 2), "bufsize": str(bitrate // 2)}
    if name == "libx264":
        pixels = size[0] * size[1]
        context.options["preset"] = "superfast" if pixels <= _SMALL else "ultrafast"
        context.thread_count = _threads(pixels)
    if kind.profile is not None:
        context.profile = kind.profile
    return context


def _threads(pixels: int) -> int:
    """Slices of one picture side by side: they shorten its way but cost more in all."""
    most = max(1, (os.cpu_count() or 1) // 2)
    return min(most, 1 if pixels <= _SMALL else 2 if pixels <= _MIDDLE else 4)


def choose_encoder(wanted: str | None = None) -> str:
    """The encoder to use: the one that is asked for, or the first of `ENCODERS` that is proved to work.

    Args:
        wanted: a name of `ENCODERS`; None or "auto" = any.

    Raises:
        MediaError: the one that is asked for is not known or does not work here.
    """
    if wanted is None or wanted == "auto":
        return _best()
    if wanted not in ENCODERS:
        raise MediaError(
            f'"{wanted}" is no H.264 encoder that is known here',
            code="no_encoder",
            hint=f"use one of {', '.join(ENCODERS)}, or auto",
        )
    reason = prove(wanted)
    if reason:
        raise MediaError(f"{wanted} does not work on this machine: {reason}", code="no_encoder", hint="use auto")
    return wanted


@functools.cache
def _best() -> str:
    for name in ENCODERS:
        if not prove(name):
            return name
    raise MediaError("no H.264 encoder works on this machine", code="no_encoder", hint="install PyAV with libx264")


@functools.cache
def prove(name: str) -> str:
    """Encode pictures and decode them again: empty when each came out at once and the forced key frame is one.

    The answer is kept for the life of the process.
    """
    try:
        context = open_encoder(name, _PROOF_SIZE, bitrate_for(*_PROOF_SIZE))
        decoder = av.CodecContext.create("h264", "r")
        shown = 0
        for number in range(_PROOF_PICTURES):
            packets = context.encode(_proof_picture(name, number))
            if not packets:
                return "it holds pictures back"
            if number == _PROOF_PICTURES - 1 and not packets[0].is_keyframe:
                return "it makes no key frame when it is asked to"
            shown += sum(len(decoder.decode(packet)) for packet in packets)
        shown += len(decoder.decode(None))
    except (MediaError, av.error.FFmpegError, ValueError, OSError) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "" if shown == _PROOF_PICTURES else f"{_PROOF_PICTURES} pictures went in, {shown} came out"


def _proof_picture(name: str, number: int) -> av.VideoFrame:
    image = av.VideoFrame(*_PROOF_SIZE, "yuv420p")
    for plane in byte_planes(image):
        plane[...] = 64 + 32 * number
    if ENCODERS[name].format != "yuv420p":
        image = image.reformat(format=ENCODERS[name].format)
    image.pts, image.time_base = number * 3000, CLOCK
    image.pict_type = PictureType.I if number in (0, _PROOF_PICTURES - 1) else PictureType.NONE
    return image
