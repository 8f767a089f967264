"""Between frames and node values: pictures to IMAGE tensors and back, sound to AUDIO dictionaries and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from comfystream.errors import EngineError
from comfystream.frames import AudioFrame

if TYPE_CHECKING:
    from comfystream.media.device.backend import DeviceBackend

__all__ = ["audio_frame", "audio_value", "empty_mask"]


def empty_mask(backend: DeviceBackend | None = None) -> Any:
    """What ComfyUI's LoadImage gives as MASK for a picture without transparency: zeros [1, 64, 64], float32."""
    import torch

    shape = 1, 64, 64
    return torch.zeros(shape, dtype=torch.float32) if backend is None else backend.zeros(*shape)


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
