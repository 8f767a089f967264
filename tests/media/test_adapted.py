from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest

from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.adapted import Looped, Paced, Resampled, Resized
from comfystream.media.colour import colour_of
from comfystream.media.file_source import FileSource
from comfystream.media.pattern import PatternSource, draw_pattern, read_counter
from comfystream.media.planes import byte_planes
from comfystream.media.scale import Scaler, SizeMode
from comfystream.media.source import Source


def pictures(source: Source) -> list[VideoFrame]:
    return [frame for frame in source.frames() if isinstance(frame, VideoFrame)]


@pytest.mark.parametrize("fps", [Fraction(10), Fraction(15), Fraction(24), Fraction(60), Fraction(30000, 1001)])
def test_a_new_rate_shows_the_nearest_picture(fps: Fraction) -> None:
    source = Resampled(PatternSource(64, 64, Fraction(30), 2.0), fps)
    frames = pictures(source)
    assert len(frames) == pytest.approx(2 * fps, abs=1)
    assert source.info.video is not None
    assert source.info.video.fps == fps
    assert [f.pts for f in frames] == [f.id for f in frames] == list(range(len(frames)))
    for frame in frames:
        number = read_counter(frame.image)
        assert number is not None
        assert abs(number / 30 - frame.pts / fps) <= max(0.5 / 30, 0.5 / float(fps)) + 1e-9
    shown = len(frames) - source.repeated
    assert shown + source.dropped == 60


def test_a_new_rate_of_uneven_pictures_keeps_their_length(tmp_path: Path) -> None:
    frames = pictures(Resampled(FileSource(clips.portrait(tmp_path / "p.mp4")), Fraction(30)))
    assert len(frames) / 30 == pytest.approx(clips.vfr_times(25)[-1] / 600, abs=0.07)


def test_sound_passes_through() -> None:
    source = Resampled(PatternSource(64, 64, Fraction(30), 1.0, sample_rate=8000), Fraction(5))
    assert sum(f.samples.shape[1] for f in source.frames() if isinstance(f, AudioFrame)) == 8000


@pytest.mark.parametrize("mode", list(SizeMode))
def test_sizes(mode: SizeMode) -> None:
    source = Resized(PatternSource(128, 64, duration_s=0.2), (96, 96), mode)
    assert source.info.video is not None
    assert (source.info.video.width, source.info.video.height) == (96, 96)
    frame = pictures(source)[3]
    luma = byte_planes(frame.image)[0]
    assert luma.shape == (96, 96)
    assert (frame.image.pts, frame.pts) == (3, 3)
    if mode is SizeMode.FIT:
        assert (luma[:24] == 16).all()
        assert (luma[72:] == 16).all()
        assert read_counter(cut(frame.image, 24, 72)) == 3
    elif mode is SizeMode.STRETCH:
        assert read_counter(frame.image) == 3
    else:
        whole = Scaler().convert(draw_pattern(128, 64, 3), "yuv420p", (192, 96), interpolation="BICUBIC")
        assert np.array_equal(luma, byte_planes(whole)[0][:, 48:144])


def cut(image: av.VideoFrame, top: int, bottom: int) -> av.VideoFrame:
    part = av.VideoFrame(image.width, bottom - top, "yuv420p")
    for source, target in zip(byte_planes(image), byte_planes(part), strict=True):
        scale = image.height // source.shape[0]
        target[...] = source[top // scale : bottom // scale]
    part.colorspace, part.color_range = image.colorspace, image.color_range
    return part


def test_a_10_bit_picture_is_resized_to_8_bits(tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "deep.mkv", count=2, codec="ffv1", pix_fmt="yuv420p10le")
    frame = pictures(Resized(FileSource(clip), (64, 48)))[1]
    assert frame.image.format.name == "yuv420p"
    assert read_counter(frame.image) == 1
    assert not colour_of(frame.image).full


class HandClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000
        self.slept: list[int] = []

    def now_ns(self) -> int:
        return self.now

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self.slept.append(deadline_ns)
        self.now = max(self.now, deadline_ns)


def test_real_time_follows_media_time() -> None:
    clock = HandClock()
    frames = pictures(Paced(PatternSource(64, 64, Fraction(25), 0.2), clock))
    assert clock.slept == [1_000 + n * 40_000_000 for n in range(5)]
    assert [f.stamps.captured for f in frames] == clock.slept


def test_late_frames_are_not_waited_for() -> None:
    clock, captured = HandClock(), []
    for frame in Paced(PatternSource(64, 64, Fraction(25), 0.2), clock).frames():
        captured.append(frame.stamps.captured)
        clock.now += 100_000_000
    assert captured == [1_000 + n * 100_000_000 for n in range(5)]


def test_again_and_again(talk: Path) -> None:
    source = Looped(lambda: FileSource(talk, audio=True), rounds=3)
    assert source.info.duration_s == pytest.approx(9, abs=0.1)
    frames = list(source.frames())
    video = [f for f in frames if isinstance(f, VideoFrame)]
    audio = [f for f in frames if isinstance(f, AudioFrame)]
    assert [f.id for f in video] == list(range(270))
    assert [f.id for f in audio] == list(range(len(audio)))
    for kind in (video, audio):
        times = [f.pts * f.time_base for f in kind]
        assert times == sorted(set(times))
    assert float(video[90].pts * video[90].time_base) == pytest.approx(3.0, abs=0.05)


def test_a_loop_without_end_can_be_stopped() -> None:
    source = Looped(lambda: PatternSource(64, 64, Fraction(30), 0.1))
    taken = []
    for frame in source.frames():
        taken.append(frame)
        if len(taken) == 10:
            source.close()
    assert len(taken) == 10
