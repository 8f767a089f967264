"""What may be asked of a session's sinks, and what is told about them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from comfystream.errors import ConfigError
from comfystream.media.push_target import check_push_url, shown

__all__ = ["PushSink", "RecordSink", "SinkChanged", "SinkRules", "SinkState", "SinkStats"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,119}")


class SinkState(StrEnum):
    """How a sink is."""

    STARTING = "starting"
    RUNNING = "running"
    RECONNECTING = "reconnecting"  # the receiver is gone, it is tried again
    FAILED = "failed"
    ENDED = "ended"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be written."""
        return self in (SinkState.FAILED, SinkState.ENDED)


@dataclass(frozen=True, slots=True)
class SinkChanged:
    """A sink is in another state; `reason` says why."""

    sink: str
    type: str
    target: str
    state: SinkState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SinkStats:
    """Figures of a sink.

    Attributes:
        sink: its id.
        type: "record" or "push".
        target: the file's name, or the address without what is secret in it.
        frames: pictures written.
        dropped: frames that came while it was busy or not connected.
        left_out: frames of a kind that began after the recording did, or from before its beginning.
        size: bytes written.
        kbps: over the last seconds.
    """

    sink: str
    type: str
    target: str
    state: SinkState
    reason: str
    frames: int
    dropped: int
    left_out: int
    size: int
    kbps: float


@dataclass(frozen=True, slots=True)
class RecordSink:
    """A recording that was asked for and may be made."""

    path: Path

    @property
    def type(self) -> str:
        """Of sink."""
        return "record"

    @property
    def target(self) -> str:
        """For people."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class PushSink:
    """A receiver that was asked for and may be sent to; `kbps` is for the pictures."""

    url: str
    kbps: int

    @property
    def type(self) -> str:
        """Of sink."""
        return "push"

    @property
    def target(self) -> str:
        """For people."""
        return shown(self.url)


@dataclass(frozen=True, slots=True)
class SinkRules:
    """What the operator allows.

    Attributes:
        folder: where recordings go; None for none.
        push_urls: patterns of addresses (`push_target.is_allowed`).
    """

    folder: Path | None = None
    push_urls: Sequence[str] = ()

    def recording(self, session: str, name: str = "") -> RecordSink:
        """A recording of that name; without one it gets the session's, and the time.

        Raises:
            ConfigError: there is no folder for recordings, or `name` is no plain file name.
        """
        if self.folder is None:
            raise ConfigError(
                "this server keeps no recordings", code="no_recording_folder", hint="set recording_folder"
            )
        if not name:
            stem = session.lstrip("-") or "session"  # for programs a leading dash is an option
            return RecordSink(_unused(self.folder, f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"))
        if not _NAME.fullmatch(name) or name.endswith((".", " ")):
            raise ConfigError(
                f'"{name[:60]}" cannot name a recording',
                code="bad_name",
                hint="letters, digits, space, dot, - and _; no folders",
            )
        path = self.folder / (name if name.lower().endswith(".mp4") else f"{name}.mp4")
        if path.exists():
            raise ConfigError(f"{path.name} exists already", code="exists", hint="give another name")
        return RecordSink(path)

    def push(self, url: str, kbps: int) -> PushSink:
        """A receiver; raises what `check_push_url` raises."""
        return PushSink(check_push_url(url, self.push_urls), kbps)


def _unused(folder: Path, stem: str) -> Path:
    names = (f"{stem}{'' if number == 1 else f'-{number}'}.mp4" for number in range(1, 1000))
    return next((folder / name for name in names if not (folder / name).exists()), folder / f"{stem}.mp4")
