"""Depth of live pictures by a backend, and by the engine files of ComfyUI's Depth Anything TensorRT nodes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from comfystream.errors import AssetError, ConfigError, EngineError
from comfystream.model_files import find_model, model_input, place_of

from .ready import CATEGORY, backend_input, folder_paths, named, precision_input, ready, resolved_precision

if TYPE_CHECKING:
    from torch import Tensor

    from comfystream.accel.runner import Runner

__all__ = ["NODES", "DepthModel", "accelerated_depth", "engine_folder"]

FOLDERS = ("depth",)  # below the models
KEPT = 2  # engines that stay loaded


class DepthModel:
    """Pictures to depth.

    Args:
        runner: [n, 3, side, side] of 0..1 to depth.
        name: for people.
        engine: digest of its engine, for people.
        is_far_bright: the model gives distances, and near is to be bright.
    """

    def __init__(self, runner: Runner, name: str, engine: str = "", is_far_bright: bool = False) -> None:
        self.runner = runner
        self.name = name
        self.engine = engine
        self._is_far_bright = is_far_bright

    def raw(self, image: Tensor) -> Tensor:
        """What the model gives, at its own size.

        Args:
            image: [n, height, width, 3] of 0..1.

        Returns:
            [n, 1, side, side], single precision, the caller's own.
        """
        import torch
        from torch.nn.functional import interpolate

        spec = self.runner.spec
        most, _, *side = spec.inputs[0].at("opt")
        picture = image[..., :3].movedim(-1, 1).to(self.runner.device, torch.float32)
        small = interpolate(picture, tuple(side), mode="bilinear", antialias=True)
        parts = []
        for start in range(0, len(small), most):
            some = small[start : start + most]
            given = self.runner.results({spec.inputs[0].name: _filled(some, most)})[spec.outputs[0]]
            parts.append(given.float().reshape(most, 1, *given.shape[-2:])[: len(some)])
        return torch.cat(parts)

    def estimate(self, image: Tensor) -> Tensor:
        """Near is bright.

        Args:
            image: [n, height, width, 3] of 0..1.

        Returns:
            [n, height, width, 3] of 0..1, on the device.
        """
        from torch.nn.functional import interpolate

        depth = self.raw(image)
        low, high = depth.amin(dim=(2, 3), keepdim=True), depth.amax(dim=(2, 3), keepdim=True)
        shown = (depth - low) / (high - low).clamp_min(1e-6)
        shown = 1 - shown if self._is_far_bright else shown
        return interpolate(shown, image.shape[1:3], mode="bilinear").movedim(1, -1).expand(-1, -1, -1, 3)


def _filled(some: Tensor, rows: int) -> Tensor:
    """An engine has so many rows; the last picture stands in the ones that are left over."""
    import torch

    return torch.cat([some, *[some[-1:]] * (rows - len(some))]) if len(some) < rows else some


def accelerated_depth(model: Any, name: str, side: int, backend: str, precision: str) -> DepthModel:
    """A depth model of transformers on a backend, for a square of one size.

    Args:
        model: gives `predicted_depth`.
        name: for people.
        side: of the square that it looks at.
        backend: its name.
        precision: of its weights and work.

    Raises:
        ConfigError: it does not take this size.
        EngineError: the backend is not here, or cannot run it.
    """
    from comfystream.accel.depth import DepthModule, depth_spec

    spec = depth_spec(model, side, precision=resolved_precision(precision, backend))
    made = ready(DepthModule(model), spec, backend)
    return DepthModel(made.runner, name, made.engine)


class AcceleratedDepthLoader:
    """A depth model, ready to run."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("DEPTH_MODEL",), ("depth_model",)
    DESCRIPTION = "Loads a depth model in transformers' layout, such as Depth Anything V2, and runs it by a backend."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        name = model_input("a folder below models/depth, or a path", *FOLDERS, default="depth-anything-v2-small")
        side = ("INT", {"default": 518, "min": 14, "max": 2058, "step": 14})
        return {
            "required": {"model": name, "side": side, "backend": backend_input(), "precision": precision_input()},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        try:
            _folder(model)
        except AssetError as error:
            return f"{error.message} ({error.hint})"
        return True

    def load(self, model: str, side: int, backend: str, precision: str) -> tuple[DepthModel]:
        with named("AcceleratedDepthLoader"):
            from comfystream.accel.depth import load_depth_model

            folder = _folder(model)
            return (accelerated_depth(load_depth_model(folder), folder.name, side, backend, precision),)


def _folder(name: str) -> Path:
    place = find_model(name, FOLDERS)
    if place is None or not place.is_dir():
        raise AssetError(
            f"there is no depth model {name} in {place_of(FOLDERS[0])}",
            code="no_file",
            hint="comfystream fetch models --config models-streamdiffusion.yaml has one",
        )
    return place


class AcceleratedDepth:
    """A depth picture."""

    CATEGORY, FUNCTION = CATEGORY, "estimate"
    RETURN_TYPES: ClassVar = ("IMAGE",)
    DESCRIPTION = "How near everything is; near is bright. The picture stays on the GPU."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"depth_model": ("DEPTH_MODEL",), "image": ("IMAGE",)}}

    def estimate(self, depth_model: DepthModel, image: Tensor) -> tuple[Tensor]:
        with named("AcceleratedDepth"):
            return (depth_model.estimate(image),)


