"""Upscalers by a backend: for ComfyUI's UPSCALE_MODEL socket, and a node that keeps tensors on the device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from comfystream.errors import AssetError, EngineError

from .ready import (
    CATEGORY,
    backend_input,
    file_of,
    files_in,
    named,
    precision_input,
    ranges_for,
    ready,
    resolved_precision,
    size_input,
)
from .tiles import tiled

if TYPE_CHECKING:
    from torch import Tensor

    from comfystream.accel.accelerate import Accelerated

__all__ = ["NODES", "AcceleratedUpscaler", "accelerated_upscaler"]

OVERLAP = 32
SR_SIDE = 512


class AcceleratedUpscaler:
    """In the place of what ComfyUI's UpscaleModelLoader gives: called with pictures, and has a `scale`.

    Args:
        made: the network, ready.
        scale: times in each direction.
        name: of the file.
    """

    input_channels = output_channels = 3

    def __init__(self, made: Accelerated, scale: int, name: str) -> None:
        import torch

        self.runner = made.runner
        self.engine = made.engine
        self.scale = scale
        self.name = name
        self.model = torch.nn.Identity()  # ComfyUI counts its weights to make room; the backend has its own

    def __call__(self, images: Tensor) -> Tensor:
        """Enlarge.

        Args:
            images: [n, 3, height, width] of 0..1; what an engine's size does not hold is done in tiles.

        Returns:
            [n, 3, height * scale, width * scale], the caller's own, on the device that the pictures were on.
        """
        import torch

        from comfystream.accel.spec import Axis

        spec, height, width = self.runner.spec.inputs[0], *images.shape[2:]
        sides = [size.step if isinstance(size, Axis) else size for size in spec.shape[2:]]
        tile = (-(-height // sides[0]) * sides[0], -(-width // sides[1]) * sides[1])
        if not spec.is_dynamic:
            tile = (sides[0], sides[1])
        if tile == (height, width):
            larger = torch.cat([self._run(images[row : row + 1]) for row in range(len(images))])
        else:
            larger = tiled(self._run, images.to(self.runner.device), tile, self.scale, OVERLAP)
        return larger.to(images.device)

    def _run(self, image: Tensor) -> Tensor:
        return self.runner.results({"images": image})["larger"].float()

    def to(self, *place: Any, **more: Any) -> AcceleratedUpscaler:
        """ComfyUI moves its models; this one stays where its backend is."""
        return self

    def eval(self) -> AcceleratedUpscaler:
        """It always is."""
        return self


def accelerated_upscaler(
    module: Any, name: str, backend: str, width: int, height: int, precision: str
) -> AcceleratedUpscaler:
    """An upscaler on a backend.

    Args:
        module: with `scale`, as `load_upscaler` gives it.
        name: for people.
        backend: its name.
        width: of the pictures that an engine takes; others go in tiles.
        height: likewise.
        precision: of its weights and work.

    Raises:
        EngineError: the backend is not here, or cannot run it.
    """
    from comfystream.accel.upscaler_files import upscaler_spec

    ranges = ranges_for(backend, 1, height, width, step=int(getattr(module, "unshuffle", 1)))
    spec = upscaler_spec(ranges, resolved_precision(precision, backend))
    return AcceleratedUpscaler(ready(module, spec, backend), int(module.scale), name)


class AcceleratedUpscaleModelLoader:
    """An upscaler, ready to run."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES: ClassVar = ("UPSCALE_MODEL",)
    DESCRIPTION = "Loads an upscaler from models/upscale_models and runs it by a backend. Goes into Upscale Image."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        scale = ("INT", {"default": 0, "min": 0, "max": 4, "tooltip": "of an FSRCNN whose name does not say it"})
        return {
            "required": {
                "model_name": (files_in("upscale_models"),),
                "backend": backend_input(),
                "width": size_input(),
                "height": size_input(),
                "precision": precision_input(),
            },
            "optional": {"scale": scale},
        }

    def load(
        self, model_name: str, backend: str, width: int, height: int, precision: str, scale: int = 0
    ) -> tuple[AcceleratedUpscaler]:
        with named("AcceleratedUpscaleModelLoader"):
            from comfystream.accel.upscaler_files import load_upscaler

            module = load_upscaler(file_of(model_name, "upscale_models"), scale)
            return (accelerated_upscaler(module, model_name, backend, width, height, precision),)


