"""A torchvision that was built for another torch: ComfyUI imports it, and that import fails.

Cause: torchvision describes the fake kernels of its operators `nms` and `qnms` when it is imported; its compiled part,
which registers them, does not load beside another torch, and torch refuses to describe operators that are not there.
ComfyUI needs its transforms and models only, and these work. To be deleted when torchvision imports without its
compiled part.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

__all__ = ["import_torchvision"]

_kept: list[Any] = []  # an operator library lives as long as it is referenced


def import_torchvision() -> None:
    """Import it if it is installed. What else is wrong with it is found by who needs it."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _kept.append(_operators())
        importlib.import_module("torchvision")


def _operators() -> Any:
    import torch

    make: Any = torch.library.Library
    library = make("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
