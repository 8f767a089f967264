"""Loads the node classes of a real ComfyUI checkout into this process, without a server, a model or a GPU.

Run it in a process of its own: ComfyUI owns module names such as `nodes` and `server`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import tempfile
import types
from pathlib import Path
from typing import Any


def _register_torchvision_ops() -> object:
    """torchvision built for another torch cannot register its operators; their schemas are all that an import needs."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


class _Anything:
    """Stands for whatever of a server a node module touches at import: any attribute, callable, a decorator."""

    def __getattr__(self, name: str) -> _Anything:
        return _Anything()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) else _Anything()


def _stub_server() -> types.ModuleType:
    module = types.ModuleType("server")
    module.PromptServer = type("PromptServer", (), {"instance": _Anything()})  # type: ignore[attr-defined]
    return module


def load(folder: Path, modules: list[str]) -> dict[str, tuple[type, str]]:
    """Class and display name by key: ComfyUI's core nodes and those of `modules` (of comfy_extras)."""
    sys.argv = [sys.argv[0]]
    sys.path.insert(0, str(folder))
    sys.path_importer_cache.clear()
    if importlib.util.find_spec("torchvision"):
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            sys.modules["_torchvision_ops"] = _register_torchvision_ops()  # type: ignore[assignment]
    sys.modules["comfy.zluda"] = types.ModuleType("comfy.zluda")  # some forks install packages when they import it
    args = importlib.import_module("comfy.cli_args").args
    args.cpu = True
    importlib.import_module("utils.extra_config")  # before `nodes`, which hides this package behind comfy/utils.py
    sys.modules["server"] = _stub_server()
    paths = importlib.import_module("folder_paths")
    scratch = Path(tempfile.mkdtemp(prefix="parity-"))
    for name in ("input", "output", "temp"):
        (scratch / name).mkdir()
        getattr(paths, f"set_{name}_directory")(str(scratch / name))
    nodes = importlib.import_module("nodes")
    for name in modules:
        path = folder / "comfy_extras" / f"{name}.py"
        if path.exists():
            asyncio.run(nodes.load_custom_node(str(path), module_parent="comfy_extras"))
    names = nodes.NODE_DISPLAY_NAME_MAPPINGS
    return {key: (cls, names.get(key, key)) for key, cls in nodes.NODE_CLASS_MAPPINGS.items()}
