"""Upscalers off the disk, and what they take."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comfystream.errors import AssetError

from .model_specs import Ranges
from .spec import PRECISIONS, ModelSpec, TensorSpec
from .upscalers import upscaler_of
from .weights import read_weights

__all__ = ["load_upscaler", "upscaler_spec"]


def load_upscaler(path: Path, scale: int = 0) -> Any:
    """An upscaler from a .safetensors or .pth file: SRVGGNetCompact, RRDBNet, FSRCNN, else what spandrel knows.

    Args:
        path: the file. Pickled code is never run.
        scale: of an FSRCNN whose name does not say it.

    Returns:
        A module of [n, 3, h, w] of 0..1 with `scale`.

    Raises:
        AssetError: the file is missing, broken, or of an architecture that is not known.
    """
    weights = _read(path)
    try:
        return upscaler_of(weights, path.name, scale)
    except AssetError as error:
        if error.code != "wrong_weights":
            raise
        found = _by_spandrel(weights, path.name)
        if found is None:
            raise
        return found


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix in (".safetensors", ".sft"):
        return read_weights(path)
    if not path.is_file():
        raise AssetError(f"{path}: No such file or directory", code="no_file", hint="comfystream fetch models")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise AssetError(
            f"{path}: cut off, or not a file of weights: {str(error).splitlines()[0][:120]}",
            code="broken_weights",
            hint="delete it and fetch it again",
        ) from error
    return _flat(loaded) if isinstance(loaded, Mapping) else {}


def _flat(loaded: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in loaded.items():
        if isinstance(value, Tensor):
            flat[f"{prefix}{name}"] = value
        elif isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
    return flat


def _by_spandrel(weights: Mapping[str, Tensor], name: str) -> Any:
    """None when spandrel is not installed."""
    try:
        spandrel = importlib.import_module("spandrel")
    except ImportError:
        return None
    try:
        found = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(weights))
    except spandrel.UnsupportedModelError as error:
        raise AssetError(f"{name}: no architecture that spandrel knows", code="wrong_weights") from error
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.input_channels != 3:
        raise AssetError(f"{name}: no upscaler of colour pictures", code="wrong_weights")
    module = found.model.eval().requires_grad_(False)
    module.scale = found.scale
    return module


def upscaler_spec(ranges: Ranges, precision: str = "fp32") -> ModelSpec:
    """Picture -> larger picture."""
    shape = (ranges.axis("batch"), 3, ranges.axis("height"), ranges.axis("width"))
    return ModelSpec("upscaler", (TensorSpec("images", PRECISIONS[precision], shape),), ("larger",), precision)
