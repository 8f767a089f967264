from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from comfystream.catalog import CatalogOptions, NodeCatalog, load_catalog, standin

WritePack = Callable[..., Path]
Load = Callable[..., NodeCatalog]


@pytest.fixture
def custom_nodes(tmp_path: Path) -> Path:
    """An empty folder for packs."""
    folder = tmp_path / "custom nodes"
    folder.mkdir()
    return folder


@pytest.fixture
def write_pack(custom_nodes: Path) -> WritePack:
    """Write a pack: `write_pack("my pack", {"__init__.py": "..."})` or `write_pack("one.py", "...")`."""

    def write(name: str, files: dict[str, str] | str) -> Path:
        place = custom_nodes / name
        if isinstance(files, str):
            place.write_text(textwrap.dedent(files))
            return place
        for relative, text in files.items():
            file = place / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        return place

    return write


@pytest.fixture
def load(custom_nodes: Path, tmp_path: Path) -> Load:
    """Load the folder of packs, without the bundled ones."""

    def run(**options: object) -> NodeCatalog:
        folders = standin.Folders(base=str(tmp_path / "home"))
        settings = {"pack_folders": (str(custom_nodes),), "bundled": (), "folders": folders, **options}
        return load_catalog(CatalogOptions(**settings))  # type: ignore[arg-type]

    return run


V1_CLASS = """
class {name}:
    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{"value": ("INT", {{"default": {default}}})}}}}
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "test"
    def run(self, value):
        return (value,)
"""


@pytest.fixture
def v1_pack() -> Callable[..., str]:
    """Source of a pack with one V1 class."""

    def source(key: str = "Plain", default: int = 1) -> str:
        return V1_CLASS.format(name="Plain", default=default) + f'\nNODE_CLASS_MAPPINGS = {{"{key}": Plain}}\n'

    return source