def engine_folder() -> Path:
    """Where Depth Anything TensorRT nodes keep their engines."""
    return Path(folder_paths().models_dir) / "tensorrt/depth-anything"


@lru_cache(maxsize=KEPT)
def _engine(path: Path, changed_ns: int) -> DepthModel:
    """An engine file as it is now; another one of the same name is loaded anew."""
    from comfystream.accel.engine_unet import nvidia_backend

    runner = nvidia_backend().load(path, None, "cuda")
    inputs, outputs = runner.spec.inputs, runner.spec.outputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise EngineError(f"{path.name}: not an engine of a depth model: its inputs are {names}", code="bad_graph")
    runner.bind()
    return DepthModel(runner, path.name, is_far_bright="metric" in path.name)


def _model_of(engine: str) -> DepthModel:
    if "DA3" in engine:
        raise ConfigError(f"{engine}: Depth Anything 3 is not known here", code="bad_model_type")
    path = engine_folder() / engine
    if not path.resolve().is_relative_to(engine_folder().resolve()):
        raise ConfigError(f"{engine}: an engine is named by its file", code="bad_engine_name")
    if not path.is_file():
        there = ", ".join(_engines()) or "nothing"
        raise AssetError(
            f"there is no {engine} in {engine_folder()}; there is {there}",
            code="no_engine",
            hint="comfystream engines build --targets build_targets.yaml",
        )
    return _engine(path, path.stat().st_mtime_ns)


def _engines() -> list[str]:
    folder = engine_folder()
    return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


class DepthAnythingTensorrt:
    """The node of the Depth Anything TensorRT pack: its key, inputs and engine files."""

    CATEGORY, FUNCTION = "tensorrt", "main"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE",), ("IMAGE",)
    OUTPUT_NODE = True
    DESCRIPTION = "Depth by an engine file in models/tensorrt/depth-anything; near is bright."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"images": ("IMAGE",), "engine": (_engines(),)}}

    def main(self, images: Tensor, engine: str) -> tuple[Tensor]:
        with named("DepthAnythingTensorrt"):
            return (_model_of(engine).estimate(images),)


class DepthAnythingTensorrtAdvanced(DepthAnythingTensorrt):
    """The same, depth as the model gives it."""

    FUNCTION = "process"
    RETURN_TYPES, RETURN_NAMES = ("DEPTHS",), ("depths",)
    OUTPUT_NODE = False
    DESCRIPTION = "Depth by an engine file, as the model gives it: [frames, height, width] of numpy, single precision."

    def process(self, images: Tensor, engine: str) -> tuple[Any]:
        """DEPTHS is numpy's, on the processor: the pack's nodes take it so."""
        from torch.nn.functional import interpolate

        with named("DepthAnythingTensorrtAdvanced"):
            depth = interpolate(_model_of(engine).raw(images), images.shape[1:3], mode="bilinear")
            return (depth[:, 0].cpu().numpy(),)


NODES: dict[str, tuple[type, str]] = {
    "AcceleratedDepthLoader": (AcceleratedDepthLoader, "Load Depth Model (accelerated)"),
    "AcceleratedDepth": (AcceleratedDepth, "Depth (stays on the GPU)"),
    "DepthAnythingTensorrt": (DepthAnythingTensorrt, "Depth Anything Tensorrt"),
    "DepthAnythingTensorrtAdvanced": (DepthAnythingTensorrtAdvanced, "Depth Anything Tensorrt Advanced"),
}
