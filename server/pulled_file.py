"""The file that `comfystream trickle pull` writes: nothing is lost of what was there before something comes."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from comfystream.errors import MediaError

__all__ = ["PulledFile"]


class PulledFile:
    """A file, or standard output for "-". What is there keeps its content until the first bytes are written.

    Args:
        path: where to.

    Attributes:
        size: bytes written.

    Raises:
        MediaError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_pipe = str(path) == "-"
        self._is_new = not self._is_pipe and not path.exists()
        self.size = 0
        try:  # 1 is standard output; no buffer, so that what was written is there when the process is killed
            self._fd = 1 if self._is_pipe else os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)
        except OSError as error:
            raise MediaError(f"{path} cannot be written: {error.strerror or error}", code="cannot_write") from error

    def write(self, data: bytes) -> None:
        """Append all of it.

        Raises:
            MediaError: the disk is full, or it failed; what fitted is kept.
            BrokenPipeError: whoever reads standard output has left.
        """
        left = memoryview(data)
        try:
            if not self.size and not self._is_pipe and os.path.isfile(self._path):
                os.ftruncate(self._fd, 0)
            while left:
                written = os.write(self._fd, left)
                self.size += written
                left = left[written:]
        except BrokenPipeError:
            raise
        except OSError as error:
            hint = "make room, or give another folder" if error.errno == errno.ENOSPC else ""
            words = f"{self._path} cannot be written any further: {error.strerror}; {self.size} bytes are in it"
            raise MediaError(words, code="cannot_write", hint=hint) from error

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; a new file into which nothing came goes again."""
        if self._is_pipe:
            return
        os.close(self._fd)
        if self._is_new and not self.size:
            with contextlib.suppress(OSError):
                self._path.unlink()
