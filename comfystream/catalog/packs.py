"""Node packs as they lie on disk, and what one of them gives: classes, or the reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfystream.errors import AssetError

__all__ = ["BrokenPack", "LoadedPack", "PackSource", "find_pack", "find_packs"]


@dataclass(frozen=True, slots=True)
class PackSource:
    """A pack that can be loaded.

    Attributes:
        name: for people and for `python_module`: the folder's or file's name without ".py".
        path: a folder with an `__init__.py`, or a .py file; None for a bundled pack.
        module: import name of a bundled pack; empty for one on disk.
        python_module: as object_info reports it.
    """

    name: str
    path: Path | None = None
    module: str = ""
    python_module: str = "nodes"

    @property
    def file(self) -> Path | None:
        """The Python file that is run."""
        if self.path is None or self.path.is_file():
            return self.path
        return self.path / "__init__.py"


@dataclass(frozen=True, slots=True)
class LoadedPack:
    """What a pack gave.

    Attributes:
        source: where it came from.
        v1: registry key to V1 (or V3) class, from `NODE_CLASS_MAPPINGS`.
        v3: classes that `comfy_entrypoint` listed; empty when `v1` is there.
        display_names: key to name for people.
        web_directory: folder with scripts for ComfyUI's editor, or None.
        keys: keys of its classes that are in the catalog.
    """

    source: PackSource
    v1: Mapping[str, type] = field(default_factory=dict)
    v3: tuple[Any, ...] = ()
    display_names: Mapping[str, str] = field(default_factory=dict)
    web_directory: Path | None = None
    keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name


@dataclass(frozen=True, slots=True)
class BrokenPack:
    """A pack, or one class of it, that could not be loaded.

    Attributes:
        pack: the pack's name.
        message: one line: what was raised.
        trace: traceback as text; empty where nothing was raised.
        hint: what to do about it.
        key: the class it is about; empty for the whole pack.
    """

    pack: str
    message: str
    trace: str = ""
    hint: str = ""
    key: str = ""


def find_pack(path: str | Path) -> PackSource:
    """A single pack.

    Raises:
        AssetError: nothing there, or neither a folder nor a .py file.
    """
    place = Path(path).absolute()
    if not place.is_dir() and place.suffix != ".py":
        raise AssetError(f"{path} is no node pack", hint="a pack is a folder with an __init__.py, or a .py file")
    if not place.exists():
        raise AssetError(f"node pack {path} does not exist")
    name = place.name if place.is_dir() else place.stem
    return PackSource(name, place, python_module=f"custom_nodes.{name}")


def find_packs(folder: str | Path) -> Iterator[PackSource]:
    """The packs in a folder such as ComfyUI's `custom_nodes`, by name.

    Raises:
        AssetError: there is no such folder.
    """
    place = Path(folder).absolute()
    if not place.is_dir():
        raise AssetError(f"folder of node packs {folder} does not exist")
    for entry in sorted(place.iterdir(), key=lambda entry: entry.name.lower()):
        if entry.name.startswith((".", "__pycache__")) or entry.name.endswith((".disabled", ".example")):
            continue
        if entry.is_dir() or entry.suffix == ".py":
            yield find_pack(entry)
