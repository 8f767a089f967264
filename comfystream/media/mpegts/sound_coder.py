"""Sound to packets of Opus, each with its time, without holes that a pause of a moment would make."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from comfystream.clock import rescale
from comfystream.frames import AudioFrame
from comfystream.media.mpegts.unit import CLOCK
from comfystream.media.sound import Seam

__all__ = ["SoundCoder"]

_RATE = 48_000
_TICK = Fraction(1, _RATE)
_FRAME = 960  # 20 ms
_LONGEST_GAP_S = 1  # a longer one is a new beginning
_BITRATE_PER_CHANNEL = 48_000


class SoundCoder:
    """Opus at 48 kHz; owned by one thread at a time.

    Args:
        channels: 1 or 2; other numbers of channels that come in become their mean.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._layout = "stereo" if channels == 2 else "mono"
        context: Any = av.CodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = _RATE, self._layout, "flt"
        context.bit_rate, context.time_base = _BITRATE_PER_CHANNEL * channels, _TICK
        context.options = {"application": "lowdelay", "frame_duration": "20"}
        self._context = context
        self._resampler: Any = None
        self._rate = 0
        self._seam: Seam | None = None
        self._held = np.zeros((channels, 0), np.float32)
        self._at = 0  # time of the first sample that is held

    def encode(self, frame: AudioFrame) -> list[tuple[bytes, int]]:
        """Packets that are complete and their times in 1/90000 s."""
        if self._resampler is None or frame.sample_rate != self._rate or self._is_far(frame):
            self._begin(frame)
        assert self._seam is not None
        samples = self._seam.align(frame, _mixed(frame.samples, self.channels))
        if samples.shape[1]:
            self._held = np.concatenate((self._held, *map(self._planes, self._resampled(samples))), axis=1)
        return self._cut()

    def flush(self) -> list[tuple[bytes, int]]:
        """The rest, filled up with silence."""
        if not self._held.shape[1]:
            return []
        self._held = np.pad(self._held, ((0, 0), (0, -self._held.shape[1] % _FRAME)))
        return self._cut()

    def _is_far(self, frame: AudioFrame) -> bool:
        return self._seam is None or abs(self._seam.gap(frame)) > self._rate * _LONGEST_GAP_S

    def _begin(self, frame: AudioFrame) -> None:
        self._rate = frame.sample_rate
        self._resampler = av.AudioResampler("fltp", self._layout, _RATE)
        self._seam = Seam(self._rate)
        start = rescale(frame.pts, frame.time_base, _TICK)
        self._at, self._held = start, self._held[:, :0]

    def _resampled(self, samples: NDArray[np.float32]) -> list[av.AudioFrame]:
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", self._layout)
        sound.sample_rate = self._rate
        return list(self._resampler.resample(sound))

    @staticmethod
    def _planes(sound: av.AudioFrame) -> NDArray[np.float32]:
        return np.asarray(sound.to_ndarray(), np.float32)

    def _cut(self) -> list[tuple[bytes, int]]:
        packets = []
        while self._held.shape[1] >= _FRAME:
            part, self._held = self._held[:, :_FRAME], self._held[:, _FRAME:]
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(part.T).reshape(1, -1), "flt", self._layout)
            sound.sample_rate, sound.time_base, sound.pts = _RATE, _TICK, self._at
            self._at += _FRAME
            for packet in self._context.encode(sound):
                packets.append((bytes(packet), rescale(int(packet.pts or 0), _TICK, CLOCK)))
        return packets


def _mixed(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if samples.shape[0] == channels:
        return samples
    one = samples if samples.shape[0] == 1 else samples.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.repeat(one, channels, axis=0)
