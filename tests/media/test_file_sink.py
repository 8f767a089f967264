from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest

from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.colour import Colour, Matrix, colour_of
from comfystream.media.container import output_error
from comfystream.media.encoding import EncodeOptions
from comfystream.media.file_sink import AudioCopy, AudioEncode, FileSink, Written
from comfystream.media.file_source import FileSource
from comfystream.media.pattern import PatternSource, draw_pattern, read_counter
from comfystream.media.sound import AudioBuffers

FAST = EncodeOptions(preset="ultrafast", crf=18)


def transfer(source: Path, target: Path, audio: AudioCopy | AudioEncode | None = None) -> Written:
    given = FileSource(source, audio=isinstance(audio, AudioEncode))
    sink = FileSink(target, audio=audio, options=FAST)
    for frame in given.frames():
        sink.write(frame)
    return sink.finish()


def picture(number: int, size: tuple[int, int] = (128, 96), base: Fraction = Fraction(1, 30)) -> VideoFrame:
    return VideoFrame(number, number, base, draw_pattern(*size, number))


def sound_codec(path: Path) -> tuple[str, int, int]:
    with av.open(str(path)) as container:
        context = container.streams.audio[0].codec_context
        return context.name, context.sample_rate, context.channels


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm", "m4v"])
def test_copied_sound_stays_in_sync(talk: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"out.{ending}"
    written = transfer(talk, target, AudioCopy(talk))
    assert written.frames == 90
    assert written.size == target.stat().st_size
    assert written.audio == ("encoded" if ending == "webm" else "copied")
    assert [number for _, number in clips.counters(target)] == list(range(90))
    flashes, beeps = clips.flashes(target), clips.beeps(target)
    assert len(flashes) == len(beeps) == 3
    assert beeps == pytest.approx(flashes, abs=0.02)
    assert np.diff(flashes) == pytest.approx([1.0, 1.0], abs=0.002)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("mode", ["copy", "encode"])
def test_pictures_that_start_later_than_the_sound(tmp_path: Path, ending: str, mode: str) -> None:
    source = clips.make_clip(tmp_path / "in.mp4", count=60, audio="aac", video_late_s=0.5)
    target = tmp_path / f"out.{ending}"
    transfer(source, target, AudioCopy(source) if mode == "copy" else AudioEncode(48_000))
    assert clips.beeps(target)[1:3] == pytest.approx(clips.flashes(target)[1:3], abs=0.02)
    assert clips.flashes(target)[0] - clips.beeps(target)[0] == pytest.approx(0.5, abs=0.03)


def test_a_start_that_is_not_zero(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "in.ts", count=60, audio="aac", offset_s=3.3)
    target = tmp_path / "out.mp4"
    transfer(source, target, AudioCopy(source))
    assert clips.flashes(target) == pytest.approx([0, 1], abs=0.03)
    assert clips.beeps(target) == pytest.approx(clips.flashes(target), abs=0.02)


@pytest.mark.parametrize(("codec", "ending", "kept"), [("pcm_s16le", "mp4", False), ("pcm_s16le", "mkv", True)])
def test_sound_that_the_container_cannot_hold_is_encoded(tmp_path: Path, codec: str, ending: str, kept: bool) -> None:
    source = clips.make_clip(tmp_path / "in.mkv", count=60, audio=codec, audio_rate=44_100, layout="mono")
    target = tmp_path / f"out.{ending}"
    written = transfer(source, target, AudioCopy(source))
    assert written.audio == ("copied" if kept else "encoded")
    assert sound_codec(target)[:2] == (codec if kept else "aac", 44_100)
    assert clips.beeps(target) == pytest.approx(clips.flashes(target), abs=0.02)


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "aac"), ("webm", "opus")])
@pytest.mark.parametrize("rate", [44_100, 48_000, 16_000])
def test_processed_sound_is_stereo_and_in_sync(tmp_path: Path, ending: str, codec: str, rate: int) -> None:
    """Mono buffers of half a second, as an audio workflow gives them."""
    sink = FileSink(tmp_path / f"out.{ending}", audio=AudioEncode(rate), options=FAST)
    buffers = AudioBuffers(500, rate)
    for frame in PatternSource(128, 96, Fraction(30), 3.0, rate).frames():
        for out in [frame] if isinstance(frame, VideoFrame) else buffers.push(frame):
            sink.write(out)
    for rest in buffers.flush():
        sink.write(rest)
    assert sink.finish().audio == "encoded"
    assert sound_codec(sink_path := tmp_path / f"out.{ending}")[0] in (codec, f"lib{codec}")
    assert sound_codec(sink_path)[2] == 2
    assert clips.beeps(sink_path) == pytest.approx(clips.flashes(sink_path), abs=0.02)


