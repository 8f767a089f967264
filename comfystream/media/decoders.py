"""Decoding on an NVIDIA GPU (NVDEC), where it is proved to work. Pictures come to the host's memory, as nv12."""

from __future__ import annotations

import functools
from fractions import Fraction

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from comfystream.errors import MediaError
from comfystream.media.planes import byte_planes

__all__ = ["DECODERS", "accelerator", "choose_decoder", "prove_nvdec"]

DECODERS = ("auto", "software", "nvdec")
_SIZE, _PICTURES = (256, 256), 4


def choose_decoder(wanted: str) -> str:
    """What to decode with: "software" or "nvdec".

    Args:
        wanted: one of `DECODERS`; "auto" takes NVDEC where it is proved to work.

    Raises:
        MediaError: "nvdec", and it does not work here.
    """
    if wanted not in DECODERS:
        raise MediaError(f'"{wanted}" is no decoder', code="no_decoder", hint=f"use one of {', '.join(DECODERS)}")
    if wanted == "software":
        return wanted
    reason = prove_nvdec()
    if reason and wanted == "nvdec":
        raise MediaError(f"NVDEC does not work on this machine: {reason}", code="no_decoder", hint="use auto")
    return "software" if reason else "nvdec"


def accelerator(wanted: str) -> HWAccel | None:
    """What `av.open` takes as `hwaccel`; None for software.

    With "auto", streams of a codec that the GPU does not know are decoded in software; with "nvdec" they are an error.

    Raises:
        MediaError: see `choose_decoder`.
    """
    if choose_decoder(wanted) == "software":
        return None
    return HWAccel("cuda", allow_software_fallback=wanted == "auto")


@functools.cache
def prove_nvdec() -> str:
    """Encode pictures in software and decode them on the GPU: empty when all came out as they went in, else why not.

    The answer is kept for the life of the process.
    """
    try:
        decoder = _hardware()
        shown = [image for packet in _proof() for image in decoder.decode(packet)]
        shown += decoder.decode(None)
        if not decoder.is_hwaccel:
            return "FFmpeg decodes in software"
        lumas = [int(byte_planes(image.reformat(format="yuv420p"))[0][128, 128]) for image in shown]
    except PermissionError:  # what FFmpeg's CUDA gives without a driver
        return "FFmpeg finds no NVIDIA driver"
    except (av.error.FFmpegError, NotImplementedError, ValueError, OSError) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    if [abs(luma - _luma(number)) <= 4 for number, luma in enumerate(lumas)] != [True] * _PICTURES:
        return f"{_PICTURES} pictures went in, other ones came out"
    return ""


def _hardware() -> VideoCodecContext:
    accel = HWAccel("cuda", allow_software_fallback=False)
    return av.CodecContext.create("h264", "r", hwaccel=accel)


def _proof() -> list[av.Packet[VideoStream]]:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = *_SIZE, "yuv420p"
    encoder.time_base = Fraction(1, 30)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
    packets = []
    for number in range(_PICTURES):
        image = av.VideoFrame(*_SIZE, "yuv420p")
        for plane, value in zip(byte_planes(image), (_luma(number), 128, 128), strict=True):
            plane[...] = value
        image.pts, image.time_base = number, encoder.time_base
        packets += encoder.encode(image)
    return packets + encoder.encode(None)


def _luma(number: int) -> int:
    return 64 + 32 * number
