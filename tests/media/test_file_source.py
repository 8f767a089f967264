from __future__ import annotations

import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from av.video.stream import VideoStream

from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.file_source import FileSource
from comfystream.media.pattern import read_counter
from comfystream.media.planes import byte_planes


def read(path: Path, audio: bool | None = None) -> tuple[list[VideoFrame], list[AudioFrame]]:
    frames = list(FileSource(path, audio=audio).frames())
    return [f for f in frames if isinstance(f, VideoFrame)], [f for f in frames if isinstance(f, AudioFrame)]


def seconds(frames: list[VideoFrame] | list[AudioFrame]) -> list[float]:
    return [float(frame.pts * frame.time_base) for frame in frames]


def test_a_plain_file(talk: Path) -> None:
    source = FileSource(talk, audio=True)
    video, audio = source.info.video, source.info.audio
    assert video is not None
    assert audio is not None
    assert (video.width, video.height, video.fps, video.is_variable, video.frame_count) == (128, 96, 30, False, 90)
    assert (audio.sample_rate, audio.channels, audio.codec) == (48_000, 2, "aac")
    assert source.info.duration_s == pytest.approx(3.0, abs=0.05)
    pictures, sound = read(talk)
    assert [read_counter(f.image) for f in pictures] == [f.id for f in pictures] == list(range(90))
    assert seconds(pictures) == pytest.approx([n / 30 for n in range(90)])
    assert all(f.image.pts == f.pts and f.image.time_base == f.time_base for f in pictures)
    assert all(f.stamps.decoded >= f.stamps.captured > 0 for f in pictures)
    assert [f.id for f in sound] == list(range(len(sound)))
    assert sum(f.samples.shape[1] for f in sound) == pytest.approx(3 * 48_000, abs=2048)
    assert sound[0].samples.dtype == np.float32
    assert sound[0].samples.shape[0] == 2


def test_sound_is_left_out_unless_wanted(talk: Path) -> None:
    assert read(talk, audio=False)[1] == []
    assert FileSource(talk).info.audio is None


