"""`bench file`: a video file through a workflow, beside a loop that only decodes and encodes it."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.video.stream import VideoStream

from comfystream.engine.events import Activated, Event
from comfystream.engine.protocol import Engine, EngineOptions
from comfystream.session.file_job import FileJob
from comfystream.session.options import FileJobOptions
from comfystream.workflow.model import Workflow

from .engines import KINDS, opened
from .graphs import live
from .pictures import pictures
from .rows import Goal, Row

__all__ = ["bench_file"]

FPS = 30
SIZES = {(512, 512): "1.6M", (1280, 720): "3.2M"}
PRESET = "ultrafast"
CRF = 20
GRAPHS = {"pass-through": live(), "ImageInvert": live(("ImageInvert", {}))}
FPS_GOALS = {"pass-through": Goal("ratio", 0.85, at_least=True)}
CPU_GOALS = {"ImageInvert": Goal("ratio", 2.5)}
LOOPS = {"bare loop, auto threads": 0, "bare loop, 1 thread": 1}


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of one pass over a clip, from the first encoded frame on."""

    fps: float
    cpu_ms: float


class _Stopwatch:
    """Runs from the first frame to the end of a pass; the clock on the wall, and the processor time of all threads."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """The first frame is done."""
        self._wall, self._cpu = time.perf_counter_ns(), time.process_time_ns()

    def stop(self, frames: int) -> _Cost:
        """The file is complete."""
        wall, cpu = time.perf_counter_ns() - self._wall, time.process_time_ns() - self._cpu
        return _Cost((frames - 1) * 1e9 / wall, cpu / (frames - 1) / 1e6)


def bench_file(*, frames: int = 300, rounds: int = 5) -> Iterator[Row]:
    """Clips of two sizes, H.264 in and out; all contestants take turns in each round.

    Args:
        frames: length of a clip.
        rounds: passes per contestant; medians are given.
    """
    with (
        tempfile.TemporaryDirectory(prefix="comfystream-bench-") as folder,
        opened(KINDS[0], EngineOptions(threads=1)) as engine,
    ):
        for size, bit_rate in SIZES.items():
            clip = Path(folder) / "clip.mp4"
            _write_clip(clip, size, bit_rate, frames)
            yield from _rows(f"{size[0]}x{size[1]}", _measure(engine, clip, frames, rounds))


def _rows(size: str, found: dict[str, _Cost]) -> Iterator[Row]:
    for graph in GRAPHS:
        ours, case = found[graph], f"{graph} {size}"
        for loop, threads in LOOPS.items():
            theirs = found[loop]
            same_settings = threads == 0
            fps_goal = FPS_GOALS.get(graph) if same_settings else None
            cpu_goal = CPU_GOALS.get(graph) if same_settings else None
            yield Row("file", case, "speed", "fps", ours.fps, theirs.fps, loop, fps_goal)
            yield Row("file", case, "processor time per frame", "ms", ours.cpu_ms, theirs.cpu_ms, loop, cpu_goal)


def _measure(engine: Engine, clip: Path, frames: int, rounds: int) -> dict[str, _Cost]:
    contestants: dict[str, Callable[[], _Cost]] = {
        **{name: _bare(clip, threads, frames) for name, threads in LOOPS.items()},
        **{name: _job(engine, workflow, clip, frames) for name, workflow in GRAPHS.items()},
    }
    taken: dict[str, list[_Cost]] = {name: [] for name in contestants}
    names = [*contestants]
    for turn in range(rounds):
        for i in range(len(names)):
            name = names[(turn + i) % len(names)]
            taken[name].append(contestants[name]())
    return {
        name: _Cost(statistics.median(cost.fps for cost in costs), statistics.median(cost.cpu_ms for cost in costs))
        for name, costs in taken.items()
    }


def _job(engine: Engine, workflow: Workflow, clip: Path, frames: int) -> Callable[[], _Cost]:
    """What `comfystream run` does."""
    target = clip.with_name("ours.mp4")
    options = FileJobOptions(source=clip, target=target, overwrite=True, crf=CRF, preset=PRESET)

    def run() -> _Cost:
        watch = _Stopwatch()

        def hear(event: Event) -> None:
            if isinstance(event, Activated):
                watch.start()

        result = FileJob(engine, workflow, options, on_event=hear).run()
        assert result.frames == frames
        return watch.stop(frames)

    return run


def _bare(clip: Path, threads: int, frames: int) -> Callable[[], _Cost]:
    """Decode and encode with the same settings, on one thread except for what the codecs do themselves."""
    target = clip.with_name("bare.mp4")

    def run() -> _Cost:
        watch = _Stopwatch()
        with av.open(str(clip)) as source, av.open(str(target), "w", options={"movflags": "+faststart"}) as sink:
            video = source.streams.video[0]
            video.thread_type = "AUTO"
            video.codec_context.thread_count = threads
            out = _add_video(sink, (video.width, video.height), {"preset": PRESET, "crf": str(CRF)}, threads)
            for i, image in enumerate(source.decode(video)):
                image.pict_type = 0
                sink.mux(out.encode(image))
                if i == 0:
                    watch.start()
            sink.mux(out.encode(None))
        return watch.stop(frames)

    return run


def _add_video(sink: Any, size: tuple[int, int], options: dict[str, str], threads: int) -> VideoStream:
    stream = cast(VideoStream, sink.add_stream("libx264", rate=FPS, options=options))
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = threads
    stream.codec_context.time_base = Fraction(1, FPS)
    return stream


def _write_clip(path: Path, size: tuple[int, int], bit_rate: str, frames: int) -> None:
    """A moving test card: a key frame per second, no frames out of order."""
    with av.open(str(path), "w") as sink:
        options = {"preset": "veryfast", "b": bit_rate, "g": str(FPS), "bf": "0"}
        out = _add_video(sink, size, options, 0)
        for image in pictures(*size, frames, FPS):
            sink.mux(out.encode(image))
        sink.mux(out.encode(None))
