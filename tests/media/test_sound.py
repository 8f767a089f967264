from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from comfystream.frames import AudioFrame
from comfystream.media.sound import AudioBuffers, SampleReader


def sound(start: int, count: int, rate: int = 1000, channels: int = 1) -> AudioFrame:
    samples = np.tile(np.arange(start, start + count, dtype=np.float32), (channels, 1))
    return AudioFrame(0, start, Fraction(1, rate), samples, rate)


def test_buffers_of_equal_length_with_the_time_of_their_first_sample() -> None:
    buffers = AudioBuffers(100, 1000)
    made = [b for start in range(0, 350, 70) for b in buffers.push(sound(start, 70, channels=2))]
    assert [(b.id, b.pts, b.samples.shape) for b in made] == [(n, 100 * n, (1, 100)) for n in range(3)]
    assert np.array_equal(np.concatenate([b.samples[0] for b in made]), np.arange(300))
    (rest,) = buffers.flush()
    assert (rest.pts, rest.samples.shape) == (300, (1, 50))
    assert buffers.flush() == []


def test_the_rest_can_be_padded() -> None:
    buffers = AudioBuffers(100, 1000)
    buffers.push(sound(5, 30))
    (rest,) = buffers.flush(pad=True)
    assert rest.pts == 5
    assert rest.samples[0].tolist() == [*range(5, 35), *[0.0] * 70]


def test_a_hole_becomes_silence_and_an_overlap_is_cut() -> None:
    buffers = AudioBuffers(400, 1000)
    buffers.push(sound(0, 100))
    buffers.push(sound(200, 100))
    (made,) = [*buffers.push(sound(240, 160))]
    assert made.samples[0].tolist() == [*range(100), *[0.0] * 100, *range(200, 400)]


def test_jitter_of_coarse_times_is_left_alone() -> None:
    buffers = AudioBuffers(200, 1000)
    buffers.push(sound(0, 100))
    (made,) = buffers.push(AudioFrame(0, 103, Fraction(1, 1000), np.ones((1, 100), np.float32), 1000))
    assert made.samples.shape == (1, 200)


def test_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1000 Hz, got 2000 Hz"):
        AudioBuffers(100, 1000).push(sound(0, 10, 2000))
    with pytest.raises(ValueError, match="more than 0"):
        AudioBuffers(0, 1000)


@pytest.mark.parametrize("format", ["s16", "s16p", "flt", "fltp"])
def test_samples_are_scaled_like_16_bit_over_32768(format: str) -> None:
    values = np.array([[0, 1, -32768, 16384], [32767, -1, 2, -16384]], np.int16)
    data = values if format.startswith("s16") else (values / np.float32(32768)).astype(np.float32)
    data = data if format.endswith("p") else np.ascontiguousarray(data.T.reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(data, format, "stereo")
    frame.sample_rate = 48_000
    assert np.array_equal(SampleReader().read(frame), values / np.float32(32768))
