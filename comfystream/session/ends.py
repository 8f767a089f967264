"""The two ends of a file job, opened as its workflow and its options want them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from comfystream.clock import Clock
from comfystream.media.adapted import Paced, Resampled, Resized
from comfystream.media.container import first_audio, first_video, open_input
from comfystream.media.file_sink import FileSink
from comfystream.media.file_source import FileSource
from comfystream.media.scale import SizeMode
from comfystream.media.source import Source
from comfystream.session.options import FileJobOptions
from comfystream.session.ports import Sink, TextSink
from comfystream.session.routes import Routes, Way, check_source, routes
from comfystream.workflow.bind import Bindings

__all__ = ["Ends", "open_ends"]


@dataclass(slots=True)
class Ends:
    source: Source | None
    sink: Sink | None
    routes: Routes
    size: tuple[int, int]
    total_s: float | None
    open_text: Callable[[str], TextSink] | None = None
    text_files: list[Path] = field(default_factory=list)

    def texts(self) -> tuple[Path, ...]:
        return tuple(self.text_files)

    def close(self) -> None:
        if self.source is not None:
            self.source.close()


def open_ends(options: FileJobOptions, bindings: Bindings, clock: Clock) -> Ends:
    takes = {live.modality for live in bindings.inputs}
    gives = {live.modality for live in bindings.outputs}
    check_source(takes, options.source is not None)
    if options.source is None:
        ways = routes(takes, gives, has_video=False, has_audio=False)
        total_s = options.clock_ticks() / float(options.clock_fps)
        return Ends(None, FileSink(options.target, fps=options.clock_fps), ways, options.size or (512, 512), total_s)
    has_video, has_audio = _streams(options.source)
    ways = routes(takes, gives, has_video=has_video, has_audio=has_audio, changes_pictures=options.changes_pictures)
    source = _open_source(options.source, ways, options, clock)
    video = source.info.video
    size = (video.width, video.height) if video is not None else (512, 512)
    return Ends(source, FileSink(options.target, fps=30), ways, size, _total_s(source, options))


def _streams(file: Path) -> tuple[bool, bool]:
    """Whether a file has pictures and sound."""
    with open_input(file) as container:
        return first_video(container) is not None, first_audio(container) is not None


def _open_source(file: Path, ways: Routes, options: FileJobOptions, clock: Clock) -> Source:
    source: Source = FileSource(file, video=ways.reads_video, audio=ways.reads_audio)
    if ways.reads_video and options.size is not None:
        source = Resized(source, options.size, SizeMode(options.fit))
    if ways.reads_video and options.fps is not None:
        source = Resampled(source, options.fps)
    return Paced(source, clock) if options.realtime else source


def _total_s(source: Source, options: FileJobOptions) -> float | None:
    """How much media time will be read."""
    info = source.info
    limits = [info.duration_s, options.duration_s]
    if options.frames is not None and info.video is not None:
        limits.append(options.frames / float(info.video.fps))
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None
