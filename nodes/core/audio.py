"""Sound: silence, join, mix, loudness, cut, channels. AUDIO is `{"waveform": [b, c, n], "sample_rate": hz}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import pad

from .resample_sound import resample

__all__ = ["NODES"]

Audio = dict[str, Any]
FAR = 0xFFFFFFFFFFFFFFFF


def _audio(waveform: Tensor, sample_rate: int) -> Audio:
    return {"waveform": waveform, "sample_rate": sample_rate}


def _same_rate(first: Audio, second: Audio) -> tuple[Tensor, Tensor, int]:
    """Both waveforms at the higher of the two sample rates."""
    rate = max(first["sample_rate"], second["sample_rate"])
    one, other = (resample(audio["waveform"], audio["sample_rate"], rate) for audio in (first, second))
    return one, other, rate


def _of_two(first: Audio | None, second: Audio | None, work: Callable[[Audio, Audio], Audio]) -> io.NodeOutput:
    """What is there where one is missing (a silent video), else the work of both."""
    if first is None or second is None:
        return io.NodeOutput(second if first is None else first)
    return io.NodeOutput(work(first, second))


class EmptyAudio(io.ComfyNode):
    """Silence."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmptyAudio",
            display_name="Empty Audio",
            category="audio",
            inputs=[
                io.Float.Input("duration", default=60.0, min=0.0, max=FAR, step=0.01),
                io.Int.Input("sample_rate", default=44100, min=1, max=192000, advanced=True),
                io.Int.Input("channels", default=2, min=1, max=2, advanced=True),
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, duration: float, sample_rate: int, channels: int) -> io.NodeOutput:
        samples = round(duration * sample_rate)
        return io.NodeOutput(_audio(torch.zeros((1, channels, samples), dtype=torch.float32), sample_rate))


class AudioConcat(io.ComfyNode):
    """One sound after the other, in stereo."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AudioConcat",
            display_name="Concatenate Audio",
            category="audio",
            inputs=[
                io.Audio.Input("audio1"),
                io.Audio.Input("audio2"),
                io.Combo.Input("direction", options=["after", "before"], default="after"),
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio1: Audio | None, audio2: Audio | None, direction: str) -> io.NodeOutput:
        def concat(first: Audio, second: Audio) -> Audio:
            *pair, rate = _same_rate(first, second)
            stereo = [wave.expand(-1, 2, -1) if wave.shape[1] == 1 else wave for wave in pair]
            return _audio(torch.cat(stereo if direction == "after" else stereo[::-1], dim=2), rate)

        return _of_two(audio1, audio2, concat)


MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "mean": lambda one, other: (one + other) / 2,
    "subtract": torch.sub,
    "multiply": torch.mul,
}


def _merge(first: Audio, second: Audio, method: str) -> Audio:
    one, other, rate = _same_rate(first, second)
    length = one.shape[-1]
    if not length or not other.shape[-1]:
        return _audio(one, rate)
    fitted = pad(other, (0, max(0, length - other.shape[-1])))[..., :length]
    merged = MERGES[method](one, fitted)
    return _audio(merged / merged.abs().max().clamp_(min=1.0), rate)


class AudioMerge(io.ComfyNode):
    """Two sounds at once, as long as the first; made quieter where they would be too loud."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AudioMerge",
            display_name="Merge Audio",
            category="audio",
            inputs=[
                io.Audio.Input("audio1"),
                io.Audio.Input("audio2"),
                io.Combo.Input("merge_method", options=list(MERGES)),
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio1: Audio | None, audio2: Audio | None, merge_method: str) -> io.NodeOutput:
        return _of_two(audio1, audio2, lambda first, second: _merge(first, second, merge_method))


class AudioAdjustVolume(io.ComfyNode):
    """Louder or quieter by so many decibels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AudioAdjustVolume",
            display_name="Adjust Audio Volume",
            category="audio",
            inputs=[io.Audio.Input("audio"), io.Int.Input("volume", default=1, min=-100, max=100)],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio: Audio | None, volume: int) -> io.NodeOutput:
        if audio is None or volume == 0:
            return io.NodeOutput(audio)
        return io.NodeOutput(_audio(audio["waveform"] * 10 ** (volume / 20), audio["sample_rate"]))


class TrimAudioDuration(io.ComfyNode):
    """A part of a sound, in seconds; a negative start counts from the end."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrimAudioDuration",
            display_name="Trim Audio Duration",
            category="audio",
            inputs=[
                io.Audio.Input("audio"),
                io.Float.Input("start_index", default=0.0, min=-FAR, max=FAR, step=0.01),
                io.Float.Input("duration", default=60.0, min=0.0, step=0.01),
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio: Audio | None, start_index: float, duration: float) -> io.NodeOutput:
        if audio is None or audio["waveform"].shape[-1] == 0:
            return io.NodeOutput(audio)
        waveform, rate = audio["waveform"], audio["sample_rate"]
        length = waveform.shape[-1]
        offset = round(start_index * rate)
        start = min(max(offset + length if start_index < 0 else offset, 0), length)
        end = min(start + round(duration * rate), length)
        if start >= end:
            raise ValueError(
                f"nothing is left: {duration:g} s from {start_index:g} s of a sound of {length / rate:g} s"
            )
        return io.NodeOutput(_audio(waveform[..., start:end], rate))


class SplitAudioChannels(io.ComfyNode):
    """Left and right of a stereo sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SplitAudioChannels",
            display_name="Split Audio Channels",
            category="audio",
            inputs=[io.Audio.Input("audio")],
            outputs=[io.Audio.Output(display_name="left"), io.Audio.Output(display_name="right")],
        )

    @classmethod
    def execute(cls, audio: Audio | None) -> io.NodeOutput:
        if audio is None:
            return io.NodeOutput(None, None)
        waveform, rate = audio["waveform"], audio["sample_rate"]
        if waveform.shape[1] != 2:
            raise ValueError(f"the sound has {waveform.shape[1]} channel(s); only stereo (2) can be split")
        return io.NodeOutput(_audio(waveform[:, 0:1], rate), _audio(waveform[:, 1:2], rate))


def _join(left: Audio, right: Audio) -> Audio:
    counts = [audio["waveform"].shape[1] for audio in (left, right)]
    if counts != [1, 1]:
        raise ValueError(f"the sounds have {counts[0]} and {counts[1]} channels; both must be mono (1)")
    *pair, rate = _same_rate(left, right)
    length = min(wave.shape[-1] for wave in pair)
    return _audio(torch.cat([wave[..., :length] for wave in pair], dim=1), rate)


class JoinAudioChannels(io.ComfyNode):
    """A stereo sound from left and right, as long as the shorter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JoinAudioChannels",
            display_name="Join Audio Channels",
            category="audio",
            inputs=[io.Audio.Input("audio_left"), io.Audio.Input("audio_right")],
            outputs=[io.Audio.Output(display_name="audio")],
        )

    @classmethod
    def execute(cls, audio_left: Audio | None, audio_right: Audio | None) -> io.NodeOutput:
        return _of_two(audio_left, audio_right, _join)


NODES = [
    AudioAdjustVolume,
    AudioConcat,
    AudioMerge,
    EmptyAudio,
    JoinAudioChannels,
    SplitAudioChannels,
    TrimAudioDuration,
]