def test_sound_alone(talk: Path) -> None:
    source = FileSource(talk, video=False, audio=True)
    assert source.info.video is None
    assert all(isinstance(frame, AudioFrame) for frame in source.frames())


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    path = clips.portrait(tmp_path / "portrait.mp4")
    source = FileSource(path, audio=None)
    assert source.info.video is not None
    assert source.info.video.is_variable
    assert source.info.audio is None
    pictures, _ = read(path)
    assert seconds(pictures) == pytest.approx([t / 600 for t in clips.vfr_times(24)], abs=1e-4)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_pictures_are_turned_upright(tmp_path: Path, degrees: int) -> None:
    if not hasattr(VideoStream, "set_display_rotation"):
        pytest.skip(f"PyAV {av.__version__} cannot write a display matrix")
    path = clips.make_clip(tmp_path / "turned.mp4", size=(128, 64), count=3, rotate=degrees)
    source = FileSource(path)
    assert source.info.video is not None
    assert source.info.video.rotation == -degrees % 360
    picture = next(frame for frame in source.frames() if isinstance(frame, VideoFrame))
    size = (64, 128) if degrees % 180 else (128, 64)
    assert (source.info.video.width, source.info.video.height) == (picture.image.width, picture.image.height) == size
    upright = next(iter(FileSource(clips.make_clip(tmp_path / "plain.mp4", size=(128, 64), count=3)).frames()))
    assert isinstance(upright, VideoFrame)
    for turned, plane in zip(byte_planes(picture.image), byte_planes(upright.image), strict=True):
        assert np.array_equal(turned, np.rot90(plane, degrees // 90))


@pytest.mark.parametrize(
    ("format", "codec"), [("yuv420p10le", "ffv1"), ("gray", "ffv1"), ("yuv444p", "ffv1"), ("bgr0", "ffv1")]
)
def test_pixel_formats_come_as_they_are(tmp_path: Path, format: str, codec: str) -> None:
    pictures, _ = read(clips.make_clip(tmp_path / "clip.mkv", count=5, codec=codec, pix_fmt=format))
    assert {f.image.format.name for f in pictures} == {format}
    assert [read_counter(f.image) for f in pictures] == list(range(5))


def test_odd_size(tmp_path: Path) -> None:
    source = FileSource(clips.make_clip(tmp_path / "odd.mkv", size=(127, 95), count=3, codec="ffv1"))
    assert source.info.video is not None
    assert (source.info.video.width, source.info.video.height) == (127, 95)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_start_that_is_not_zero_becomes_zero(tmp_path: Path, ending: str) -> None:
    path = clips.make_clip(tmp_path / f"late.{ending}", count=40, audio="aac", offset_s=2.5)
    source = FileSource(path, audio=True)
    assert source.info.duration_s == pytest.approx(40 / 30, abs=0.08)
    pictures, sound = read(path)
    assert len(pictures) == 40
    assert seconds(pictures)[0] == pytest.approx(0, abs=0.03)
    assert seconds(sound)[0] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pictures_that_start_later_than_the_sound_stay_later(tmp_path: Path, ending: str) -> None:
    path = clips.make_clip(tmp_path / f"late.{ending}", count=20, audio="aac", video_late_s=0.5)
    pictures, sound = read(path)
    assert seconds(pictures)[0] - seconds(sound)[0] == pytest.approx(0.5, abs=0.03)


def test_another_thread_may_close(talk: Path) -> None:
    source = FileSource(talk)
    frames = source.frames()
    next(frames)
    closer = threading.Thread(target=source.close)
    closer.start()
    closer.join(10)
    assert not closer.is_alive()
    assert len(list(frames)) < 89  # ends, without a fault
    source.close()


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_file_that_breaks_off_gives_what_it_has_and_says_where(tmp_path: Path, ending: str) -> None:
    path = clips.truncated(tmp_path / f"cut.{ending}", audio="aac")
    pictures: list[VideoFrame | AudioFrame] = []
    with pytest.raises(MediaError, match=r"cut\.\w+ breaks off at 2\.\d s of 4\.0 s") as caught:
        pictures.extend(FileSource(path).frames())  # keeps what came before the error
    assert caught.value.code == "truncated"
    assert 60 < len(pictures) < 80
    assert all(later.pts > earlier.pts for earlier, later in pairwise(pictures))


def test_damage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "whole.mkv", count=60, options={"preset": "ultrafast", "g": "10"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    pictures, _ = read(path)
    assert 30 < len(pictures) <= 60
    assert read_counter(pictures[-1].image) == 59


def test_a_file_without_an_index(tmp_path: Path, talk: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(talk.read_bytes()[:4000])
    with pytest.raises(MediaError, match="is cut off: the index of the video is missing"):
        FileSource(path)


@pytest.mark.parametrize("name", ["notes.txt", "notes.mp4", "notes.mkv"])
def test_what_is_no_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("Dear diary,\n" * 50)
    with pytest.raises(MediaError, match=rf"{name} is not a video"):
        FileSource(path)


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    for name, words in {"empty.mp4": "is empty", "missing.mp4": "does not exist", ".": "is a folder"}.items():
        with pytest.raises(MediaError, match=words):
            FileSource(tmp_path / name)


def test_no_picture_and_no_sound(tmp_path: Path, talk: Path) -> None:
    silent = clips.portrait(tmp_path / "silent.mp4")
    with pytest.raises(MediaError, match="has no audio stream") as caught:
        FileSource(silent, audio=True)
    assert caught.value.code == "no_audio"
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.array([[0, -32768, 16384, 1] * 100], np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="has no video stream"):
        FileSource(sound)
    first = next(iter(FileSource(sound, video=False, audio=True).frames()))
    assert isinstance(first, AudioFrame)
    assert first.samples[0, :4].tolist() == [0, -1.0, 0.5, 1 / 32768]
    assert first.time_base == Fraction(1, 8000)
