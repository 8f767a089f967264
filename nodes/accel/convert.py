"""A MODEL into an engine file, under the name that workflows of ComfyUI's TensorRT nodes expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from comfystream.accel.file_names import name_of_engine
from comfystream.accel.model_specs import Ranges
from comfystream.errors import ConfigError

from .ready import folder_paths, progress

__all__ = ["DynamicConversion", "StaticConversion"]

TOKENS = 77


def _int(default: int, low: int, high: int, step: int = 1) -> tuple[str, dict[str, int]]:
    return "INT", {"default": default, "min": low, "max": high, "step": step}


def _inputs(prefix: str, points: tuple[str, ...]) -> dict[str, Any]:
    inputs: dict[str, Any] = {"model": ("MODEL",), "filename_prefix": ("STRING", {"default": prefix})}
    for name, given in (("batch_size", (1, 1, 100)), ("height", (512, 256, 4096, 64)), ("width", (512, 256, 4096, 64))):
        inputs |= {f"{name}_{point}": _int(*given) for point in points}
    inputs |= {f"context_{point}": _int(1, 1, 128) for point in points}
    control = {"default": False, "tooltip": "The engine takes the residuals of ControlNets, and has one size."}
    return {
        "required": {**inputs, "num_video_frames": _int(14, 0, 1000)},
        "optional": {"controlnet": ("BOOLEAN", control)},
    }


class StaticConversion:
    """An engine for one size: the fastest one."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    FUNCTION = "convert"
    OUTPUT_NODE = True
    CATEGORY = "TensorRT"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return _inputs("tensorrt/ComfyUI_STAT", ("opt",))

    def convert(self, model: Any, filename_prefix: str, controlnet: bool = False, **sizes: int) -> dict[str, Any]:
        ranges = Ranges(sizes["batch_size_opt"], sizes["height_opt"], sizes["width_opt"], TOKENS * sizes["context_opt"])
        return _convert(model, filename_prefix, ranges, controlnet)


class DynamicConversion(StaticConversion):
    """An engine for a range of sizes."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return _inputs("tensorrt/ComfyUI_DYN", ("min", "opt", "max"))

    def convert(self, model: Any, filename_prefix: str, controlnet: bool = False, **sizes: int) -> dict[str, Any]:
        batch, height, width, context = (
            (sizes[f"{name}_min"], sizes[f"{name}_opt"], sizes[f"{name}_max"])
            for name in ("batch_size", "height", "width", "context")
        )
        low, best, high = context
        tokens = (TOKENS * low, TOKENS * best, TOKENS * high)
        return _convert(model, filename_prefix, Ranges(batch, height, width, tokens), controlnet)


def _convert(model: Any, prefix: str, ranges: Ranges, takes_control: bool) -> dict[str, Any]:
    output = Path(folder_paths().get_output_directory()).resolve()
    target = (output / name_of_engine(prefix, ranges)).resolve()
    if not target.is_relative_to(output):
        raise ConfigError(f"{prefix}: leads out of the output folder", code="bad_engine_name")
    from comfystream.accel.backend import BuildOptions
    from comfystream.accel.build import build_all, job_of_module
    from comfystream.accel.cache import EngineCache
    from comfystream.accel.engine_unet import nvidia_backend
    from comfystream.accel.key import EngineKey, digest_of_module
    from comfystream.accel.machine import machine
    from comfystream.accel.registry import choose
    from comfystream.accel.target_jobs import place_engine

    from .convertible import module_of_model

    choice = choose(nvidia_backend().name, to_build=True)
    module, spec = module_of_model(model, ranges, takes_control)
    options = BuildOptions()
    key = EngineKey.of(choice.capability, machine(), spec, options, digest_of_module(module))
    device = str(next(module.parameters()).device)
    job = job_of_module(choice, module, key, device, verifies=False, label=target.stem)
    entry = build_all([job], EngineCache(), progress())[0]
    place_engine(entry.plan, target)
    return {"ui": {"text": [target.name]}}
