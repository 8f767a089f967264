"""Engines on the disk: a folder per key, complete or not there at all, built by one process at a time.

ROOT/DIGEST/plan.*      the engine
ROOT/DIGEST/meta.json   what it is, and the digest of the plan
ROOT/DIGEST/used        its time is when the engine was last loaded
ROOT/.building-...      a build that is under way, or was cut off
ROOT/.lock              held by who builds: two builds at once would only fight for the GPU's memory
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from comfystream.errors import AssetError, BusyError

from .key import EngineKey, digest_of_file

__all__ = ["CacheEntry", "EngineCache", "default_root"]

log = logging.getLogger(__name__)

META, USED, LOCK, BUILDING = "meta.json", "used", ".lock", ".building-"
LOOK_S = 0.2
GB = 1 << 30


def default_root() -> Path:
    """`$COMFYSTREAM_ENGINES`, or `engines` in ComfyStream's own folder."""
    if named := os.environ.get("COMFYSTREAM_ENGINES"):
        return Path(named).expanduser()
    return Path(os.environ.get("COMFYSTREAM_HOME") or Path.home() / ".comfystream") / "engines"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """An engine that is there.

    Args:
        digest: of its key.
        folder: where it is.
        plan: the engine's file.
        meta: what was written beside it: key, label, build_s, built, plan, sha256.
        size: of all its files, in bytes.
        used_at: when it was last loaded or built, in seconds since 1970.
    """

    digest: str
    folder: Path
    plan: Path
    meta: dict[str, Any]
    size: int
    used_at: float

    @property
    def label(self) -> str:
        """For people."""
        return str(self.meta.get("label", ""))


class EngineCache:
    """The engines in a folder.

    Args:
        root: the folder; it is made when something is written.
        max_gb: how much it may hold; 0 is no limit.
    """

    def __init__(self, root: Path | None = None, max_gb: float = 0.0) -> None:
        self.root = root or default_root()
        self.max_bytes = int(max_gb * GB)

    def entries(self) -> list[CacheEntry]:
        """All engines whose notes can be read, last used first."""
        folders = self.root.iterdir() if self.root.is_dir() else iter(())
        found = [entry for folder in folders if not folder.name.startswith(".") if (entry := _read(folder))]
        return sorted(found, key=lambda entry: entry.used_at, reverse=True)

    def find(self, key: EngineKey) -> CacheEntry | None:
        """The engine of a key, checked and marked as used; a broken one is taken away, with a warning."""
        folder = self.root / key.digest
        if not folder.is_dir():
            return None
        entry = _read(folder)
        if entry is None or entry.meta.get("key") != key.to_json() or not _is_whole(entry):
            log.warning("%s: the engine of %s is broken and will be built again", folder, key.spec.name)
            shutil.rmtree(folder, ignore_errors=True)
            return None
        (folder / USED).touch()
        return entry

    def build(
        self,
        key: EngineKey,
        make: Callable[[Path], Path],
        label: str = "",
        on_wait: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> CacheEntry:
        """The engine of a key; made if it is not there.

        Args:
            key: what it is.
            make: writes it into the folder that it gets, and returns the plan's file.
            label: for people.
            on_wait: called again and again while another process builds.
            should_stop: gives up waiting when it says so.

        Raises:
            AssetError: the folder cannot be written to.
            BusyError: `should_stop` said so.
        """
        if entry := self.find(key):
            return entry
        with self._writing(), self._locked(on_wait, should_stop):
            self._sweep()
            if entry := self.find(key):  # made by another process while this one waited
                return entry
            work = self.root / f"{BUILDING}{key.digest[:12]}-{secrets.token_hex(4)}"
            work.mkdir()
            try:
                began = time.monotonic()
                plan = make(work)
                _write_meta(work, key, plan, label or key.spec.name, time.monotonic() - began)
                _flush(work)
                os.replace(work, self.root / key.digest)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
        self.prune(keep=key.digest)
        entry = _read(self.root / key.digest)
        if entry is None:
            raise AssetError(f"{self.root / key.digest}: vanished while it was read", code="engine_gone")
        return entry

    def prune(self, max_bytes: int | None = None, keep: str = "") -> list[CacheEntry]:
        """Remove what was not used for longest until the rest fits.

        Args:
            max_bytes: what may stay; None takes the cache's own limit, 0 of which is no limit.
            keep: the digest of an engine that stays in any case.

        Returns:
            What was removed.
        """
        if max_bytes is None:
            if not self.max_bytes:
                return []
            max_bytes = self.max_bytes
        entries = self.entries()
        total, removed = sum(entry.size for entry in entries), []
        for entry in reversed(entries):
            if total <= max_bytes:
                break
            if entry.digest != keep:
                shutil.rmtree(entry.folder, ignore_errors=True)
                total -= entry.size
                removed.append(entry)
                log.info("removed the engine %s (%d MB): not used for longest", entry.label, entry.size >> 20)
        return removed

    def usual_build_s(self, backend: str, label: str) -> float | None:
        """How long an engine like this took last time; None when none was built yet."""
        took = [
            float(entry.meta["build_s"])
            for entry in self.entries()
            if entry.meta["key"]["backend"] == backend and entry.label == label
        ]
        return took[0] if took else None

    @contextlib.contextmanager
    def _locked(self, on_wait: Callable[[], None], should_stop: Callable[[], bool]) -> Iterator[None]:
        """One builder at a time; the system lets go of the lock when its holder dies."""
        with (self.root / LOCK).open("w") as file:
            while not _take(file):
                if should_stop():
                    raise BusyError("another process builds engines, and this one was told to stop", code="cancelled")
                on_wait()
                time.sleep(LOOK_S)
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            if isinstance(error, AssetError) or error.strerror is None or not _is_below(error.filename, self.root):
                raise
            raise AssetError(
                f"{error.filename or self.root}: {error.strerror}",
                code="engine_folder",
                hint="the folder of engines has to be writable and large enough; see $COMFYSTREAM_ENGINES",
            ) from error

    def _sweep(self) -> None:
        """What lies about of builds that were cut off: whoever holds the lock knows that none is under way."""
        for folder in self.root.glob(f"{BUILDING}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _is_below(name: object, root: Path) -> bool:
    return name is None or Path(os.fsdecode(name) if isinstance(name, str | bytes) else str(root)).is_relative_to(root)


def _take(file: TextIO) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: the rename at the end keeps engines whole there too, only the work may be done twice
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_meta(folder: Path, key: EngineKey, plan: Path, label: str, build_s: float) -> None:
    meta = {
        "label": label,
        "plan": plan.name,
        "size": plan.stat().st_size,
        "sha256": digest_of_file(plan),
        "build_s": round(build_s, 3),
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "key": key.to_json(),
    }
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n", "utf-8")
    (folder / USED).touch()


def _flush(folder: Path) -> None:
    """To the disk before the folder gets its name: after a power cut it is whole, or not there."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read(folder: Path) -> CacheEntry | None:
    try:
        meta = json.loads((folder / META).read_text("utf-8"))
        plan = folder / Path(meta["plan"]).name
        size = sum(path.stat().st_size for path in folder.iterdir())
        used = (folder / USED).stat().st_mtime
        if not {"build_s", "sha256", "size"} <= meta.keys() or "backend" not in meta["key"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CacheEntry(folder.name, folder, plan, meta, size, used)


def _is_whole(entry: CacheEntry) -> bool:
    try:
        is_whole: bool = entry.plan.stat().st_size == entry.meta["size"]
        return is_whole and digest_of_file(entry.plan) == str(entry.meta["sha256"])
    except OSError:
        return False
