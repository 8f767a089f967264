"""Live sound in and out of a workflow. Our engine binds these nodes to the stream and never calls them."""

from __future__ import annotations

import queue
from typing import Any

import torch
from torch import Tensor

from comfystream import bus
from comfystream.exceptions import ComfyStreamAudioBufferError, ComfyStreamInputTimeoutError

from .preview import preview_sound
from .video import TIMEOUT

__all__ = ["LoadAudioTensor", "SaveAudioTensor"]

SILENCE_RATE = 48000  # samples per second of the silence that stands for a missing stream
Audio = dict[str, Any]


def _mono(frame: Any) -> Tensor:
    """int16 [samples] of a frame of the input queue."""
    return torch.as_tensor(frame.side_data.input).reshape(-1).to(torch.int16)


class LoadAudioTensor:
    """The live sound, a buffer at a time. What is left over of a frame is kept for the next buffer."""

    RETURN_TYPES = ("AUDIO",)
    RETURN_NAMES = ("audio",)
    FUNCTION = "execute"
    CATEGORY = "ComfyStream/Loaders"
    DESCRIPTION = "Live audio input. Outside a stream: the last live sound, or silence."

    def __init__(self) -> None:
        self.sample_rate = 0
        self.left = torch.zeros(0, dtype=torch.int16)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"buffer_size": ("FLOAT", {"default": 500.0})}, "optional": {"timeout_seconds": TIMEOUT}}

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float:
        return float("nan")

    def execute(self, buffer_size: float, timeout_seconds: float = 1.0) -> tuple[Audio]:
        if bus.audio_inputs.fed:
            samples = self._collect(buffer_size, timeout_seconds).to(torch.float32).div_(32768.0)
            return ({"waveform": samples[None, None], "sample_rate": self.sample_rate},)
        last = bus.inputs.get("audio")
        if last is not None:
            return (last,)
        silence = torch.zeros(1, 1, round(SILENCE_RATE * buffer_size / 1000))
        return ({"waveform": silence, "sample_rate": SILENCE_RATE},)

    def _collect(self, buffer_ms: float, timeout_s: float) -> Tensor:
        """int16 samples that make a buffer, waiting for them."""
        if not self.sample_rate:
            self._take(ComfyStreamInputTimeoutError("audio", timeout_s), timeout_s)
        needed = int(self.sample_rate * buffer_ms / 1000)
        while self.left.numel() < needed:
            self._take(ComfyStreamAudioBufferError(timeout_s, needed, self.left.numel()), timeout_s)
        samples, self.left = self.left[:needed], self.left[needed:]
        return samples

    def _take(self, when_late: Exception, timeout_s: float) -> None:
        """Append the next frame to what is left."""
        try:
            frame = bus.audio_inputs.get(timeout=timeout_s)
        except queue.Empty:
            raise when_late from None
        if self.sample_rate and frame.sample_rate != self.sample_rate:
            raise ValueError(f"sample rate changed: expected {self.sample_rate} Hz, got {frame.sample_rate} Hz")
        self.sample_rate = frame.sample_rate
        self.left = torch.cat([self.left, _mono(frame)])


class SaveAudioTensor:
    """The sound that listeners get."""

    RETURN_TYPES = ()
    FUNCTION = "execute"
    OUTPUT_NODE = True
    CATEGORY = "audio_utils"
    DESCRIPTION = "Live audio output. Outside a stream: plays in the editor."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"audio": ("AUDIO",)}}

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float:
        return float("nan")

    def execute(self, audio: Audio) -> dict[str, Any]:
        samples = to_int16(audio["waveform"])
        bus.audio_outputs.put(samples.cpu().numpy())
        bus.outputs.put("audio", audio)
        return {"ui": {"audio": preview_sound(samples, int(audio["sample_rate"]))}}


def to_int16(waveform: Tensor) -> Tensor:
    """int16 [samples] of a float waveform in -1..1 (others are cast); what is louder is clipped, not wrapped."""
    flat = waveform.reshape(-1)
    if flat.is_floating_point():
        flat = flat.mul(32767.0).clamp_(-32768, 32767)
    return flat.to(torch.int16)
