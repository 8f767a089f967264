"""What all nodes here share: inputs for backend and precision, models made ready with progress, errors with a name."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from comfystream.errors import AssetError, ComfyStreamError
from comfystream.node_progress import report

if TYPE_CHECKING:
    from torch import nn

    from comfystream.accel.accelerate import Accelerated
    from comfystream.accel.build import BuildProgress
    from comfystream.accel.model_specs import Ranges
    from comfystream.accel.spec import ModelSpec

__all__ = [
    "CATEGORY",
    "backend_input",
    "file_of",
    "files_in",
    "folder_paths",
    "named",
    "precision_input",
    "progress",
    "ranges_for",
    "ready",
    "resolved_precision",
    "size_input",
]

log = logging.getLogger(__name__)

CATEGORY = "ComfyStream/acceleration"
BACKENDS = ["auto", "eager", "cuda-graph", "inductor", "tensorrt", "tensorrt-rtx", "onnxruntime"]
LARGEST = 8192
MOST_ROWS = 64


def backend_input() -> tuple[list[str], dict[str, Any]]:
    """Which backend: one that is named and does not work here is an error."""
    told = "auto takes the fastest that works here and logs which and why; a named one that is missing is an error"
    return BACKENDS, {"default": "auto", "tooltip": told}


def precision_input() -> tuple[list[str], dict[str, Any]]:
    """Of weights and work."""
    return ["auto", "fp16", "bf16", "fp32"], {"default": "auto", "tooltip": "auto: half on a GPU, single elsewhere"}


def size_input(default: int = 512, step: int = 8, most: int = LARGEST) -> tuple[str, dict[str, Any]]:
    """A side in pixels."""
    told = "backends with engines are built for this size; the others take any"
    return "INT", {"default": default, "min": step, "max": most, "step": step, "tooltip": told}


def resolved_precision(asked: str, backend: str, on_gpu: str = "fp16") -> str:
    """What "auto" means here, by this backend."""
    if asked != "auto":
        return asked
    if backend == "onnxruntime":  # it stays on the processor, also where there is a GPU
        return "fp32"
    from comfystream.accel.machine import machine

    return on_gpu if machine().gpu else "fp32"


def ranges_for(backend: str, batch: int, height: int, width: int, step: int = 8) -> Ranges:
    """Sizes for a backend: one where it makes engines, which are fastest so; any where it does not.

    Raises:
        EngineError: the backend is not there.
    """
    from comfystream.accel.model_specs import Ranges
    from comfystream.accel.registry import choose

    if choose(backend).backend.plan_name:
        return Ranges(batch, height, width, step=step)
    return Ranges((1, batch, MOST_ROWS), (step, height, LARGEST), (step, width, LARGEST), step=step)


def ready(module: nn.Module, spec: ModelSpec, backend: str) -> Accelerated:
    """A module on a backend, bound to its size. Engines are found, or built with progress at the node.

    Raises:
        EngineError: the backend is not here, or cannot run this model.
    """
    from comfystream.accel.accelerate import How, accelerate
    from comfystream.accel.runner import torch_dtype
    from comfystream.accel.spec import PRECISIONS

    module = module.to(torch_dtype(PRECISIONS[spec.precision])).eval().requires_grad_(False)
    made = accelerate(module, spec, How(backend), on_build=progress())
    log.info("%s: %s", spec.name, made.choice.reason)
    return made


def progress() -> Callable[[BuildProgress], None]:
    """Tells a build's progress in words, and as a bar at the node that runs."""
    try:
        bar = importlib.import_module("comfy.utils").ProgressBar(100)
    except ImportError:  # no node runs: a benchmark
        bar = None

    def tell(state: BuildProgress) -> None:
        done = state.number - 1 + state.share
        if bar is not None:
            bar.update_absolute(int(100 * done / state.total), 100)
        report(str(state), done, state.total)

    return tell


@contextlib.contextmanager
def named(node: str) -> Iterator[None]:
    """Put the node's name before what went wrong in it."""
    try:
        yield
    except ComfyStreamError as error:
        if not error.message.startswith(f"{node}: "):
            error.message = f"{node}: {error.message}"
        raise


def folder_paths() -> Any:
    """ComfyUI's module, or what stands for it; asked when it is used, for it may be put up after the nodes."""
    return importlib.import_module("folder_paths")


def files_in(kind: str, endings: tuple[str, ...] = (".safetensors", ".pth", ".pt")) -> list[str]:
    """Names of a kind's model files, as a node offers them."""
    paths = folder_paths()
    if kind not in paths.folder_names_and_paths:
        return []
    return [name for name in paths.get_filename_list(kind) if name.lower().endswith(endings)]


def file_of(name: str, kind: str) -> Any:
    """The path of a model file by its name.

    Raises:
        AssetError: there is none.
    """
    from pathlib import Path

    paths = folder_paths()
    found = paths.get_full_path(kind, name) if kind in paths.folder_names_and_paths else None
    if not found:
        raise AssetError(
            f"there is no {name} in models/{kind}", code="no_file", hint="put it there, or comfystream fetch models"
        )
    return Path(found)
