"""Sound from and to files."""

from __future__ import annotations

import os
import secrets
import wave
from typing import Any

import av
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from .image_files import digest_file

__all__ = ["NODES", "read_sound"]


def read_sound(path: str) -> tuple[Tensor, int]:
    """First sound stream of a file: float32 [channels, samples] and its sample rate.

    Raises:
        ValueError: the file has no sound.
    """
    with av.open(path) as file:
        if not file.streams.audio:
            raise ValueError(f"{os.path.basename(path)} has no sound")
        stream = file.streams.audio[0]
        to_float = av.AudioResampler(format="fltp")
        blocks = [block.to_ndarray() for frame in file.decode(stream) for block in to_float.resample(frame)]
        blocks += [block.to_ndarray() for block in to_float.resample(None)]
        rate = stream.codec_context.sample_rate
    if not blocks:
        raise ValueError(f"{os.path.basename(path)} has no sound")
    return torch.from_numpy(np.concatenate(blocks, axis=1)), rate


class LoadAudio(io.ComfyNode):
    """Sound from the input folder, of a video too."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        folder = folder_paths.get_input_directory()
        names = os.listdir(folder) if os.path.isdir(folder) else []
        files = sorted(folder_paths.filter_files_content_types(names, ["audio", "video"]))
        return io.Schema(
            node_id="LoadAudio",
            display_name="Load Audio",
            category="audio",
            essentials_category="Audio",
            inputs=[io.Combo.Input("audio", upload=io.UploadType.audio, options=files)],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio: str) -> io.NodeOutput:
        waveform, rate = read_sound(folder_paths.get_annotated_filepath(audio))
        return io.NodeOutput({"waveform": waveform[None], "sample_rate": rate})

    @classmethod
    def fingerprint_inputs(cls, audio: str) -> str:
        return digest_file(folder_paths.get_annotated_filepath(audio))

    @classmethod
    def validate_inputs(cls, audio: str) -> bool | str:
        return folder_paths.exists_annotated_filepath(audio) or f'no file "{audio}" in the input folder'


class PreviewAudio(io.ComfyNode):
    """Play sound in the editor."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewAudio",
            display_name="Preview Audio",
            category="audio",
            inputs=[io.Audio.Input("audio")],
            outputs=[io.Audio.Output("audio")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, audio: dict[str, Any] | None) -> io.NodeOutput:
        if audio is None:
            raise ValueError("there is no sound to play; does the video have any?")
        prefix = f"ComfyUI_temp_{secrets.token_hex(3)}"
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_temp_directory()
        )
        saved = []
        for index, waveform in enumerate(audio["waveform"]):
            file = f"{name}_{counter + index:05}_.wav"
            _write_wav(os.path.join(folder, file), waveform, int(audio["sample_rate"]))
            saved.append({"filename": file, "subfolder": subfolder, "type": "temp"})
        return io.NodeOutput(audio, ui={"audio": saved})


def _write_wav(path: str, waveform: Tensor, sample_rate: int) -> None:
    """16-bit WAV of a float waveform [channels, samples]."""
    samples = waveform.mul(32767.0).clamp_(-32768, 32767).to(torch.int16).T.contiguous().cpu().numpy()
    with wave.open(path, "wb") as file:
        file.setparams((samples.shape[1], 2, sample_rate, samples.shape[0], "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


NODES = [LoadAudio, PreviewAudio]
