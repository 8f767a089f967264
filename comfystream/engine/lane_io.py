"""Between frames and node values: pictures to IMAGE tensors and back, sound to AUDIO dictionaries and back."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from comfystream.clock import rescale
from comfystream.errors import EngineError
from comfystream.frames import AudioFrame

__all__ = ["AudioGather", "audio_frame", "audio_value", "empty_mask"]


def empty_mask() -> Any:
    """What ComfyUI's LoadImage gives as MASK for a picture without transparency: zeros [1, 64, 64]."""
    import torch

    return torch.zeros((1, 64, 64), dtype=torch.float32)


def audio_value(frame: AudioFrame) -> dict[str, Any]:
    """An AUDIO value: float32 waveform [1, 1, samples] (mono, as LoadAudioTensor gives it) and the sample rate."""
    import torch

    return {"waveform": torch.from_numpy(frame.samples).reshape(1, 1, -1), "sample_rate": frame.sample_rate}


def audio_frame(value: Any, like: AudioFrame, node_id: str) -> AudioFrame:
    """An AUDIO value (or a bare waveform) as a frame at the time of the input it was made from.

    Raises:
        EngineError: the value is not sound.
    """
    rate = like.sample_rate
    if isinstance(value, dict) and "waveform" in value:
        rate = int(value.get("sample_rate", rate))
        value = value["waveform"]
    if not hasattr(value, "shape"):
        raise EngineError(f"gave {type(value).__name__} where AUDIO was expected", node_id=node_id)
    samples = value.detach().to("cpu").numpy() if hasattr(value, "detach") else np.asarray(value)
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32768.0
    samples = samples.reshape(-1, samples.shape[-1])[:2].astype(np.float32, copy=False)
    return AudioFrame(like.id, like.pts, like.time_base, samples, rate, like.stamps)


class AudioGather:
    """Gathers sound until there is a buffer for one tick.

    Args:
        buffer_ms: how much one tick takes.
    """

    def __init__(self, buffer_ms: float) -> None:
        self._buffer_ms = buffer_ms
        self._parts: list[np.ndarray] = []
        self._held = 0
        self._anchor = 0
        self._taken = 0
        self._rate = 0
        self._base = Fraction(1)
        self._count = 0

    @property
    def size(self) -> int:
        """Samples in one buffer, once the rate is known."""
        return max(int(self._rate * self._buffer_ms / 1000), 1)

    def add(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """Take a frame and give the buffers that are full: mono, float32 [1, size].

        Raises:
            EngineError: the sample rate changed.
        """
        if self._rate and frame.sample_rate != self._rate:
            raise EngineError(
                f"the sound changed its sample rate from {self._rate} to {frame.sample_rate} Hz",
                hint="restart the stream; sources keep one rate for a run",
            )
        if not self._held:
            self._anchor, self._base, self._rate, self._taken = frame.pts, frame.time_base, frame.sample_rate, 0
        mono = frame.samples.mean(axis=0, dtype=np.float32) if frame.samples.shape[0] > 1 else frame.samples[0]
        self._parts.append(mono)
        self._held += mono.shape[0]
        while self._held >= self.size:
            yield self._take(self.size, frame)

    def flush(self) -> AudioFrame | None:
        """What is left, shorter than a buffer; None when nothing is."""
        return self._take(self._held, None) if self._held else None

    def _take(self, size: int, like: AudioFrame | None) -> AudioFrame:
        joined = np.concatenate(self._parts) if len(self._parts) > 1 else self._parts[0]
        head, tail = joined[:size], joined[size:]
        start = self._anchor + rescale(self._taken, Fraction(1, self._rate), self._base)
        made = AudioFrame(self._count, start, self._base, np.ascontiguousarray(head)[None, :], self._rate)
        if like is not None:
            made.stamps.captured, made.stamps.decoded = like.stamps.captured, like.stamps.decoded
        self._parts = [tail] if tail.shape[0] else []
        self._held = tail.shape[0]
        self._taken += size
        self._count += 1
        return made
