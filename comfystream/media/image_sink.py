"""Numbered pictures as a sink."""

from __future__ import annotations

import os
import re
from pathlib import Path

from PIL import Image

from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.colour import Colour, colour_of
from comfystream.media.container import output_error
from comfystream.media.file_sink import Written
from comfystream.media.planes import packed_plane
from comfystream.media.scale import Scaler

__all__ = ["ImageSequenceSink", "is_image_pattern"]

_NUMBER = re.compile(r"%0?(\d*)d")
_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}


def is_image_pattern(path: str | os.PathLike[str]) -> bool:
    """Whether a name stands for many pictures (`out_%05d.png`)."""
    name = Path(path).name
    return len(_NUMBER.findall(name)) == 1 and Path(name).suffix.lower() in _ENDINGS


class ImageSequenceSink:
    """Writes each picture to a file of its own, counted from 1. Sound is ignored.

    Args:
        pattern: a file name with one `%05d` in it, ending in .png, .jpg or .webp.
        overwrite: replace files that are there.

    Raises:
        MediaError: no such folder, or the name is not a pattern.
    """

    def __init__(self, pattern: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self._pattern = Path(pattern)
        if not is_image_pattern(pattern):
            raise MediaError(f"{pattern} is not a pattern for pictures", hint="for example out_%05d.png")
        if not self._pattern.parent.is_dir():
            raise MediaError(f"{self._pattern.parent} is not a folder", code="not_writable", hint="create it first")
        self._overwrite = overwrite
        self._scaler = Scaler()
        self._written: list[Path] = []
        self._bytes = 0
        self._last_s = 0.0

    def write(self, frame: VideoFrame | AudioFrame) -> None:
        """Write one picture.

        Raises:
            MediaError: the file exists or cannot be written; those before it are complete.
        """
        if isinstance(frame, AudioFrame):
            return
        path = self._pattern.with_name(_NUMBER.sub(self._number, self._pattern.name))
        if path.exists() and not self._overwrite:
            raise MediaError(f"{path} exists already", code="exists", hint="give another name, or allow overwriting")
        colour = Colour(colour_of(frame.image).matrix, full=True)
        pixels = packed_plane(self._scaler.convert(frame.image, "rgb24", colour=colour), 3)
        part = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            Image.fromarray(pixels).save(part)
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise output_error(path, error) from error
        self._written.append(path)
        self._bytes += path.stat().st_size
        self._last_s = float(frame.pts * frame.time_base)

    def _number(self, match: re.Match[str]) -> str:
        return f"{len(self._written) + 1:0{int(match[1] or 0)}d}"

    def finish(self) -> Written:
        """What was written.

        Raises:
            MediaError: no picture came.
        """
        if not self._written:
            raise MediaError(f"{self._pattern}: no picture came out, nothing is written", code="nothing_written")
        return Written(self._pattern, len(self._written), self._last_s, self._bytes, "")

    keep_partial = finish

    def abort(self) -> None:
        """Remove the pictures of this run."""
        while self._written:
            self._written.pop().unlink(missing_ok=True)
