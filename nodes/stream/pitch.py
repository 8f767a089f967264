"""Pitch shift that keeps the duration: a phase vocoder stretches the sound, resampling brings it back to its length.

The vocoder locks the phases around each spectral peak to the peak (Laroche and Dolson, "Improved phase vocoder
time-scale modification of audio", 1999): the loudness of a steady tone stays, and voices do not get hollow.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

__all__ = ["PitchShifter", "shift_pitch"]

WINDOW = 2048  # samples; 43 ms at 48 kHz
HOP = WINDOW // 4
PEAK_REACH = 2  # a peak is larger than so many bins to each side
FLOAT_PEAK = 2.0  # a waveform of floats in -1..1 may be a little too loud; one of 16-bit integers is far above


@lru_cache(maxsize=4)
def _hann(device: torch.device) -> Tensor:
    return torch.hann_window(WINDOW, device=device)


def _spectra(sound: Tensor, centres: Tensor) -> Tensor:
    """Windowed spectra around sample positions of [channels, samples]: complex [channels, positions, bins]."""
    frames = sound[:, centres[:, None] + torch.arange(WINDOW, device=sound.device)]
    return torch.fft.rfft(frames * _hann(sound.device))


def _nearest_peaks(magnitude: Tensor) -> Tensor:
    """For each bin of [..., bins] the index of the nearest peak, in the same shape."""
    bins = magnitude.shape[-1]
    around = max_pool1d(magnitude, 2 * PEAK_REACH + 1, 1, PEAK_REACH)
    index = torch.arange(bins, device=magnitude.device).expand_as(magnitude)
    is_peak = magnitude == around
    below = torch.where(is_peak, index, -bins).cummax(-1).values
    above = torch.where(is_peak, index, 3 * bins).flip(-1).cummin(-1).values.flip(-1)
    return torch.where(index - below <= above - index, below, above).clamp_(0, bins - 1)


def _unit(spectra: Tensor) -> Tensor:
    """The same phases with magnitude 1, silence included."""
    angle = spectra.angle()
    return torch.polar(torch.ones_like(angle), angle)


def _stretch(sound: Tensor, factor: float) -> Tensor:
    """[channels, samples] made longer by `factor`, pitch kept."""
    samples = round(sound.shape[-1] * factor)
    wide = pad(sound, (HOP + WINDOW // 2, WINDOW))  # room for the frame one hop before the first, and after the last
    steps = torch.arange(samples // HOP + 1, device=sound.device)
    centres = (steps * (HOP / factor)).round().long() + HOP
    here = _spectra(wide, centres)
    phase = _unit(here)
    turn = phase * _unit(_spectra(wide, centres - HOP)).conj()  # how far each bin turns in one hop
    peaks = _nearest_peaks(here.abs())
    rotation = torch.ones_like(here[:, 0])
    rotations = [rotation]
    for step in range(1, len(steps)):
        wanted = phase[:, step - 1] * rotation * turn[:, step] * phase[:, step].conj()
        rotation = wanted.gather(-1, peaks[:, step])
        rotations.append(rotation)
    turned = (here * torch.stack(rotations, dim=1)).transpose(1, 2)
    return torch.istft(turned, WINDOW, HOP, window=_hann(sound.device), length=samples)


def _resample(sound: Tensor, samples: int) -> Tensor:
    """[channels, n] to [channels, samples] over the spectrum: what the new rate cannot carry is cut, so no aliases."""
    spectrum = torch.fft.rfft(sound)[..., : samples // 2 + 1]
    return torch.fft.irfft(spectrum, n=samples) * (samples / sound.shape[-1])


def shift_pitch(waveform: Tensor, semitones: float) -> Tensor:
    """Raise the pitch; duration and loudness stay.

    Args:
        waveform: float [..., samples].
        semitones: how far, 0 or more; 12 are an octave.

    Returns:
        Float tensor of the same shape.
    """
    samples = waveform.shape[-1]
    if semitones == 0 or samples == 0:
        return waveform
    mode = "reflect" if samples > WINDOW else "constant"
    sound = pad(waveform.reshape(-1, samples), (WINDOW, WINDOW), mode=mode)  # the borders of a block are not faded
    shifted = _resample(_stretch(sound, 2.0 ** (semitones / 12.0)), sound.shape[-1])
    return shifted[:, WINDOW : WINDOW + samples].reshape(waveform.shape)


class PitchShifter:
    """Shift the pitch of sound up."""

    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "execute"
    CATEGORY = "audio_utils"
    DESCRIPTION = "Raises the pitch by some semitones; the duration stays."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        shift = ("FLOAT", {"default": 4.0, "min": 0.0, "max": 12.0, "step": 0.5})
        return {"required": {"audio": ("AUDIO",), "pitch_shift": shift}}

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float:
        return float("nan")

    def execute(self, audio: dict[str, Any], pitch_shift: float) -> tuple[dict[str, Any]]:
        waveform = audio["waveform"].to(torch.float32)
        if waveform.numel():
            waveform = torch.where(waveform.abs().max() > FLOAT_PEAK, waveform / 32768.0, waveform)
        return ({**audio, "waveform": shift_pitch(waveform, pitch_shift)},)
