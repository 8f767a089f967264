"""Models that a text input names: by a path, or by a name below ComfyUI's model folders.

Such an input says so by the option `model_folders`: the kinds of folders that it looks in, the usual one first.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["find_model", "missing_model", "place_of"]


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
    paths: Any = importlib.import_module("folder_paths")
    first, _, rest = name.partition("/")
    names_folder = bool(rest) and first in {*kinds, *paths.folder_names_and_paths}  # "ipadapter/image_encoder"
    return str(paths.models_dir) if names_folder else place_of(kinds[0])


def _places(kind: str) -> list[Path]:
    paths: Any = importlib.import_module("folder_paths")
    known = paths.get_folder_paths(kind) if kind in paths.folder_names_and_paths else []
    return [*map(Path, known), Path(paths.models_dir) / kind, Path(paths.models_dir)]
