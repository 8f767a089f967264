"""The ComfyUI around us: where it is, and what it was started with, for our server to load the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Surroundings", "around_us"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What counts of it.

    Attributes:
        folder: the checkout.
        words: flags of `comfystream serve` that follow its own command line.
        environ: variables for the same.
    """

    folder: Path
    words: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


def around_us(modules: Mapping[str, Any] = sys.modules) -> Surroundings | None:
    """Of the ComfyUI whose modules these are; None where there is none."""
    file = getattr(modules.get("nodes"), "__file__", None) or getattr(modules.get("folder_paths"), "__file__", None)
    if not file:
        return None
    told = getattr(modules.get("comfy.cli_args"), "args", None)
    return Surroundings(Path(file).resolve().parent, _words(told), _environ(told))


def _words(told: Any) -> tuple[str, ...]:
    words: list[str] = []
    if getattr(told, "disable_api_nodes", False):
        words.append("--no-api-nodes")
    if getattr(told, "lowvram", False) or getattr(told, "novram", False):
        words += ["--vram", "low"]
    elif getattr(told, "highvram", False) or getattr(told, "gpu_only", False):
        words += ["--vram", "high"]
    if getattr(told, "disable_all_custom_nodes", False):
        for name in getattr(told, "whitelist_custom_nodes", None) or ():
            words += ["--allow-pack", str(name)]
    return tuple(words)


def _environ(told: Any) -> dict[str, str]:
    environ: dict[str, str] = {}
    if base := getattr(told, "base_directory", None):
        environ["COMFYUI_BASE_DIRECTORY"] = os.path.abspath(base)
    files = [os.path.abspath(file) for group in getattr(told, "extra_model_paths_config", None) or () for file in group]
    if files:
        environ["COMFYUI_EXTRA_MODEL_PATHS"] = os.pathsep.join(files)
    if getattr(told, "cpu", False):
        environ["CUDA_VISIBLE_DEVICES"] = ""
    return environ
