"""The nodes that a stream goes in and out by. Class keys, inputs and categories are in saved workflows: keep them."""

from __future__ import annotations

from .audio import LoadAudioTensor, SaveAudioTensor
from .image import ComfyStreamUIPreview, PrimaryInputLoadImage
from .pitch import PitchShifter
from .text import SaveTextTensor
from .video import LoadTensor, SaveTensor

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

NODE_CLASS_MAPPINGS: dict[str, type] = {
    "ComfyStreamUIPreview": ComfyStreamUIPreview,
    "LoadAudioTensor": LoadAudioTensor,
    "LoadTensor": LoadTensor,
    "PitchShifter": PitchShifter,
    "PrimaryInputLoadImage": PrimaryInputLoadImage,
    "SaveAudioTensor": SaveAudioTensor,
    "SaveTensor": SaveTensor,
    "SaveTextTensor": SaveTextTensor,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {"ComfyStreamUIPreview": "ComfyStream UI Preview"}
