"""The two ends of a file job, opened as its workflow and its options want them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from comfystream.clock import Clock
from comfystream.errors import MediaError
from comfystream.media.adapted import Paced, Resampled, Resized
from comfystream.media.container import first_audio, first_video, open_input
from comfystream.media.encoding import EncodeOptions, kind_of
from comfystream.media.file_sink import AudioCopy, AudioEncode, FileSink
from comfystream.media.file_source import FileSource
from comfystream.media.image_sink import ImageSequenceSink, is_image_pattern
from comfystream.media.scale import SizeMode
from comfystream.media.source import Source
from comfystream.media.text_sink import TextSink
from comfystream.session.options import FileJobOptions
from comfystream.session.routes import Routes, Way, check_source, routes
from comfystream.workflow.bind import Bindings

__all__ = ["Ends", "Sink", "open_ends"]

Sink = FileSink | ImageSequenceSink
CLOCK_SIZE = (512, 512)


@dataclass(frozen=True, slots=True)
class Ends:
    """What a job reads and writes.

    Attributes:
        source: None for a workflow that ticks by itself.
        sink: None when only text is wanted.
        texts: side files by the id of the node whose text goes there.
        routes: which stream goes which way.
        size: of the pictures to come.
        total_s: media time that will be read or made; None when unknown.
    """

    source: Source | None
    sink: Sink | None
    texts: Mapping[str, TextSink]
    routes: Routes
    size: tuple[int, int]
    total_s: float | None

    def close(self) -> None:
        """Let go of the source. Idempotent."""
        if self.source is not None:
            self.source.close()


def open_ends(options: FileJobOptions, bindings: Bindings, clock: Clock) -> Ends:
    """Open all files, or none.

    Raises:
        MediaError: a file that cannot be read or written, or has not what the workflow needs.
        ConfigError: options that do not go with the workflow.
    """
    takes = {live.modality for live in bindings.inputs}
    check_source(takes, options.source is not None)
    has_video, has_audio = _streams(options.source)
    ways = routes(
        takes,
        {live.modality for live in bindings.outputs},
        has_video=has_video and _holds_pictures(options.target),
        has_audio=has_audio,
        writes=options.target is not None,
    )
    with contextlib.ExitStack() as undo:
        source = _open_source(options, ways, clock)
        if source is not None:
            undo.callback(source.close)
        sink = _open_sink(options, ways, source)
        if sink is not None:
            undo.callback(sink.abort)
        texts = _open_texts(options, bindings, undo)
        undo.pop_all()
    video = source.info.video if source is not None else None
    size = (video.width, video.height) if video is not None else options.size or CLOCK_SIZE
    return Ends(source, sink, texts, ways, size, _total_s(options, source))


def _streams(file: Path | None) -> tuple[bool, bool]:
    """Whether a file has pictures and sound."""
    if file is None:
        return False, False
    with open_input(file) as container:
        return first_video(container) is not None, first_audio(container) is not None


def _holds_pictures(target: Path | None) -> bool:
    """Whether pictures can go into the result (they cannot into .wav)."""
    return target is None or is_image_pattern(target) or bool(kind_of(target).video)


def _open_source(options: FileJobOptions, ways: Routes, clock: Clock) -> Source | None:
    if options.source is None:
        return None
    source: Source = FileSource(options.source, video=ways.reads_video, audio=ways.reads_audio, decoder=options.decoder)
    if ways.reads_video and options.size is not None:
        source = Resized(source, options.size, SizeMode(options.fit))
    if ways.reads_video and options.fps is not None:
        source = Resampled(source, options.fps)
    return Paced(source, clock) if options.realtime else source


def _open_sink(options: FileJobOptions, ways: Routes, source: Source | None) -> Sink | None:
    target = options.target
    if target is None:
        return None
    if is_image_pattern(target):
        return ImageSequenceSink(target, overwrite=options.overwrite)
    if ways.video is Way.NONE and kind_of(target).video:
        raise MediaError(f"{target}: the result has no pictures", code="no_pictures", hint="for sound use .m4a or .wav")
    return FileSink(
        target,
        audio=_sound(options, ways, source),
        options=EncodeOptions(crf=options.crf, preset=options.preset),
        fps=_fps(options, source),
        overwrite=options.overwrite,
        source=options.source,
    )


def _sound(options: FileJobOptions, ways: Routes, source: Source | None) -> AudioCopy | AudioEncode | None:
    if ways.audio is Way.SOURCE and options.source is not None:
        return AudioCopy(options.source)
    if ways.audio is not Way.GRAPH:
        return None
    heard = source.info.audio if source is not None else None
    return AudioEncode(heard.sample_rate) if heard is not None else AudioEncode()


def _fps(options: FileJobOptions, source: Source | None) -> Fraction:
    video = source.info.video if source is not None else None
    return video.fps if video is not None else options.clock_fps


def _open_texts(options: FileJobOptions, bindings: Bindings, undo: contextlib.ExitStack) -> dict[str, TextSink]:
    """A file for each node that puts out text."""
    texts: dict[str, TextSink] = {}
    nodes = [live.node_id for live in bindings.outputs_of("text")]
    for node_id, file in zip(nodes, options.text_files(nodes), strict=True):
        texts[node_id] = TextSink(file, overwrite=options.overwrite)
        undo.callback(texts[node_id].abort)
    return texts


def _total_s(options: FileJobOptions, source: Source | None) -> float | None:
    """How much media time will be read or made."""
    if source is None:
        return options.clock_ticks() / float(options.clock_fps)
    limits = [source.info.duration_s, options.duration_s]
    if options.frames is not None and source.info.video is not None:
        limits.append(options.frames / float(source.info.video.fps))
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None
