"""A MODEL into an engine file, under the name that workflows of ComfyUI's TensorRT nodes expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import folder_paths

from comfystream.accel.file_names import COMFYUI_NAMES, name_of_engine
from comfystream.accel.model_specs import Ranges, unet_spec
from comfystream.errors import ConfigError, EngineError

__all__ = ["DynamicConversion", "StaticConversion"]

TOKENS = 77


def _int(default: int, low: int, high: int, step: int = 1) -> tuple[str, dict[str, int]]:
    return "INT", {"default": default, "min": low, "max": high, "step": step}


def _inputs(prefix: str, points: tuple[str, ...]) -> dict[str, Any]:
    inputs: dict[str, Any] = {"model": ("MODEL",), "filename_prefix": ("STRING", {"default": prefix})}
    for name, given in (("batch_size", (1, 1, 100)), ("height", (512, 256, 4096, 64)), ("width", (512, 256, 4096, 64))):
        inputs |= {f"{name}_{point}": _int(*given) for point in points}
    inputs |= {f"context_{point}": _int(1, 1, 128) for point in points}
    return {"required": {**inputs, "num_video_frames": _int(14, 0, 1000)}}


class StaticConversion:
    """An engine for one size: the fastest one."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    FUNCTION = "convert"
    OUTPUT_NODE = True
    CATEGORY = "TensorRT"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return _inputs("tensorrt/ComfyUI_STAT", ("opt",))

    def convert(self, model: Any, filename_prefix: str, **sizes: int) -> dict[str, Any]:
        ranges = Ranges(sizes["batch_size_opt"], sizes["height_opt"], sizes["width_opt"], TOKENS * sizes["context_opt"])
        return _convert(model, filename_prefix, ranges)


class DynamicConversion(StaticConversion):
    """An engine for a range of sizes."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return _inputs("tensorrt/ComfyUI_DYN", ("min", "opt", "max"))

    def convert(self, model: Any, filename_prefix: str, **sizes: int) -> dict[str, Any]:
        batch, height, width, context = (
            (sizes[f"{name}_min"], sizes[f"{name}_opt"], sizes[f"{name}_max"])
            for name in ("batch_size", "height", "width", "context")
        )
        low, best, high = context
        return _convert(
            model, filename_prefix, Ranges(batch, height, width, (TOKENS * low, TOKENS * best, TOKENS * high))
        )


def _convert(model: Any, prefix: str, ranges: Ranges) -> dict[str, Any]:
    output = Path(folder_paths.get_output_directory()).resolve()
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

    choice = choose(nvidia_backend().name, to_build=True)
    unet, text_width = _unet_of(model)
    first = next(unet.parameters())
    precision = {"torch.float16": "fp16", "torch.bfloat16": "bf16"}.get(str(first.dtype), "fp32")
    spec = unet_spec(ranges, precision, text_width=text_width).renamed(COMFYUI_NAMES)
    options = BuildOptions(exporter="legacy")
    key = EngineKey.of(choice.capability, machine(), spec, options, digest_of_module(unet))
    bar = _bar()
    job = job_of_module(choice, unet, key, str(first.device), verifies=False, label=target.stem)
    entry = build_all([job], EngineCache(), lambda progress: bar.update_absolute(int(100 * progress.share), 100))[0]
    place_engine(entry.plan, target)
    return {"ui": {"text": [target.name]}}


def _bar() -> Any:
    import comfy.utils

    return comfy.utils.ProgressBar(100)


def _unet_of(model: Any) -> tuple[Any, int]:
    """The UNet in a MODEL, and the width of its text: ComfyUI's model, or a UNet of diffusers."""
    if hasattr(model, "get_model_object"):
        unet = model.get_model_object("diffusion_model")
        config = model.model.model_config.unet_config
        if config.get("adm_in_channels"):
            raise EngineError("models with pooled text (SDXL) cannot be converted by this node", code="bad_model_type")
        import comfy.model_management

        comfy.model_management.load_models_gpu([model], force_patch_weights=True)
        return unet, int(config["context_dim"])
    if hasattr(getattr(model, "config", None), "cross_attention_dim"):
        from comfystream.accel.modules import UNetModule

        return UNetModule(model), int(model.config.cross_attention_dim)
    raise EngineError(f"there is no UNet in a {type(model).__name__}", code="bad_model_type")
