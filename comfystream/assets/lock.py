"""What was fetched into a workspace: `comfystream.lock.json`, so that later it is known what a file should be."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from comfystream.errors import AssetError

__all__ = ["FileRecord", "Lock", "PackRecord"]

NAME = "comfystream.lock.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileRecord(_Record):
    """A file as it was when it was fetched."""

    url: str
    sha256: str
    size: int
    mtime_ns: int


class PackRecord(_Record):
    """A node pack as it was checked out."""

    url: str
    commit: str


class _Content(BaseModel):
    files: dict[str, FileRecord] = {}
    packs: dict[str, PackRecord] = {}


class Lock:
    """The lock file of a workspace; every change is written at once, whole or not at all.

    Args:
        workspace: the folder that it is for.

    Raises:
        AssetError: it cannot be read.
    """

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / NAME
        self._workspace = workspace
        self._content = _Content()
        try:
            self._content = _Content.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            pass
        except OSError as error:
            raise AssetError(f"{self.path}: {error.strerror}", code="bad_lock") from error
        except ValidationError as error:
            raise AssetError(
                f"{self.path}: not a lock file: {error.errors()[0]['msg']}",
                code="bad_lock",
                hint="delete it; it is made anew, and files are checked once more",
            ) from None

    def _key(self, path: Path) -> str:
        return path.relative_to(self._workspace).as_posix()

    def file(self, path: Path) -> FileRecord | None:
        """What is known of a file."""
        return self._content.files.get(self._key(path))

    def pack(self, folder: str) -> PackRecord | None:
        """What is known of a pack."""
        return self._content.packs.get(folder)

    def put_file(self, path: Path, url: str, sha256: str) -> None:
        """A file has been fetched, or checked."""
        state = path.stat()
        record = FileRecord(url=url, sha256=sha256, size=state.st_size, mtime_ns=state.st_mtime_ns)
        if self.file(path) != record:
            self._content.files[self._key(path)] = record
            self._write()

    def put_pack(self, folder: str, url: str, commit: str) -> None:
        """A pack has been checked out."""
        record = PackRecord(url=url, commit=commit)
        if self.pack(folder) != record:
            self._content.packs[folder] = record
            self._write()

    def _write(self) -> None:
        content: dict[str, Any] = self._content.model_dump()
        content = {kind: dict(sorted(entries.items())) for kind, entries in content.items()}
        part = self.path.with_name(f".{NAME}.{secrets.token_hex(4)}")
        try:
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
            os.replace(part, self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise AssetError(f"{self.path}: {error.strerror}", code="bad_lock") from error
