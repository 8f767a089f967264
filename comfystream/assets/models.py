"""Models: which files a list asks for, which of them are there, and fetching the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from comfystream.assets.huggingface import folder_files
from comfystream.assets.lists import ModelEntry
from comfystream.assets.lock import Lock
from comfystream.assets.transfer import POINTER, Remote, Transfer, sha256_of
from comfystream.errors import AssetError, ComfyStreamError, ConfigError

__all__ = ["Fetched", "ModelFile", "Outcome", "fetch_models", "files_of", "state_of"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: `remote` goes to `target`."""

    id: str
    remote: Remote
    target: Path


class Outcome(StrEnum):
    """What came of a file."""

    PRESENT = "present"
    FETCHED = "fetched"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a file, and why it failed."""

    file: ModelFile
    outcome: Outcome
    error: ComfyStreamError | None = None


def files_of(entries: Mapping[str, ModelEntry], workspace: Path, transfer: Transfer) -> Iterator[ModelFile]:
    """The files that a list asks for. Folders are looked up where they are.

    Args:
        entries: models by id.
        workspace: the folder that has `models/`.
        transfer: asks for the lists of folders.

    Raises:
        ConfigError: a path that leads out of the workspace.
        AssetError: the list of a folder cannot be had.
    """
    for id, entry in entries.items():
        if entry.is_directory:
            folder = _target(id, entry.path, workspace)
            for inner, remote in folder_files(entry.url, transfer):
                yield ModelFile(id, remote, _inside(id, folder / inner, folder))
        else:
            yield ModelFile(id, Remote(entry.url, entry.sha256), _target(id, entry.path, workspace))
        for extra in entry.extra_files:
            yield ModelFile(id, Remote(extra.url, extra.sha256), _target(id, extra.path, workspace))


def _target(id: str, path: str, workspace: Path) -> Path:
    base = workspace if path.startswith("custom_nodes/") else workspace / "models"
    return _inside(id, base / path, base)


def _inside(id: str, path: Path, folder: Path) -> Path:
    """The path, which may go through links that the owner of the workspace made, but not up."""
    if path == folder or ".." in path.parts or not path.is_relative_to(folder) or "\0" in str(path):
        raise ConfigError(f"{id}: {path} is not inside {folder}", code="bad_path", hint="correct the list")
    return path


def state_of(file: ModelFile, lock: Lock) -> str:
    """Empty when the file is there and what it should be; else what is wrong, or "missing".

    A file whose size and time are those of the lock file is not read again.
    """
    path = file.target
    if not path.is_file():
        return "missing"
    state = path.stat()
    with path.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            return "a Git LFS pointer, not the file itself"
    if file.remote.size is not None and state.st_size != file.remote.size:
        return f"{state.st_size} bytes, not {file.remote.size}"
    record = lock.file(path)
    known = record is not None and (record.size, record.mtime_ns) == (state.st_size, state.st_mtime_ns)
    wanted = file.remote.sha256 or (record.sha256 if record is not None else "")
    if state.st_size == 0:
        return "empty"
    if not wanted:
        return ""
    digest = record.sha256 if known and record is not None else sha256_of(path)
    return "" if digest == wanted else f"SHA-256 {digest[:12]}..., not {wanted[:12]}..."


def fetch_models(
    files: list[ModelFile],
    lock: Lock,
    transfer: Transfer,
    on_start: Callable[[ModelFile, str], None] = lambda file, why: None,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Iterator[Fetched]:
    """Fetch what is not there. One that fails does not stop the rest.

    Args:
        files: what should be there.
        lock: of the workspace.
        transfer: how to get it.
        on_start: told the file that comes next and why.
        on_progress: told bytes so far and in all.
    """
    for file in files:
        try:
            why = state_of(file, lock)
            if not why:
                if lock.file(file.target) is None:
                    lock.put_file(file.target, file.remote.url, sha256_of(file.target))
                yield Fetched(file, Outcome.PRESENT)
                continue
            on_start(file, why)
            digest = transfer.fetch(file.remote, file.target, on_progress)
            lock.put_file(file.target, file.remote.url, digest)
            yield Fetched(file, Outcome.FETCHED)
        except ComfyStreamError as error:
            yield Fetched(file, Outcome.FAILED, error)
        except OSError as error:
            failed = AssetError(f"{file.target}: {error.strerror or error}", code="not_readable")
            yield Fetched(file, Outcome.FAILED, failed)