def test_holes_in_processed_sound_become_silence(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    sink = FileSink(target, audio=AudioEncode(48_000), options=FAST)
    for frame in PatternSource(128, 96, Fraction(30), 3.0, 48_000).frames():
        if isinstance(frame, VideoFrame) or not 0.5 < frame.pts / 48_000 < 1.5:
            sink.write(frame)
    sink.finish()
    assert clips.beeps(target) == pytest.approx([0.0, 2.0], abs=0.02)


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    source = clips.portrait(tmp_path / "in.mp4")
    transfer(source, tmp_path / "out.mp4")
    expected = [(time / 600, number) for number, time in enumerate(clips.vfr_times(24))]
    for (time, number), (wanted, same) in zip(clips.counters(tmp_path / "out.mp4"), expected, strict=True):
        assert (number, time) == (same, pytest.approx(wanted, abs=1e-4))


def test_times_that_repeat_are_moved_apart(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out.mp4", options=FAST)
    for number, pts in enumerate([0, 1, 1, 1, 5]):
        sink.write(replace(picture(number), pts=pts, time_base=Fraction(1, 600)))
    sink.finish()
    assert [number for _, number in clips.counters(tmp_path / "out.mp4")] == [0, 1, 2, 3, 4]


def test_the_size_follows_the_first_picture_and_later_ones_are_fitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "out.mp4"
    sink = FileSink(target, options=FAST)
    for number in range(3):
        sink.write(picture(number, (256, 192)))
    for number in range(3, 6):
        sink.write(picture(number, (128, 96)))
    sink.finish()
    assert FileSource(target).info.video is not None
    assert [number for _, number in clips.counters(target)] == list(range(6))
    assert [r.getMessage() for r in caplog.records] == [
        "pictures changed from 256x192 to 128x96; they are fitted into 256x192"
    ]


@pytest.mark.parametrize(("codec", "ending"), [("libx264", "mp4"), ("libvpx-vp9", "webm"), ("libvpx", "webm")])
def test_odd_sizes_become_even(tmp_path: Path, codec: str, ending: str) -> None:
    target = tmp_path / f"out.{ending}"
    sink = FileSink(target, options=replace(FAST, codec=codec))
    for number in range(3):
        sink.write(picture(number, (127, 95)))
    sink.finish()
    video = FileSource(target).info.video
    assert video is not None
    assert (video.width, video.height) == (128, 96)
    assert [number for _, number in clips.counters(target)] == [0, 1, 2]


@pytest.mark.parametrize("format", ["rgb24", "gray", "yuv420p10le", "yuvj420p", "nv12", "yuv444p"])
def test_any_pixel_format_can_be_written(tmp_path: Path, format: str) -> None:
    target = tmp_path / "out.mp4"
    sink = FileSink(target, options=FAST)
    for number in range(2):
        frame = picture(number)
        sink.write(replace(frame, image=frame.image.reformat(format=format)))
    sink.finish()
    assert [number for _, number in clips.counters(target)] == [0, 1]


@pytest.mark.parametrize("colour", [Colour(m, f) for m in (Matrix.BT601, Matrix.BT709) for f in (False, True)], ids=str)
@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_colour_tags_reach_the_file(tmp_path: Path, colour: Colour, ending: str) -> None:
    target = tmp_path / f"out.{ending}"
    sink = FileSink(target, options=FAST)
    frame = picture(7)
    frame.image.colorspace, frame.image.color_range = colour.tags
    sink.write(frame)
    sink.finish()
    came = next(iter(FileSource(target).frames()))
    assert isinstance(came, VideoFrame)
    assert colour_of(came.image) == colour
    assert read_counter(came.image) == 7


def test_writing_leaves_the_frame_as_it_was(tmp_path: Path) -> None:
    """Several sinks may encode one picture at the same time."""
    frame = picture(3)
    frame.image.pts, frame.image.time_base = 1234, Fraction(1, 1000)
    sink = FileSink(tmp_path / "out.mp4", options=FAST)
    sink.write(frame)
    sink.finish()
    assert (frame.image.pts, frame.image.time_base) == (1234, Fraction(1, 1000))


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    sink = FileSink(target, options=FAST)
    for number in range(10):
        sink.write(picture(number))
        assert not target.exists()
    sink.finish()
    assert list(tmp_path.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out.mp4", options=FAST)
    sink.write(picture(0))
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_a_playable_file(talk: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    sink = FileSink(target, audio=AudioCopy(talk), options=FAST)
    for number, frame in enumerate(FileSource(talk).frames()):
        if number == 40:
            break
        sink.write(frame)
    written = sink.keep_partial()
    assert written.frames == len(clips.counters(target)) == 40
    assert clips.beeps(target) == pytest.approx([0, 1], abs=0.02)
    with av.open(str(target)) as container:
        assert container.duration / av.time_base == pytest.approx(40 / 30, abs=0.06)


@pytest.mark.parametrize("end", ["finish", "keep_partial"])
def test_no_picture_no_file(tmp_path: Path, end: str) -> None:
    sink = FileSink(tmp_path / "out.mp4")
    with pytest.raises(MediaError, match="no picture came out"):
        getattr(sink, end)()
    assert list(tmp_path.iterdir()) == []


def test_sound_alone(tmp_path: Path) -> None:
    for name in ("out.wav", "out.m4a"):
        sink = FileSink(tmp_path / name, audio=AudioEncode(16_000))
        for frame in PatternSource(64, 64, Fraction(10), 1.5, 16_000).frames():
            if isinstance(frame, AudioFrame):
                sink.write(frame)
        sink.finish()
        assert clips.beeps(tmp_path / name) == pytest.approx([0, 1], abs=0.03)
        with pytest.raises(MediaError, match="hold no pictures"):
            FileSink(tmp_path / name, overwrite=True).write(picture(0))


def test_names_that_cannot_be_written(tmp_path: Path, talk: Path) -> None:
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"mine")
    cases = {
        tmp_path / "out.xyz": r'cannot write ".xyz" files',
        tmp_path / "out": "no file name ending",
        tmp_path / "missing" / "out.mp4": "is not a folder",
        taken: "exists already",
    }
    for path, words in cases.items():
        with pytest.raises(MediaError, match=words):
            FileSink(path)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(MediaError, match="is a folder"):
        FileSink(tmp_path / "folder.mp4")
    with pytest.raises(MediaError, match="is the input itself"):
        FileSink(talk, audio=AudioCopy(talk), overwrite=True)
    with pytest.raises(MediaError, match="is the input itself"):
        FileSink(talk, source=talk, overwrite=True)
    with pytest.raises(MediaError, match="libvpx does not go into .mp4"):
        FileSink(tmp_path / "out.mp4", options=EncodeOptions(codec="libvpx"))
    assert taken.read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.mp4", "taken.mp4"]


def test_a_file_that_is_there_is_replaced_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"mine")
    sink = FileSink(target, options=FAST, overwrite=True)
    sink.write(picture(0))
    assert target.read_bytes() == b"mine"
    sink.finish()
    assert len(clips.counters(target)) == 1


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that even root cannot write to")
def test_a_folder_without_permission() -> None:
    with pytest.raises(MediaError, match=r"/sys/kernel/out\.mp4 cannot be written: "):
        FileSink("/sys/kernel/out.mp4")


FILL = """
import resource, sys
from fractions import Fraction
from comfystream.errors import MediaError
from comfystream.media.encoding import EncodeOptions
from comfystream.media.file_sink import FileSink
from comfystream.media.pattern import PatternSource
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sink = FileSink(sys.argv[1], options=EncodeOptions(crf=1, preset="ultrafast"))
try:
    for frame in PatternSource(320, 240, Fraction(30), 10.0).frames():
        sink.write(frame)
    sink.finish()
except MediaError as error:
    print(error.code, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the file size are POSIX")
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_disk_that_fills_up(tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"out.{ending}"
    run = subprocess.run([sys.executable, "-c", FILL, target], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.startswith(f"disk_full {target}: no space left")
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_says_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    assert "no space left on the disk" in str(output_error(path, OSError(errno.ENOSPC, "No space left on device")))
    other = output_error(path, OSError(errno.EIO, "Input/output error"))
    assert str(other) == f"{path} cannot be written: Input/output error"


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm"])
def test_a_workflow_that_gives_no_sound_after_all(tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"out.{ending}"
    sink = FileSink(target, audio=AudioEncode(48_000), options=FAST)
    for number in range(3):
        sink.write(picture(number))
    sink.finish()
    assert [number for _, number in clips.counters(target)] == [0, 1, 2]


def test_copying_the_sound_of_a_silent_file(tmp_path: Path) -> None:
    source = clips.portrait(tmp_path / "in.mp4")
    assert transfer(source, tmp_path / "out.mp4", AudioCopy(source)).audio == ""
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio
