"""What `doctor` looks at. Each check tries the thing itself, and says in plain words what it found."""

from __future__ import annotations

import importlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from comfystream.catalog.comfyui import is_comfyui
from comfystream.catalog.comfyui import version_of as comfyui_version
from comfystream.media.push_target import FORMATS

from .machine import version_of

__all__ = ["Finding", "Verdict", "encodes_picture", "encodes_sound", "examine", "show"]

OLDEST_PYTHON = (3, 11)
PICTURE_ENCODERS = ("libx264", "libvpx-vp9", "h264_nvenc", "hevc_nvenc", "av1_nvenc")
SOUND_ENCODERS = ("aac", "libopus", "libmp3lame", "flac")
NEEDED = ("libx264", "aac")


class Verdict(StrEnum):
    """How it stands with one thing."""

    GOOD = "good"
    MISSING = "missing"  # something optional
    BAD = "bad"  # something needed


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    name: str
    verdict: Verdict
    detail: str
    hint: str = ""


def examine(pack_folders: Sequence[str] = ()) -> list[Finding]:
    """All checks, in order. One that raises is a finding, too.

    Args:
        pack_folders: folders of node packs to load beside the bundled ones.
    """
    checks = {**CHECKS, "Nodes": lambda: _nodes(pack_folders)}
    return [finding for name, check in checks.items() for finding in _careful(name, check)]


