"""Models by a backend: UNet engines, autoencoders, ControlNets, depth, upscalers.

Engines of others are read by the class keys, inputs and file names of the packs that workflows of the first ComfyStream
use: ComfyUI's TensorRT nodes, Depth Anything TensorRT, super resolution.
"""

from __future__ import annotations

from . import control, depth, upscale, vae
from .convert import DynamicConversion, StaticConversion
from .loader import TensorRTLoader

__all__ = [
    "NODE_CLASS_MAPPINGS",
    "NODE_DISPLAY_NAME_MAPPINGS",
    "OWN_CLASS_MAPPINGS",
    "OWN_DISPLAY_NAME_MAPPINGS",
]

NODES: dict[str, tuple[type, str]] = {
    "DYNAMIC_TRT_MODEL_CONVERSION": (DynamicConversion, "DYNAMIC TRT_MODEL CONVERSION"),
    "STATIC_TRT_MODEL_CONVERSION": (StaticConversion, "STATIC TRT_MODEL CONVERSION"),
    "TensorRTLoader": (TensorRTLoader, "TensorRT Loader"),
    **vae.NODES,
    **control.NODES,
    **depth.NODES,
    **upscale.NODES,
}
NODE_CLASS_MAPPINGS: dict[str, type] = {key: kind for key, (kind, _) in NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {key: name for key, (_, name) in NODES.items()}

# In ComfyUI, keys of other packs are left to these packs.
_OWN = [key for key in NODES if key.startswith("Accelerated")]
OWN_CLASS_MAPPINGS = {key: NODE_CLASS_MAPPINGS[key] for key in _OWN}
OWN_DISPLAY_NAME_MAPPINGS = {key: NODE_DISPLAY_NAME_MAPPINGS[key] for key in _OWN}
