"""Decoded sound as float arrays, and cut into the buffers that audio workflows take."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from comfystream.clock import rescale
from comfystream.frames import AudioFrame, Stamps

__all__ = ["AudioBuffers", "SampleReader", "Seam", "mono"]

_GAP_S = Fraction(1, 20)  # a hole or an overlap this long is repaired; less is the jitter of coarse time bases


def mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of all channels, [1, samples]."""
    return samples if samples.shape[0] == 1 else samples.mean(axis=0, keepdims=True, dtype=np.float32)


class SampleReader:
    """Decoded sound to float32 [channels, samples] at its own rate; 16-bit values come out as value / 32768."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._came: tuple[str, str, int] | None = None

    def read(self, frame: av.AudioFrame) -> NDArray[np.float32]:
        """All samples of one frame."""
        if frame.format.name == "fltp":
            return np.asarray(frame.to_ndarray(), np.float32)
        came = (frame.format.name, frame.layout.name, frame.sample_rate)
        if came != self._came:
            self._resampler, self._came = av.AudioResampler("fltp", frame.layout, frame.sample_rate), came
        assert self._resampler is not None
        parts = [np.asarray(part.to_ndarray(), np.float32) for part in self._resampler.resample(frame)]
        return np.concatenate(parts, axis=1) if len(parts) != 1 else parts[0]


class Seam:
    """Puts runs of sound end to end: holes become silence, overlaps are cut.

    Args:
        sample_rate: of all sound that will come.
        start: time of the first sample in samples; None = that of the first run.
    """

    def __init__(self, sample_rate: int, start: int | None = None) -> None:
        self._rate = sample_rate
        self.next = start

    def gap(self, frame: AudioFrame) -> int:
        """Samples between the end of what came before and `frame`; negative where they overlap, 0 at the start."""
        return 0 if self.next is None else self._at(frame) - self.next

    def _at(self, frame: AudioFrame) -> int:
        return rescale(frame.pts, frame.time_base, Fraction(1, self._rate))

    def align(self, frame: AudioFrame, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """`samples` of `frame`, longer or shorter at the front so that they follow what came before."""
        gap = self.gap(frame)
        if abs(gap) > self._rate * _GAP_S:
            samples = np.pad(samples, ((0, 0), (gap, 0))) if gap > 0 else samples[:, -gap:]
        self.next = (self._at(frame) if self.next is None else self.next) + samples.shape[1]
        return samples


class AudioBuffers:
    """Cuts sound into mono buffers of equal length, each with the time of its first sample.

    Holes in the sound become silence and overlaps are cut, so that a buffer's samples are where its time says.

    Args:
        buffer_ms: length of a buffer in milliseconds; at least one sample.
        sample_rate: of the sound that will come.
        longest_gap_s: a hole or a jump back that is longer is a new beginning: nothing is filled in or cut, and what
            was gathered is forgotten. None repairs gaps of any length.
    """

    def __init__(self, buffer_ms: float, sample_rate: int, longest_gap_s: float | None = None) -> None:
        if not buffer_ms > 0:
            raise ValueError(f"buffer_ms must be more than 0, got {buffer_ms}")
        self._longest_gap = None if longest_gap_s is None else int(sample_rate * longest_gap_s)
        self.length = max(1, int(sample_rate * buffer_ms / 1000))
        self._rate = sample_rate
        self._parts: list[NDArray[np.float32]] = []
        self._held = 0
        self._seam = Seam(sample_rate)
        self._count = 0

    def push(self, frame: AudioFrame) -> list[AudioFrame]:
        """Take sound in; the buffers that it fills.

        Raises:
            ValueError: the sample rate is not the one expected.
        """
        if frame.sample_rate != self._rate:
            raise ValueError(f"sample rate changed: expected {self._rate} Hz, got {frame.sample_rate} Hz")
        if self._longest_gap is not None and abs(self._seam.gap(frame)) > self._longest_gap:
            self._seam, self._parts, self._held = Seam(self._rate), [], 0
        self._hold(self._seam.align(frame, mono(frame.samples)))
        return self._cut(frame.stamps)

    def flush(self, pad: bool = False) -> list[AudioFrame]:
        """What is left at the end: nothing, or one buffer that is shorter unless it is padded with silence."""
        if not self._held:
            return []
        if pad:
            missing = np.zeros((1, self.length - self._held), np.float32)
            self._seam.next = (self._seam.next or 0) + missing.shape[1]
            self._hold(missing)
            return self._cut(Stamps())
        return [self._take(self._held, Stamps())]

    def _hold(self, samples: NDArray[np.float32]) -> None:
        self._parts.append(samples)
        self._held += samples.shape[1]

    def _cut(self, stamps: Stamps) -> list[AudioFrame]:
        return [self._take(self.length, stamps) for _ in range(self._held // self.length)]

    def _take(self, length: int, stamps: Stamps) -> AudioFrame:
        held = np.concatenate(self._parts, axis=1)
        pts = (self._seam.next or 0) - self._held
        self._parts, self._held = [held[:, length:]], self._held - length
        frame = AudioFrame(
            self._count, pts, Fraction(1, self._rate), held[:, :length].copy(), self._rate, replace(stamps)
        )
        self._count += 1
        return frame
