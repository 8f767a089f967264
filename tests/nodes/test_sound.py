from __future__ import annotations

import math
from typing import Any

import pytest
import torch


def tone(hertz: float, rate: int, seconds: float, amplitude: float = 0.5) -> dict[str, Any]:
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    return {"waveform": (amplitude * torch.sin(2 * math.pi * hertz * time)).float()[None, None], "sample_rate": rate}


def peak_hertz(audio: dict[str, Any]) -> float:
    wave = audio["waveform"][0, 0]
    spectrum = torch.fft.rfft(wave * torch.hann_window(wave.numel())).abs()
    return spectrum.argmax().item() * audio["sample_rate"] / wave.numel()


def loudness(audio: dict[str, Any]) -> float:
    return audio["waveform"].square().mean().sqrt().item()


@pytest.mark.parametrize(("semitones", "factor"), [(12.0, 2.0), (7.0, 2 ** (7 / 12)), (0.5, 2 ** (0.5 / 12))])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_pitch_shift_moves_the_pitch_and_nothing_else(stream, semitones: float, factor: float, rate: int) -> None:
    source = tone(440.0, rate, 1.0)
    shifted = stream.NODE_CLASS_MAPPINGS["PitchShifter"]().execute(audio=source, pitch_shift=semitones)[0]
    assert shifted["waveform"].shape == source["waveform"].shape
    assert shifted["waveform"].dtype == torch.float32
    assert peak_hertz(shifted) == pytest.approx(440.0 * factor, abs=1.0)
    assert loudness(shifted) == pytest.approx(loudness(source), rel=0.05)


def test_pitch_shift_keeps_a_chord_a_chord(stream) -> None:
    low, high = tone(440.0, 48000, 1.0, 0.3), tone(1500.0, 48000, 1.0, 0.3)
    source = {"waveform": low["waveform"] + high["waveform"], "sample_rate": 48000}
    shifted = stream.NODE_CLASS_MAPPINGS["PitchShifter"]().execute(audio=source, pitch_shift=12.0)[0]
    spectrum = torch.fft.rfft(shifted["waveform"][0, 0] * torch.hann_window(48000)).abs()
    assert spectrum[880] > 0.8 * spectrum.max()
    assert spectrum[3000] > 0.8 * spectrum.max()
    rest = spectrum.clone()
    rest[870:890], rest[2990:3010] = 0, 0
    assert rest.max() < 0.05 * spectrum.max()


def test_pitch_shift_takes_sixteen_bit_values_stereo_silence_and_very_little(stream) -> None:
    shifter = stream.NODE_CLASS_MAPPINGS["PitchShifter"]()
    loud = {"waveform": torch.cat([tone(440, 8000, 0.5)["waveform"]] * 2, dim=1) * 32768, "sample_rate": 8000}
    shifted = shifter.execute(audio=loud, pitch_shift=4.0)[0]["waveform"]
    assert shifted.shape == (1, 2, 4000)
    assert 0.4 < shifted.abs().max() < 0.7
    for samples in (0, 1, 50, 2048):
        quiet = {"waveform": torch.zeros(1, 1, samples), "sample_rate": 8000}
        assert torch.equal(shifter.execute(audio=quiet, pitch_shift=4.0)[0]["waveform"], quiet["waveform"])


def test_join_resamples_to_the_higher_rate_and_keeps_the_tone(run) -> None:
    joined = run("JoinAudioChannels", audio_left=tone(440, 8000, 1.0), audio_right=tone(880, 16000, 0.5))[0]
    assert joined["sample_rate"] == 16000
    assert joined["waveform"].shape == (1, 2, 8000)
    left, right = run("SplitAudioChannels", audio=joined)
    assert peak_hertz(left) == pytest.approx(440, abs=2)
    assert peak_hertz(right) == pytest.approx(880, abs=2)
    assert loudness(left) == pytest.approx(0.5 / math.sqrt(2), rel=0.01)


def test_merge_is_never_too_loud(run) -> None:
    merged = run("AudioMerge", audio1=tone(440, 8000, 0.5, 0.9), audio2=tone(440, 8000, 0.2, 0.9), merge_method="add")[
        0
    ]
    assert merged["waveform"].abs().max().item() == pytest.approx(1.0, abs=1e-6)
    assert merged["waveform"].shape[-1] == 4000


def test_trim_says_what_is_wrong(run) -> None:
    assert (
        run("TrimAudioDuration", audio=tone(1, 100, 2.0), start_index=-0.5, duration=9.0)[0]["waveform"].shape[-1] == 50
    )
    with pytest.raises(ValueError, match="nothing is left: 1 s from 5 s of a sound of 2 s"):
        run("TrimAudioDuration", audio=tone(1, 100, 2.0), start_index=5.0, duration=1.0)


def test_volume_and_silence(run) -> None:
    assert loudness(run("AudioAdjustVolume", audio=tone(440, 8000, 0.1), volume=-20)[0]) == pytest.approx(
        0.05 / math.sqrt(2), rel=0.01
    )
    assert run("EmptyAudio", duration=0.25, sample_rate=8000, channels=2)[0]["waveform"].shape == (1, 2, 2000)


def test_sound_goes_to_a_file_and_back(run, core, folders) -> None:
    source = tone(440, 8000, 0.5)
    shown = core.NODE_CLASS_MAPPINGS["PreviewAudio"].execute(audio=source).ui["audio"][0]
    (folders / "temp" / shown["filename"]).rename(folders / "input" / "tone.wav")
    loaded = run("LoadAudio", audio="tone.wav")[0]
    assert loaded["sample_rate"] == 8000
    assert torch.allclose(loaded["waveform"], source["waveform"], atol=1 / 16000)
    assert (
        core.NODE_CLASS_MAPPINGS["LoadAudio"].validate_inputs(audio="no.wav") == 'no file "no.wav" in the input folder'
    )
