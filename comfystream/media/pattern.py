"""A test picture with a number that survives encoding, and a beep with each flash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from comfystream.frames import AudioFrame, Stamps, VideoFrame
from comfystream.media.planes import byte_planes
from comfystream.media.scale import Scaler
from comfystream.media.source import AudioInfo, SourceInfo, VideoInfo

__all__ = ["PatternSource", "draw_pattern", "read_counter", "tone"]

_BITS = 16
_BAND = 16  # the counter takes two bands of 1/16 of the height, the second one inverted
_DARK, _LIGHT = 32, 220
_BEEP_S, _BEEP_HZ, _HUM_HZ = 0.1, 1000.0, 220.0


def draw_pattern(width: int, height: int, number: int, *, flash: bool = False) -> av.VideoFrame:
    """Moving stripes under a counter, as yuv420p.

    Args:
        width, height: any size; the counter can be read from 64 pixels of width on.
        number: shown as its lowest 16 bits: a row of light and dark blocks at the top, and the inverse below.
        flash: the lower half is white.
    """
    image = av.VideoFrame(width, height, "yuv420p")
    luma, cb, cr = byte_planes(image)
    luma[...] = 40 + (np.arange(width) + 3 * number) % 160
    cb[...] = 128 + 60 * np.sin((np.arange(cb.shape[1]) + 2 * number) / 40)
    cr[...] = (128 + 60 * np.cos((np.arange(cr.shape[0]) + number) / 30))[:, None]
    if flash:
        luma[height // 2 :], cb[height // 4 :], cr[height // 4 :] = 235, 128, 128
    band = max(2, height // _BAND)
    lit = np.array([number >> (_BITS - 1 - bit) & 1 for bit in range(_BITS)], bool)[np.arange(width) * _BITS // width]
    luma[:band] = np.where(lit, _LIGHT, _DARK)
    luma[band : 2 * band] = np.where(lit, _DARK, _LIGHT)
    cb[:band], cr[:band] = 128, 128
    image.colorspace, image.color_range = (6, 1) if width <= 1024 and height <= 576 else (1, 1)
    return image


def read_counter(image: av.VideoFrame) -> int | None:
    """The number in a picture of `draw_pattern`, also after scaling or encoding; None when it cannot be read.

    A negative of the picture gives the complement, 65535 - number.
    """
    luma = byte_planes(Scaler().convert(image, "yuv420p"))[0]
    height, width = luma.shape
    band = max(2, height // _BAND)
    first, second = (_block_means(luma[row : row + band]) for row in (0, band))
    if bool((np.abs(first - second) < (_LIGHT - _DARK) / 4).any()):
        return None
    return int("".join("1" if up > down else "0" for up, down in zip(first, second, strict=True)), 2)


def _block_means(band: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean of the inner half of each block."""
    height, width = band.shape
    rows = band[height // 4 : max(height // 4 + 1, height * 3 // 4)]
    starts = [((4 * bit + 1) * width // (4 * _BITS), (4 * bit + 3) * width // (4 * _BITS)) for bit in range(_BITS)]
    return np.array([rows[:, start : max(stop, start + 1)].mean() for start, stop in starts])


def tone(start: int, count: int, sample_rate: int) -> NDArray[np.float32]:
    """Mono sound [1, count] from sample `start`: a quiet hum, and a beep in the first tenth of each second."""
    at = np.arange(start, start + count)
    beeping = at % sample_rate < _BEEP_S * sample_rate
    seconds = at / sample_rate
    hum = 0.05 * np.sin(2 * np.pi * _HUM_HZ * seconds)
    beep = 0.6 * np.sin(2 * np.pi * _BEEP_HZ * seconds)
    sound: NDArray[np.float32] = np.where(beeping, beep, hum).astype(np.float32)[None]
    return sound


class PatternSource:
    """Pictures numbered from 0, a flash on the first of each second, and a beep with it.

    Args:
        width, height: of the pictures.
        fps: pictures per second.
        duration_s: how long; None = without end.
        sample_rate: of the sound; 0 = none.
    """

    def __init__(
        self,
        width: int = 512,
        height: int = 512,
        fps: Fraction = Fraction(30),
        duration_s: float | None = None,
        sample_rate: int = 0,
    ) -> None:
        self._size = (width, height)
        self._fps = fps
        self._rate = sample_rate
        self._count = None if duration_s is None else round(duration_s * fps)
        self._closed = False
        self._info = SourceInfo(
            "pattern",
            VideoInfo(width, height, fps, 1 / fps, frame_count=self._count, codec="pattern"),
            AudioInfo(sample_rate, 1, "pattern") if sample_rate else None,
            duration_s,
        )

    @property
    def info(self) -> SourceInfo:
        """What will come."""
        return self._info

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """Pictures, each followed by the sound that is heard while it is shown."""
        number = 0
        while not self._closed and number != self._count:
            now = time.monotonic_ns()
            stamps = Stamps(captured=now, decoded=now)
            flash = int(number / self._fps) > int((number - 1) / self._fps) or number == 0
            image = draw_pattern(*self._size, number, flash=flash)
            image.pts, image.time_base = number, 1 / self._fps
            yield VideoFrame(number, number, 1 / self._fps, image, stamps)
            if self._rate:
                start, end = (int(n * self._rate / self._fps) for n in (number, number + 1))
                samples = tone(start, end - start, self._rate)
                yield AudioFrame(number, start, Fraction(1, self._rate), samples, self._rate, replace(stamps))
            number += 1

    def close(self) -> None:
        """Stop. Idempotent."""
        self._closed = True
