from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from comfystream import bus
from comfystream.catalog import standin

HERE = str(Path(__file__).parent)
if HERE not in sys.path:  # test files are imported by path; the tables beside them by name
    sys.path.append(HERE)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """Input, output and temp folders below a temporary one, in force for `folder_paths`."""
    names = {name: tmp_path / name for name in ("input", "output", "temp")}
    for folder in names.values():
        folder.mkdir()
    standin.install(standin.Folders(base=str(tmp_path), **{name: str(folder) for name, folder in names.items()}))
    yield tmp_path
    standin.install(standin.Folders())


@pytest.fixture
def core(folders: Path) -> ModuleType:
    """The pack of ComfyUI's own nodes."""
    import comfystream_nodes.core

    return comfystream_nodes.core


@pytest.fixture
def stream(folders: Path) -> ModuleType:
    """The pack of live inputs and outputs."""
    import comfystream_nodes.stream

    return comfystream_nodes.stream


@pytest.fixture
def run(core: ModuleType) -> Any:
    """`run("ImageInvert", image=...)` gives the list of outputs."""

    def call(key: str, /, **inputs: Any) -> list[Any]:
        cls = core.NODE_CLASS_MAPPINGS[key]
        if hasattr(cls, "define_schema"):
            return list(cls.execute(**inputs).result or ())
        returned = getattr(cls(), cls.FUNCTION)(**inputs)
        return list(returned["result"] if isinstance(returned, dict) else returned)

    return call


@pytest.fixture(autouse=True)
def _empty_bus() -> Iterator[None]:
    """No frames of an earlier test."""
    yield
    for feed in (bus.image_inputs, bus.image_outputs, bus.audio_inputs, bus.audio_outputs, bus.text_outputs):
        feed.clear()
    bus.inputs.clear()
    bus.outputs.clear()
