"""Recordings of live frames: what a killed process leaves, a full disk, sizes that change, times as they were."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from engine_harness import picture

from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.fragments import cut_torn_end, whole_bytes
from comfystream.media.live_mux import LiveMux, MuxOptions
from comfystream.media.live_timeline import LiveTimeline
from comfystream.media.live_writer import RecordWriter

SECOND = 1_000_000_000


def shot(at_s: float, value: int = 128, **size: int) -> VideoFrame:
    return VideoFrame(0, round(at_s * 1000), Fraction(1, 1000), picture(value, **{"width": 64, "height": 48, **size}))


def tone(at_s: float, value: float = 0.0) -> AudioFrame:
    samples = np.sin(np.arange(960) / 12)[None].astype(np.float32) * value
    return AudioFrame(0, round(at_s * 48_000), Fraction(1, 48_000), samples, 48_000)


def written(path: Path, frames: list[VideoFrame | AudioFrame], expects: tuple[str, ...] = ()) -> RecordWriter:
    writer = RecordWriter(path, frozenset(expects))
    for frame in frames:
        writer.write(frame, int(frame.pts * frame.time_base * SECOND))
    writer.finish()
    writer.close()
    return writer


def pictures_of(path: Path) -> list[tuple[float, Any]]:
    """What a player shows, up to where the file breaks off."""
    found: list[tuple[float, Any]] = []
    with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
        for frame in container.decode(video=0):
            found.append((float(frame.time), frame.to_ndarray(format="rgb24")))
    return found


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [10.0, 10.04, 10.05, 10.3, 11.3, 11.34]
    written(tmp_path / "a.mp4", [shot(at_s) for at_s in times])
    shown = [at_s for at_s, _ in pictures_of(tmp_path / "a.mp4")]
    assert shown == pytest.approx([at_s - 10 for at_s in times], abs=2e-3)


def test_another_size_is_fitted_into_the_first(tmp_path: Path) -> None:
    written(tmp_path / "a.mp4", [shot(0, 200), shot(0.04, 200), shot(0.08, 200, width=48, height=96)])
    first, _, last = (pixels for _, pixels in pictures_of(tmp_path / "a.mp4"))
    assert first.shape == last.shape == (48, 64, 3)
    assert last[24, 32, 0] == pytest.approx(200, abs=8)
    assert last[24, 4].max() < 20  # the bar at its side


def test_odd_sizes_and_one_picture(tmp_path: Path) -> None:
    written(tmp_path / "a.mp4", [shot(0, 200, width=33, height=17)])
    assert pictures_of(tmp_path / "a.mp4")[0][1].shape == (18, 34, 3)


def test_nothing_written_leaves_no_file(tmp_path: Path) -> None:
    written(tmp_path / "a.mp4", [])
    assert not (tmp_path / "a.mp4").exists()


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("mine")
    with pytest.raises(MediaError, match="exists already"):
        RecordWriter(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_text() == "mine"


def test_key_frames_come_every_two_seconds(tmp_path: Path) -> None:
    written(tmp_path / "a.mp4", [shot(number / 10) for number in range(70)])
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe]
    assert keys == pytest.approx([0, 2, 4, 6], abs=0.01)


CHILD = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from test_live_writer import shot, tone, RecordWriter, SECOND
writer = RecordWriter(Path(sys.argv[1]))
for number in range(100_000):
    at_s = number / 50
    writer.write(tone(at_s, 0.5), int(at_s * SECOND))
    if number % 2 == 0:
        writer.write(shot(at_s, 40 + number % 100), int(at_s * SECOND))
    if number == 400:
        print("eight seconds", flush=True)
        time.sleep(60)
"""


def test_a_killed_process_leaves_what_it_wrote(tmp_path: Path) -> None:
    here = Path(__file__).parent
    script = CHILD.format(paths=[str(here), str(here.parent / "support")])
    path = tmp_path / "a.mp4"
    command = [sys.executable, "-P", "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "eight seconds\n"
        process.send_signal(signal.SIGKILL)
    times = [at_s for at_s, _ in pictures_of(path)]
    assert times[-1] > 5.9
    assert np.diff(times) == pytest.approx(np.full(len(times) - 1, 0.04), abs=2e-3)
    with av.open(str(path)) as container:
        heard_s = sum(frame.samples for frame in container.decode(audio=0)) / 48_000
    assert heard_s > 5.9


def test_a_full_disk_says_so_and_keeps_what_fitted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = RecordWriter(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    rng = np.random.default_rng(1)

    def fill() -> None:
        for number in range(1000):
            noise = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8), "rgb24")
            writer.write(VideoFrame(0, number * 40, Fraction(1, 1000), noise), number * 40_000_000)

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        with pytest.raises(MediaError, match="no space left") as caught:
            fill()
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.code == "disk_full"
    assert "a.mp4" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert len(pictures_of(path)) > 20
    assert whole_bytes(path) == path.stat().st_size  # no torn fragment at its end
    with av.open(str(path)) as container:  # and nothing that a player complains about
        assert len([*container.decode(video=0)]) == len(pictures_of(path))


@pytest.mark.parametrize("cut", [1, 100])
def test_a_torn_fragment_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.mp4"
    written(path, [shot(number / 10) for number in range(50)])
    every = len(pictures_of(path))
    whole = whole_bytes(path)
    with path.open("r+b") as file:
        file.truncate(whole - cut)
    left = cut_torn_end(path)
    assert 0 < left == path.stat().st_size < whole - cut
    with av.open(str(path)) as container:
        assert every - 25 < len([*container.decode(video=0)]) < every


def test_a_file_without_a_whole_fragment_has_nothing_left(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    written(path, [shot(number / 10) for number in range(3)])
    with path.open("r+b") as file:
        file.truncate(600)
    assert cut_torn_end(path) == 0


def test_another_source_goes_on_where_the_last_one_was() -> None:
    timeline = LiveTimeline()
    assert timeline.at(VideoFrame, Fraction(100), 0) == 0
    assert timeline.at(AudioFrame, Fraction(100), 0) == 0
    assert timeline.at(VideoFrame, Fraction(101), SECOND) == 1
    assert timeline.at(VideoFrame, Fraction(5), 2 * SECOND) == 2  # another source
    assert timeline.at(AudioFrame, Fraction(102), 2 * SECOND) == 2  # sound of the old one that was on its way
    assert timeline.at(AudioFrame, Fraction(6), 3 * SECOND) == 3  # and of the new one, in step with its pictures
    assert timeline.at(VideoFrame, Fraction(6), 3 * SECOND) == 3


def test_a_pause_is_as_long_as_it_was() -> None:
    timeline = LiveTimeline()
    assert timeline.at(VideoFrame, Fraction(0), 0) == 0
    assert timeline.at(VideoFrame, Fraction(60), 60 * SECOND) == 60
    assert timeline.at(VideoFrame, Fraction(3600), 61 * SECOND) == 61  # a jump that the clock knows nothing of


class Sink:
    def write(self, data: bytes) -> int:
        return len(data)


def test_sound_that_never_comes_is_silence_where_it_is_wanted() -> None:
    mux = LiveMux(Sink(), MuxOptions("flv", has_silence=True))
    for number in range(100):
        mux.write(shot(number / 25), number * SECOND // 25)
    mux.finish()
    assert mux.frames == 100
    assert mux.left_out == 0