class AcceleratedUpscale:
    """As ComfyUI's ImageUpscaleWithModel, without copies to the processor."""

    CATEGORY, FUNCTION = CATEGORY, "upscale"
    RETURN_TYPES: ClassVar = ("IMAGE",)
    DESCRIPTION = "Enlarges pictures by an accelerated upscaler; they stay on the GPU."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"upscale_model": ("UPSCALE_MODEL",), "image": ("IMAGE",)}}

    def upscale(self, upscale_model: Any, image: Tensor) -> tuple[Tensor]:
        with named("AcceleratedUpscale"):
            return (_enlarged(upscale_model, image),)


def _enlarged(model: Any, image: Tensor) -> Tensor:
    larger: Tensor = model(image[..., :3].movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    return larger


FAMILIES = ["FSRCNN", "FSRCNN-small", "EDSR", "ESPCN", "LapSRN", "VDSR"]


class SuperResolutionModelLoader:
    """The loader of the super resolution nodes that the first ComfyStream came with; here for FSRCNN, in torch."""

    CATEGORY, FUNCTION = "StreamPack/SuperResolution", "load_model"
    RETURN_TYPES, RETURN_NAMES = ("SR_MODEL",), ("sr_model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model_type": (FAMILIES, {"default": "FSRCNN"}),
                "scale_factor": (["2", "3", "4"], {"default": "2"}),
            }
        }

    def load_model(self, model_type: str, scale_factor: str) -> tuple[AcceleratedUpscaler]:
        with named("SuperResolutionModelLoader"):
            wanted = f"{model_type}_x{scale_factor}"
            for name in files_in("upscale_models"):
                if Path(name).stem.lower() == wanted.lower():
                    return (_super_resolution(name, int(scale_factor)),)
            raise AssetError(
                f"there is no {wanted}.safetensors or .pth in models/upscale_models",
                code="no_file",
                hint="it is an FSRCNN in PyTorch's layout; OpenCV's .pb files are not read here",
            )


def _super_resolution(name: str, scale: int) -> AcceleratedUpscaler:
    from comfystream.accel.upscaler_files import load_upscaler

    module = load_upscaler(file_of(name, "upscale_models"), scale)
    return accelerated_upscaler(module, name, "auto", SR_SIDE, SR_SIDE, "auto")


class SuperResolutionUpscale:
    """Enlarges by what the loader gave."""

    CATEGORY, FUNCTION = "StreamPack/SuperResolution", "upscale_image"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE",), ("upscaled_image",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        use_cuda = (["True", "False"], {"default": "True"})
        return {"required": {"image": ("IMAGE",), "sr_model": ("SR_MODEL",), "use_cuda": use_cuda}}

    def upscale_image(self, image: Tensor, sr_model: Any, use_cuda: str = "True") -> tuple[Tensor]:
        """`use_cuda` was OpenCV's; the backend of the model decides here."""
        with named("SuperResolutionUpscale"):
            if not callable(sr_model):
                raise EngineError("this SR_MODEL is not of this loader", code="bad_model_type")
            return (_enlarged(sr_model, image),)


NODES: dict[str, tuple[type, str]] = {
    "AcceleratedUpscaleModelLoader": (AcceleratedUpscaleModelLoader, "Load Upscale Model (accelerated)"),
    "AcceleratedUpscale": (AcceleratedUpscale, "Upscale Image (stays on the GPU)"),
    "SuperResolutionModelLoader": (SuperResolutionModelLoader, "SR Model Loader"),
    "SuperResolutionUpscale": (SuperResolutionUpscale, "SR Upscale"),
}
