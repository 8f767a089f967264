"""Engines of UNets, with the class keys, inputs and file names of ComfyUI's TensorRT nodes."""

from __future__ import annotations

from .convert import DynamicConversion, StaticConversion
from .loader import TensorRTLoader

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

NODE_CLASS_MAPPINGS: dict[str, type] = {
    "DYNAMIC_TRT_MODEL_CONVERSION": DynamicConversion,
    "STATIC_TRT_MODEL_CONVERSION": StaticConversion,
    "TensorRTLoader": TensorRTLoader,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "DYNAMIC_TRT_MODEL_CONVERSION": "DYNAMIC TRT_MODEL CONVERSION",
    "STATIC_TRT_MODEL_CONVERSION": "STATIC TRT_MODEL CONVERSION",
    "TensorRTLoader": "TensorRT Loader",
}
