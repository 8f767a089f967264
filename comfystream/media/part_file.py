"""A file that appears under its name only when it is complete."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from comfystream.errors import MediaError
from comfystream.media.container import output_error

__all__ = ["PartFile"]


class PartFile:
    """A hidden file beside the target, to be renamed or removed.

    Args:
        target: where the complete file will be.
        overwrite: whether a file that is there may be replaced.
        source: the input that must not be overwritten.

    Raises:
        MediaError: the folder is missing or not writable, the target exists, or is the input itself.
    """

    def __init__(self, target: Path, *, overwrite: bool = False, source: str | os.PathLike[str] | None = None) -> None:
        self.target = target
        self._check(overwrite, source)
        self.path = target.with_name(f".{target.stem}.part-{secrets.token_hex(4)}{target.suffix}")
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise output_error(target, error) from error

    def _check(self, overwrite: bool, source: str | os.PathLike[str] | None) -> None:
        target = self.target
        if not target.parent.is_dir():
            raise MediaError(f"{target.parent} is not a folder", code="not_writable", hint="create it first")
        if target.is_dir():
            raise MediaError(f"{target} is a folder", code="not_writable", hint="give a file name")
        if source is not None and target.exists() and os.path.exists(source) and target.samefile(source):
            raise MediaError(f"{target} is the input itself", code="same_file", hint="give another output name")
        if target.exists() and not overwrite:
            raise MediaError(
                f"{target} exists already", code="exists", hint="give another name, or allow it to be overwritten"
            )

    def publish(self) -> None:
        """The file is complete: give it its name."""
        try:
            os.replace(self.path, self.target)
        except OSError as error:
            self.discard()
            raise output_error(self.target, error) from error

    def discard(self) -> None:
        """Remove it. Idempotent."""
        self.path.unlink(missing_ok=True)
