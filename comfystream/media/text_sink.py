"""Strings that a workflow puts out, into a file beside the video."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from comfystream.errors import MediaError
from comfystream.frames import TextCue
from comfystream.media.container import output_error
from comfystream.media.part_file import PartFile

__all__ = ["TextSink"]

_WARMUP = "__WARMUP_SENTINEL__"  # what transcription nodes put out once after loading; consumers leave it out
_LAST_S = 2.0  # how long a last line is shown when nothing says so
_CLOCK = re.compile(r"^(?:(\d+):)?(\d+):(\d+)[,.](\d{1,3})$")


@dataclass(frozen=True, slots=True)
class _Line:
    start: float
    end: float | None
    text: str


class TextSink:
    """Writes `.jsonl` (one object per string: start, end, text, frame), `.srt` or `.vtt`; appears when complete.

    Without a duration of its own (the first string of a live lane has none) a string lasts until the next one begins;
    in `.jsonl` the end of a last one that nothing tells stays null. For subtitles a JSON list of `{start, end, text}`
    (what SRT generator nodes put out) becomes one line per entry, its times counted from the cue's own. Empty strings
    are left out; the same text again while it is shown lasts longer.

    Args:
        path: the ending says the format.
        overwrite: replace a file that is there.

    Raises:
        MediaError: unknown ending, or the folder cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self._path = Path(path)
        self._format = self._path.suffix.lower()
        if self._format not in (".jsonl", ".srt", ".vtt"):
            raise MediaError(
                f"{self._path}: text goes into .jsonl, .srt or .vtt files", code="unknown_container", hint="rename it"
            )
        self._part = PartFile(self._path, overwrite=overwrite)
        self._file: TextIO | None = self._part.path.open("w", encoding="utf-8", newline="\n")
        self._held: _Line | None = None
        self._rows: list[dict[str, Any]] = []
        self.count = 0
        if self._format == ".vtt":
            self._put("WEBVTT\n\n")

    def write(self, cue: TextCue) -> None:
        """Take one string in.

        Raises:
            MediaError: the disk is full; what was written is removed.
        """
        if not cue.text.strip() or _WARMUP in cue.text:
            return
        start = float(cue.pts * cue.time_base)
        end = float((cue.pts + cue.duration) * cue.time_base) if cue.duration else None
        if self._format == ".jsonl":
            self._rows.append({"start": start, "end": end, "text": cue.text, "frame": cue.id})
            self._put_rows(start)
            return
        for line in _lines(cue.text, start, end):
            self._hold(line)

    def finish(self) -> Path:
        """Write the last line; the file gets its name."""
        self._release(None)
        self._put_rows(None)
        self._close()
        self._part.publish()
        return self._path

    keep_partial = finish

    def abort(self) -> None:
        """Remove what was written. Idempotent."""
        self._close()
        self._part.discard()

    def _put_rows(self, now: float | None) -> None:
        """Write the rows whose end is known: their own, or `now` for those that began before; all when it is None."""
        for row in self._rows:
            if row["end"] is None and now is not None and row["start"] < now:
                row["end"] = now
        while self._rows and (now is None or self._rows[0]["end"] is not None):
            row = self._rows.pop(0)
            times = {name: None if row[name] is None else round(row[name], 6) for name in ("start", "end")}
            self._put(json.dumps({**row, **times}, ensure_ascii=False) + "\n")
            self.count += 1

    def _hold(self, line: _Line) -> None:
        """Keep the newest line back: the next one says when it ends."""
        held = self._held
        if held is not None and held.text == line.text and line.start <= (held.end or line.start) + 0.001:
            self._held = _Line(held.start, line.end, held.text)
            return
        self._release(line.start)
        self._held = line

    def _release(self, next_start: float | None) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        end = held.end if held.end is not None else next_start
        if end is None:
            end = held.start + _LAST_S
        if next_start is not None and held.start < next_start < end:
            end = next_start
        self.count += 1
        number = f"{self.count}\n" if self._format == ".srt" else ""
        times = f"{self._clock(held.start)} --> {self._clock(end)}"
        text = "\n".join(row for row in held.text.splitlines() if row.strip())  # an empty row would end the entry
        self._put(f"{number}{times}\n{text.replace('-->', '->')}\n\n")

    def _clock(self, time_s: float) -> str:
        milliseconds = max(0, round(time_s * 1000))
        seconds, milliseconds = divmod(milliseconds, 1000)
        point = "," if self._format == ".srt" else "."
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{milliseconds:03d}"

    def _put(self, text: str) -> None:
        assert self._file is not None
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            self.abort()
            raise output_error(self._path, error) from error

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _lines(text: str, start: float, end: float | None) -> Iterator[_Line]:
    entries = _entries(text)
    if entries is None:
        yield _Line(start, end, text)
        return
    for entry in entries:
        first, last = _seconds(entry.get("start")), _seconds(entry.get("end"))
        words = str(entry.get("text", entry.get("word", ""))).strip()
        if words:
            yield _Line(start + (first or 0.0), None if last is None else start + last, words)


def _entries(text: str) -> list[dict[str, object]] | None:
    """The entries of a JSON list of timed texts; None when the text is not one."""
    if not text.lstrip().startswith("["):
        return None
    try:
        entries = json.loads(text)
    except ValueError:
        return None
    return entries if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) else None


def _seconds(value: object) -> float | None:
    """Seconds of a number or of "HH:MM:SS,mmm"."""
    if isinstance(value, int | float):
        return float(value)
    match = _CLOCK.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000
