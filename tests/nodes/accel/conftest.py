from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from comfystream.catalog import standin
from comfystream.catalog.registry import CatalogOptions, load_catalog


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The pack, with folders of its own for models, results and engines."""
    load_catalog(CatalogOptions(pack_folders=()))
    names = {name: tmp_path / name for name in ("models", "input", "output", "temp")}
    for folder in names.values():
        folder.mkdir()
    standin.install(standin.Folders(base=str(tmp_path), **{name: str(folder) for name, folder in names.items()}))
    monkeypatch.setenv("COMFYSTREAM_ENGINES", str(tmp_path / "engines"))

    from comfystream_nodes.accel import NODE_CLASS_MAPPINGS

    with torch.inference_mode():
        yield NODE_CLASS_MAPPINGS
    standin.install(standin.Folders())


@pytest.fixture
def call(nodes: dict[str, Any]) -> Any:
    """`call("AcceleratedVAE", vae=...)` gives the first output; missing inputs have their defaults."""

    def call(key: str, /, **inputs: Any) -> Any:
        kind = nodes[key]
        for name, declared in kind.INPUT_TYPES()["required"].items():
            if name not in inputs and len(declared) > 1 and "default" in declared[1]:
                inputs[name] = declared[1]["default"]
        return getattr(kind(), kind.FUNCTION)(**inputs)[0]

    return call
