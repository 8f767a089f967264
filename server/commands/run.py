"""`comfystream run`: a file through a workflow."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from comfystream.errors import ConfigError

from ..comfyui_flags import LoadingFlags
from ..engine_flags import FramesFlags
from ..faults import BAD_INPUT, INTERRUPTED, Reported, say_all, say_error, say_note
from ..flags import grouped

if TYPE_CHECKING:
    from comfystream.engine.protocol import Engine
    from comfystream.session.options import FileJobOptions
    from comfystream.session.result import FileResult
    from comfystream.workflow.model import Workflow

__all__ = ["run"]


class Fit(StrEnum):
    """How a picture gets into another shape."""

    FIT = "fit"
    FILL = "fill"
    STRETCH = "stretch"


class OnError(StrEnum):
    """What is written for a frame whose node raised."""

    STOP = "stop"
    HOLD = "hold"
    SLATE = "slate"
    PASSTHROUGH = "passthrough"


class Where(StrEnum):
    """Where the engine runs."""

    THREAD = "thread"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class FileFlags:
    """What is read and written."""

    PANEL: ClassVar = "Input and output"

    input: Annotated[Path | None, typer.Option("-i", "--input", metavar="FILE", help="Video or sound to read.")] = None
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write.")] = None
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where text goes: .srt, .vtt or .jsonl.")
    ] = None
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures as JSON.")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", "-y", help="Replace files that exist.")] = False
    keep_partial: Annotated[
        bool, typer.Option("--keep-partial", help="Keep what a broken input still gives.")
    ] = False
    duration: Annotated[
        float | None, typer.Option("--duration", "-t", metavar="SECONDS", min=0.001, help="Stop after so long.")
    ] = None
    frames: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after N pictures.")] = None


@dataclass(frozen=True, slots=True)
class PictureFlags:
    """What pictures become on the way in, and how they are encoded."""

    PANEL: ClassVar = "Picture"

    size: Annotated[str, typer.Option(metavar="WxH", help="Bring pictures to this size first.")] = ""
    fit: Annotated[Fit, typer.Option(help="With --size: bars, cut off, or distort.")] = Fit.FIT
    fps: Annotated[str, typer.Option(metavar="N", help="Constant frame rate: 24 or 30000/1001.")] = ""
    crf: Annotated[int | None, typer.Option(metavar="N", min=0, max=51, help="x264 quality, 0 is best.")] = None
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="x264 speed, ultrafast to veryslow.")] = None


@dataclass(frozen=True, slots=True)
class RunFlags:
    """How the workflow is run."""

    PANEL: ClassVar = "How it runs"

    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NODE.INPUT=VALUE", help="Change a value; NODE: id, title or class."),
    ] = None
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Pace the input like a camera; drop when too slow.")
    ] = False
    on_error: Annotated[OnError, typer.Option(help="When a node fails.")] = OnError.STOP
    engine: Annotated[Where, typer.Option(help="In this process, or one of its own.")] = Where.THREAD
    nodes: Annotated[list[Path] | None, typer.Option(metavar="FOLDER", help="Folder of custom node packs.")] = None
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="Threads of torch; 0 chooses.")] = 0
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False


@grouped
def run(
    workflow: Annotated[Path, typer.Argument(help="API or editor JSON, or a PNG or WebP that ComfyUI saved.")],
    *,
    files: FileFlags,
    picture: PictureFlags,
    how: RunFlags,
    frames: FramesFlags,
    comfyui: LoadingFlags,
) -> None:
    """Run a file through a workflow.

    Reads a video (or sound), runs the workflow on every frame, writes the result with the sound in sync, and prints
    where the time went.
    """
    from ..loading import read_early

    early = read_early(workflow)
    options = _job_options(files, picture, how, frames)
    _check_paths(options, files.report)
    hosted = _open_engine(how, frames, comfyui)
    try:
        ready = _ready(hosted, workflow, early, how.set_ or [])
        _go(hosted, ready, options, files.report, is_quiet=how.quiet)
    finally:
        hosted.close()


def _job_options(files: FileFlags, picture: PictureFlags, how: RunFlags, frames: FramesFlags) -> FileJobOptions:
    from comfystream.engine.protocol import FailPolicy
    from comfystream.session.options import FileJobOptions

    return FileJobOptions(
        source=files.input,
        target=files.output,
        text=files.text,
        size=parse_size(picture.size) if picture.size else None,
        fit=picture.fit.value,
        fps=parse_fps(picture.fps) if picture.fps else None,
        duration_s=files.duration,
        frames=files.frames,
        realtime=how.realtime,
        on_error=FailPolicy(how.on_error.value),
        overwrite=files.overwrite,
        keep_partial=files.keep_partial,
        crf=picture.crf,
        preset=picture.preset,
        decoder=frames.decoder.value if frames.decoder else "software",
    )


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from "1280x720".

    Raises:
        ConfigError: it is not of that form, or odd, or out of range.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f'--size "{text}" is no size', hint="write it as WIDTHxHEIGHT, such as 1280x720")
    size = int(width), int(height)
    if any(side % 2 or not 16 <= side <= 8192 for side in size):
        raise ConfigError(f"--size {text} cannot be encoded", hint="both sides even, 16 to 8192")
    return size


def parse_fps(text: str) -> Fraction:
    """A frame rate from "25", "29.97" or "30000/1001".

    Raises:
        ConfigError: it is no number, or out of range.
    """
    try:
        fps = Fraction(text).limit_denominator(100_000)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f'--fps "{text}" is no frame rate', hint="such as 24, 29.97 or 30000/1001") from None
    if not Fraction(1, 100) <= fps <= 1000:
        raise ConfigError(f"--fps {text} is out of range", hint="0.01 to 1000")
    return fps


def _check_paths(options: FileJobOptions, report: Path | None) -> None:
    if options.target is None and options.text is None:
        raise ConfigError("there is no output", code="no_output", hint="name it: -o FILE")
    for path in filter(None, (options.target, options.text, report)):
        if options.source is not None and path.exists() and options.source.exists() and path.samefile(options.source):
            raise ConfigError(f"{path} is the input itself", code="same_file", hint="write to another file")
        if path.is_dir():
            raise ConfigError(f"{path} is a folder", code="is_folder", hint="name a file in it")
        if path.exists() and not options.overwrite and path is not report:
            raise ConfigError(f"{path} exists already", code="file_exists", hint="--overwrite replaces it")
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent}", code="no_folder", hint=f"mkdir -p {path.parent}")


def _open_engine(how: RunFlags, frames: FramesFlags, comfyui: LoadingFlags) -> Engine:
    from comfystream.catalog.standin import Folders
    from comfystream.engine.protocol import EngineOptions

    from ..loading import comfyui_options, open_engine, pack_folders, threads_beside_codecs
    from ..workspace import find_workspace, own_packs

    base = find_workspace(comfyui=comfyui.comfyui)
    checkout = comfyui_options(comfyui.comfyui, api_nodes=not comfyui.no_api_nodes, vram=comfyui.vram)
    options = EngineOptions(
        pack_folders=pack_folders([*(how.nodes or []), *own_packs(base, checkout)]),
        folders=Folders(base=str(base)),
        threads=how.threads or threads_beside_codecs(),
        comfyui=checkout,
        frames_on=frames.frames_on.value if frames.frames_on else "auto",
        allow_packs=tuple(comfyui.allow_pack or ()),
        block_packs=tuple(comfyui.block_pack or ()),
    )
    return open_engine(how.engine.value, options)


def _ready(engine: Engine, file: Path, early: Workflow | None, targets: list[str]) -> Workflow:
    """The workflow as it will run; what is wrong with it is said, all of it."""
    from ..loading import catalog_of, place, read_with, with_values

    catalog = catalog_of(engine)
    workflow = with_values(read_with(catalog, file, early), catalog, targets)
    problems = engine.check(workflow)
    errors = [problem for problem in problems if problem.is_error]
    if errors:
        say_all(place(problem, workflow.source) for problem in errors)
        raise Reported(BAD_INPUT)
    for problem in problems:
        say_note(f"warning: {place(problem, workflow.source)}")
    return workflow


def _go(engine: Engine, workflow: Workflow, options: FileJobOptions, report: Path | None, *, is_quiet: bool) -> None:
    from rich.console import Console

    from comfystream.engine.protocol import FailPolicy
    from comfystream.session.file_job import FileJob

    from ..display import open_display, wide_console
    from ..events import EventLines
    from ..summary import show_summary

    console = Console(stderr=True)
    with open_display(console, is_quiet=is_quiet) as display:
        lines = EventLines(console, stops=options.on_error is FailPolicy.STOP)
        result = FileJob(engine, workflow, options, on_progress=display.show, on_event=lines.show).run()
    if report is not None:
        from ..report import write_report

        write_report(report, workflow, options, result)
    if not is_quiet:
        show_summary(wide_console(), result)
    _say_how_it_ended(result)


def _say_how_it_ended(result: FileResult) -> None:
    name = result.target or ", ".join(map(str, result.texts))
    if result.interrupted:
        say_note(f"stopped by Ctrl-C; {name} has the first {result.duration_s:.1f} s and is a complete, playable file")
        raise Reported(INTERRUPTED)
    if result.broken:
        say_error(f"{result.broken}; {name} has what could be read ({result.duration_s:.1f} s)")
        raise Reported(BAD_INPUT)
