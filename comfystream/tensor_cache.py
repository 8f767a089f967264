"""The queues of `comfystream.bus` under the names that node packs have always imported."""

from __future__ import annotations

from comfystream.bus import audio_inputs, audio_outputs, image_inputs, image_outputs, text_outputs

__all__ = ["audio_inputs", "audio_outputs", "image_inputs", "image_outputs", "text_outputs"]
