"""An engine file as a MODEL."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from comfystream.accel.file_names import engine_files, find_engine

from .ready import folder_paths

__all__ = ["TensorRTLoader", "workspace"]

MODEL_TYPES = [
    "sdxl_base",
    "sdxl_refiner",
    "sd1.x",
    "sd2.x-768v",
    "svd",
    "sd3",
    "auraflow",
    "flux_dev",
    "flux_schnell",
]


def workspace() -> Path:
    """The folder with `models/` and `output/` in it."""
    return Path(folder_paths().get_output_directory()).parent


class TensorRTLoader:
    """Loads an engine by the name of its file.

    In ComfyUI the MODEL is one that its samplers take (SD 1.x, 2.x and SDXL); without ComfyUI it is the UNet itself.
    """

    RETURN_TYPES: ClassVar = ("MODEL",)
    FUNCTION = "load_unet"
    CATEGORY = "TensorRT"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"unet_name": (sorted(engine_files(workspace())),), "model_type": (MODEL_TYPES,)}}

    def load_unet(self, unet_name: str, model_type: str) -> tuple[Any]:
        path = find_engine(unet_name, workspace())
        from comfystream.accel.engine_unet import load_engine_unet

        unet = load_engine_unet(path)
        try:
            import comfy.supported_models  # noqa: F401 - only a real ComfyUI has it
        except ImportError:
            return (unet,)
        from .in_comfyui import model_of

        return (model_of(unet, model_type),)