def _careful(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 - a border: a broken library is what doctor is there to tell
        return [Finding(name, Verdict.BAD, f"{type(error).__name__}: {error}", "install it again")]


def _python() -> Iterator[Finding]:
    is_new = sys.version_info[:2] >= OLDEST_PYTHON
    hint = "" if is_new else "ComfyStream needs Python 3.11 or newer"
    yield Finding("Python", _good(is_new), f"{platform.python_version()} at {sys.executable}", hint)


def _good(is_good: bool) -> Verdict:
    return Verdict.GOOD if is_good else Verdict.BAD


def _torch() -> Iterator[Finding]:
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        hint = "pip install torch (see pytorch.org for builds with CUDA)"
        yield Finding("PyTorch", Verdict.BAD, "not installed", hint)
        return
    torch.ones(4).sum().item()
    yield Finding("PyTorch", Verdict.GOOD, f"{torch.__version__}, {torch.get_num_threads()} threads")
    yield _gpu(torch)
    yield _frames()


def _gpu(torch: Any) -> Finding:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name(0)
        torch.ones(4, device="cuda").sum().item()
        return Finding("GPU", Verdict.GOOD, f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    if getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        return Finding("GPU", Verdict.GOOD, "Apple GPU (MPS)")
    built = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no CUDA device"
    return Finding("GPU", Verdict.MISSING, f"none: {built}", "not needed; workflows run on the processor")


def _frames() -> Finding:
    """Where the engine would put pictures, and why."""
    from comfystream.media.device.backend import where_frames_go

    return Finding("Frames", Verdict.GOOD, f"--frames-on auto puts pictures {where_frames_go()}")


def _media() -> Iterator[Finding]:
    av: Any = importlib.import_module("av")
    libraries = getattr(av, "ffmpeg_version_info", "") or ".".join(map(str, av.library_versions["libavcodec"]))
    yield Finding("PyAV", Verdict.GOOD, f"{av.__version__} with FFmpeg {libraries}")
    for kind, names, attempt in (
        ("Video encoders", PICTURE_ENCODERS, encodes_picture),
        ("Sound encoders", SOUND_ENCODERS, encodes_sound),
    ):
        listed = [name for name in names if name in av.codecs_available]
        failed = {name: reason for name in listed if (reason := attempt(name))}
        working = [name for name in listed if name not in failed]
        lacking = [name for name in names if name in NEEDED and name not in working]
        detail = f"{', '.join(working) or 'none'} (each encoded something just now)"
        if failed:
            detail += f"; listed, but not working here: {', '.join(failed)}"
        hint = f"{', '.join(lacking)} is needed: pip install --force-reinstall av" if lacking else ""
        yield Finding(kind, _good(not lacking), detail, hint)


def _ffmpeg() -> Iterator[Finding]:
    """The program, which sends streams on and reads SRT; PyAV does the rest."""
    program = shutil.which("ffmpeg")
    if program is None:
        hint = "needed to push a stream and to read SRT: apt install ffmpeg"
        yield Finding("ffmpeg program", Verdict.MISSING, "not found", hint)
        return
    said = subprocess.run(
        [program, "-v", "error", "-protocols"], capture_output=True, text=True, timeout=20, check=True
    )
    spoken = {*said.stdout.partition("Output:")[2].split()} & {*FORMATS}
    lacking = [name for name in ("rtmp", "rtmps", "srt") if name not in spoken]
    hint = f"this build lacks {', '.join(lacking)}: such addresses cannot be pushed to" if lacking else ""
    verdict = Verdict.MISSING if lacking else Verdict.GOOD
    yield Finding("ffmpeg program", verdict, f"{program}, pushes by {', '.join(sorted(spoken)) or 'nothing'}", hint)

    yield _decoder()


def _decoder() -> Finding:
    from comfystream.media.decoders import prove_nvdec

    reason = prove_nvdec()
    if reason:
        return Finding("NVDEC", Verdict.MISSING, f"does not work here: {reason}", "not needed; decoding is in software")
    return Finding("NVDEC", Verdict.GOOD, "decoded pictures just now; --decoder auto uses it")


def encodes_picture(name: str) -> str:
    """Empty when the encoder makes a packet, else why not."""
    av: Any = importlib.import_module("av")
    from fractions import Fraction

    try:
        codec = av.CodecContext.create(name, "w")
        codec.width, codec.height, codec.pix_fmt, codec.time_base = 256, 256, "yuv420p", Fraction(1, 30)
        frame = av.VideoFrame(256, 256, "yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 30)
        return "" if [*codec.encode(frame), *codec.encode(None)] else "no packet"
    except (av.error.FFmpegError, ValueError, OSError) as error:
        return str(error)


def encodes_sound(name: str) -> str:
    """Empty when the encoder makes a packet, else why not."""
    av: Any = importlib.import_module("av")
    try:
        codec = av.CodecContext.create(name, "w")
        codec.sample_rate, codec.layout, codec.format = 48_000, "stereo", codec.codec.audio_formats[0]
        codec.open()
        frame = av.AudioFrame(codec.format.name, "stereo", codec.frame_size or 1024)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts = 48_000, 0
        return "" if [*codec.encode(frame), *codec.encode(None)] else "no packet"
    except (av.error.FFmpegError, ValueError, OSError) as error:
        return str(error)


def _opencv() -> Iterator[Finding]:
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError:
        yield Finding(
            "OpenCV", Verdict.MISSING, "not installed", "pip install comfystream[opencv] halves the cost of conversion"
        )
        return
    yield Finding("OpenCV", Verdict.GOOD, str(cv2.__version__))


def _shared_memory() -> Iterator[Finding]:
    from multiprocessing.shared_memory import SharedMemory

    size = 1920 * 1080 * 3 // 2
    try:
        segment = SharedMemory(f"comfystream-{secrets.token_hex(4)}", create=True, size=size)
    except OSError as error:
        yield Finding(
            "Shared memory", Verdict.MISSING, f"{error.strerror}", "--engine process needs it; in Docker: --shm-size 1g"
        )
        return
    memory: Any = segment.buf
    memory[size - 1] = 1
    del memory
    segment.close()
    segment.unlink()
    yield Finding("Shared memory", Verdict.GOOD, f"a picture of {size / 1e6:.1f} MB fits{_room()}")


def _room() -> str:
    try:
        stat = os.statvfs("/dev/shm")
    except (AttributeError, OSError):
        return ""
    return f", {stat.f_bavail * stat.f_frsize / 1e9:.1f} GB free"


def _nodes(pack_folders: Sequence[str] = ()) -> Iterator[Finding]:
    from comfystream.catalog.registry import CatalogOptions, load_catalog

    catalog = load_catalog(CatalogOptions(pack_folders=tuple(pack_folders)))
    broken = catalog.broken()
    detail = f"{len(catalog.keys())} classes"
    if broken:
        names = ", ".join(pack.key or pack.pack for pack in broken)
        hint = f"{broken[0].message} {broken[0].hint}".strip()
        yield Finding("Nodes", Verdict.BAD, f"{detail}; broken: {names}", hint)
    else:
        yield Finding("Nodes", Verdict.GOOD, detail if pack_folders else f"{detail} bundled")


def _comfyui() -> Iterator[Finding]:
    named = os.environ.get("COMFYUI_PATH")
    candidates = ((Path(named) if named else None, "COMFYUI_PATH"), (_around_us(), "we are in its custom_nodes"))
    for folder, how in candidates:
        if folder is not None and is_comfyui(folder):
            version = comfyui_version(folder) or "unknown version"
            yield Finding("ComfyUI", Verdict.GOOD, f"{version} at {folder} ({how})")
            return
    if named:
        detail = f"COMFYUI_PATH names {named}, which is no ComfyUI"
        yield Finding("ComfyUI", Verdict.MISSING, detail, "correct or unset it")
        return
    hint = "not needed; --comfyui DIR or COMFYUI_PATH names one whose nodes and packs are to be used"
    yield Finding("ComfyUI", Verdict.MISSING, "not found", hint)


def _around_us() -> Path | None:
    """The ComfyUI that this installation is a custom node of, if it looks like one."""
    home = Path(__file__).resolve().parent.parent
    return home.parent.parent if home.parent.name == "custom_nodes" else None


def _packages() -> Iterator[Finding]:
    needed = ("numpy", "pillow", "pydantic", "PyYAML", "rich", "typer")
    missing = [name for name in needed if version_of(name) is None]
    found = ", ".join(f"{name} {version_of(name)}" for name in needed if name not in missing)
    yield Finding("Packages", _good(not missing), found, f"pip install {' '.join(missing)}" if missing else "")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Python": _python,
    "Packages": _packages,
    "PyTorch": _torch,
    "PyAV": _media,
    "ffmpeg program": _ffmpeg,
    "OpenCV": _opencv,
    "Shared memory": _shared_memory,
    "Nodes": _nodes,
    "ComfyUI": _comfyui,
}

_MARKS = {
    Verdict.GOOD: "[green]ok[/green]     ",
    Verdict.MISSING: "[yellow]without[/yellow]",
    Verdict.BAD: "[red]BAD[/red]    ",
}


def show(console: Console, findings: list[Finding]) -> None:
    """A line per finding, and a verdict."""
    for finding in findings:
        line = f"{_MARKS[finding.verdict]}  [bold]{finding.name}[/bold]: {escape(finding.detail)}"
        console.print(line, highlight=False, soft_wrap=True)
        if finding.hint:
            console.print(f"         {escape(finding.hint)}", highlight=False, soft_wrap=True)
    bad = [finding.name for finding in findings if finding.verdict is Verdict.BAD]
    console.print(f"Not ready: {', '.join(bad)}" if bad else "Ready to run workflows.", highlight=False)
