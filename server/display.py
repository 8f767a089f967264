"""How a running job looks: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from comfystream.session.result import JobProgress

__all__ = ["Display", "clock", "open_display", "wide_console"]

LOG_EVERY_S = 5.0
FIRST_FRAMES_S = 0.5


class Display(Protocol):
    """Shows progress."""

    def show(self, progress: JobProgress) -> None:
        """The job is this far."""
        ...


def clock(seconds: float) -> str:
    """A duration as people read it: 0:07, 12:05, 1:02:05."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def wide_console() -> Console:
    """Standard output; where it is no terminal, wide enough that no table is cut."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    return console


def open_display(console: Console, *, is_quiet: bool) -> AbstractContextManager[Display]:
    """What fits the place where the output goes."""
    if is_quiet:
        return _Silent()
    return _Bar(console) if console.is_terminal else _Lines()


class _Silent:
    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, progress: JobProgress) -> None:
        """Nothing."""


class _Lines:
    """Plain lines on stderr."""

    def __init__(self) -> None:
        self._phase = ""
        self._next = 0.0
        self._has_words = False

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, progress: JobProgress) -> None:
        """A line when the phase changes, and every few seconds."""
        now = time.monotonic()
        is_said_already = progress.phase == self._phase and bool(progress.words) == self._has_words
        if is_said_already and now < self._next:
            return
        if progress.phase != self._phase or progress.frames or progress.words:
            print(f"comfystream: {_words(progress)}", file=sys.stderr, flush=True)
        is_under_way = bool(progress.frames or progress.words)
        self._has_words = bool(progress.words)
        self._phase, self._next = progress.phase, now + (LOG_EVERY_S if is_under_way else FIRST_FRAMES_S)


def _words(progress: JobProgress) -> str:
    if progress.phase == "prepare":
        return progress.words or "preparing the workflow"
    if progress.phase == "finish":
        return "finishing the file"
    if not progress.frames:
        return "running"
    of = f" of {clock(progress.total_s)}" if progress.total_s else ""
    left = f", {clock(progress.left_s)} left" if progress.left_s is not None else ""
    dropped = f", {progress.dropped} dropped" if progress.dropped else ""
    fps = f", {progress.fps:.1f} fps" if progress.fps else ""
    return f"{clock(progress.media_s)}{of}, {progress.frames} frames{fps}{left}{dropped}"


class _Bar:
    """One line that is drawn again and again."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[words]}"),
            console=console,
            transient=True,
            expand=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        self._bar.start()
        self._task = self._bar.add_task("Preparing", total=None, words="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, progress: JobProgress) -> None:
        """Move the bar."""
        assert self._task is not None
        name = {"prepare": "Preparing", "run": "Running", "finish": "Finishing"}[progress.phase]
        words = progress.words or (_words(progress) if progress.phase == "run" and progress.frames else "")
        self._bar.update(
            self._task,
            description=name,
            completed=min(progress.media_s, progress.total_s or progress.media_s),
            total=progress.total_s if progress.frames else None,
            words=words,
        )
