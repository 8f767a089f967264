"""Engine files as ComfyUI's TensorRT nodes name them, which workflows do: the names, and where they are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from comfystream.errors import AssetError, ConfigError

from .model_specs import Ranges

__all__ = ["COMFYUI_NAMES", "EngineFile", "engine_files", "find_engine", "name_of_engine", "read_name"]

COMFYUI_NAMES = {"sample": "x", "timestep": "timesteps", "encoder_hidden_states": "context", "latent": "h"}
"""Our names of a UNet's inputs and outputs -> those in engines of ComfyUI's TensorRT nodes (SD 1.x and 2.x)."""

FOLDERS = ("output/tensorrt", "models/tensorrt")
COUNTER = "_00001_"
SIZES = re.compile(r"(?P<kind>stat|dyn)-b-(?P<b>\d+(?:-\d+)*)-h-(?P<h>\d+(?:-\d+)*)-w-(?P<w>\d+(?:-\d+)*)")


@dataclass(frozen=True, slots=True)
class EngineFile:
    """What a file name says. A range is (min, max, opt) in the name, as it was given there; the engine knows better.

    Args:
        model: what stands before the sizes.
        is_static: whether it has one size.
        batch: one number, or several.
        height: in pixels.
        width: in pixels.
    """

    model: str
    is_static: bool
    batch: tuple[int, ...]
    height: tuple[int, ...]
    width: tuple[int, ...]


def name_of_engine(prefix: str, ranges: Ranges) -> str:
    """The file name for an engine: `PREFIX_$stat-b-1-h-512-w-512_00001_.engine`; ranges as min-max-opt."""
    sizes = (ranges.batch, ranges.height, ranges.width)
    is_static = all(isinstance(size, int) or len(set(size)) == 1 for size in sizes)
    parts = []
    for letter, size in zip("bhw", sizes, strict=True):
        low, best, high = (size,) * 3 if isinstance(size, int) else size
        parts.append(f"{letter}-{best}" if is_static else f"{letter}-{low}-{high}-{best}")
    return f"{prefix}_${'stat' if is_static else 'dyn'}-{'-'.join(parts)}{COUNTER}.engine"


def read_name(name: str) -> EngineFile | None:
    """What a file name says; None when it is named otherwise."""
    found = SIZES.search(name)
    if not found:
        return None
    batch, height, width = (tuple(map(int, found[letter].split("-"))) for letter in "bhw")
    model = name[: found.start()].rstrip("$").rstrip("_")
    return EngineFile(model, found["kind"] == "stat", batch, height, width)


def engine_files(workspace: Path, folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Engine files by name as a workflow says it: relative to its folder, with forward slashes."""
    found: dict[str, Path] = {}
    for folder in (*folders, *(workspace / name for name in FOLDERS)):
        for path in sorted(folder.rglob("*.engine")) if folder.is_dir() else ():
            found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def find_engine(name: str, workspace: Path, folders: Sequence[Path] = ()) -> Path:
    """The file of an engine.

    Args:
        name: as it stands in a workflow; backslashes are fine.
        workspace: the folder with `models/` and `output/` in it.
        folders: more folders to look in, before those.

    Raises:
        ConfigError: the name leads out of the folders.
        AssetError: there is no such file; the hint says what is there.
    """
    wanted = name.replace("\\", "/")
    if wanted.startswith("/") or ".." in wanted.split("/"):
        raise ConfigError(f"{name}: an engine is named by its file in the folder of engines", code="bad_engine_name")
    files = engine_files(workspace, folders)
    if wanted in files:
        return files[wanted]
    near = difflib.get_close_matches(wanted, files, n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else "comfystream engines build --targets build_targets.yaml"
    raise AssetError(f"there is no engine {name}", code="no_engine", hint=hint)
