"""Models that a text input names: by a path, or by a name below ComfyUI's model folders."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["NAMES_MODEL", "find_model", "missing_model", "model_input", "place_of"]

NAMES_MODEL = "model_folders"  # the option of a text input that says in which kinds of folders it looks


def model_input(hint: str, *kinds: str, default: str = "") -> tuple[str, dict[str, Any]]:
    """A text widget that names a model: what `INPUT_TYPES` gives for it.

    Args:
        hint: its tooltip.
        kinds: ComfyUI's names of the model folders that it looks in, the usual one first.
        default: the name that is there.
    """
    return ("STRING", {"default": default, "multiline": False, "tooltip": hint, NAMES_MODEL: list(kinds)})


def find_model(name: str, kinds: Sequence[str]) -> Path | None:
    """A file or folder; None where there is none.

    Args:
        name: a path, a name below a model folder, or "owner/name", of which a folder may be called "name" or
            "owner--name".
        kinds: ComfyUI's names of model folders: "checkpoints", "loras".
    """
    if not name.strip():
        return None
    given = Path(name).expanduser()
    if given.exists():
        return given
    tried = (name, name.replace("/", "--"), name.rsplit("/", 1)[-1])
    candidates = (folder / one for kind in kinds for folder in _places(kind) for one in tried)
    return next((one for one in candidates if one.exists()), None)


def place_of(kind: str) -> str:
    """Where a new model of a kind goes."""
    return str(_places(kind)[0])


def missing_model(name: str, kinds: Sequence[str]) -> str | None:
    """Where a model that is not there would go; None where it is there."""
    if find_model(name, kinds) is not None:
        return None
    if Path(name).expanduser().is_absolute():
        return str(Path(name).expanduser().parent)
    paths: Any = importlib.import_module("folder_paths")
    first, _, rest = name.partition("/")
    names_folder = bool(rest) and first in {*kinds, *paths.folder_names_and_paths}  # "tokenizers/clip"
    return str(paths.models_dir) if names_folder else place_of(kinds[0])


def _places(kind: str) -> list[Path]:
    paths: Any = importlib.import_module("folder_paths")
    known = paths.get_folder_paths(kind) if kind in paths.folder_names_and_paths else []
    return [*map(Path, known), Path(paths.models_dir) / kind, Path(paths.models_dir)]
