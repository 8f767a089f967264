"""Change of sample rate by band-limited interpolation (J. O. Smith, "Digital Audio Resampling Home Page").

The figures (six zero crossings, roll-off 0.99, squared-cosine window) are those of torchaudio's default, so that
results are the same.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

__all__ = ["resample"]

ZERO_CROSSINGS = 6
ROLL_OFF = 0.99


@lru_cache(maxsize=16)
def _kernel(source: int, target: int, device: torch.device) -> tuple[Tensor, int]:
    """One filter per output phase, float32 [target, 1, taps], and how far it reaches to each side."""
    cutoff = min(source, target) * ROLL_OFF
    reach = math.ceil(ZERO_CROSSINGS * source / cutoff)
    taps = torch.arange(-reach, reach + source, dtype=torch.float64) / source
    phases = torch.arange(target, dtype=torch.float64) / target
    place = ((taps - phases[:, None]) * cutoff).clamp_(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = torch.cos(place * math.pi / ZERO_CROSSINGS / 2).square()
    kernel = torch.sinc(place) * window * (cutoff / source)
    return kernel[:, None].to(device, torch.float32), reach


def resample(waveform: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Sound at another sample rate.

    Args:
        waveform: float [..., samples].
        source_rate: its samples per second.
        target_rate: the wanted samples per second.

    Returns:
        Float [..., ceil(samples * target_rate / source_rate)].
    """
    if source_rate == target_rate:
        return waveform
    common = math.gcd(source_rate, target_rate)
    source, target = source_rate // common, target_rate // common
    kernel, reach = _kernel(source, target, waveform.device)
    samples = waveform.shape[-1]
    wide = pad(waveform.reshape(-1, 1, samples), (reach, reach + source))
    out = conv1d(wide, kernel.to(waveform.dtype), stride=source).transpose(1, 2)
    wanted = math.ceil(target * samples / source)
    return out.reshape(-1, out.shape[1] * target)[:, :wanted].reshape(*waveform.shape[:-1], wanted)
