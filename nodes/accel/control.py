"""A ControlNet of ComfyUI by a backend."""

from __future__ import annotations

import copy
import importlib
from typing import Any, ClassVar

from comfystream.errors import EngineError

from .ready import (
    CATEGORY,
    backend_input,
    named,
    precision_input,
    ranges_for,
    ready,
    resolved_precision,
    size_input,
)

__all__ = ["NODES", "accelerated_control"]


def accelerated_control(net: Any, backend: str, rows: int, width: int, height: int, precision: str) -> Any:
    """A copy of ComfyUI's CONTROL_NET whose network runs by a backend; the one that is given stays as it is.

    Args:
        net: CONTROL_NET of a network for SD 1.x, 2.x or SDXL.
        backend: its name.
        rows: how many rows the sampler has at once: 1 without guidance, else 2.
        width: of the picture that is made.
        height: likewise.
        precision: of the work.

    Raises:
        EngineError: it is of another kind, or the backend is not here.
    """
    from comfystream.accel.comfy_modules import ComfyControlModule, comfy_control_spec
    from comfystream.accel.engine_control import EngineControlNet

    network = getattr(net, "control_model", None)
    if network is None or not hasattr(network, "zero_convs"):
        raise EngineError(
            f"a {type(net).__name__} is no ControlNet of Stable Diffusion",
            code="bad_model_type",
            hint="use it as it is",
        )
    weights = network.state_dict()
    ranges = ranges_for(backend, rows, height, width)
    pooled = weights["label_emb.0.0.weight"].shape[1] if "label_emb.0.0.weight" in weights else 0
    spec = comfy_control_spec(
        ranges,
        resolved_precision(precision, backend),
        text_width=_text_width(weights),
        outputs=len(network.zero_convs) + 1,
        pooled_width=pooled,
    )
    made = ready(ComfyControlModule(copy.deepcopy(network), bool(pooled)), spec, backend)
    return _with_network(net, EngineControlNet(made.runner))


def _text_width(weights: Any) -> int:
    for name, value in weights.items():
        if name.endswith("attn2.to_k.weight"):
            return int(value.shape[1])
    raise EngineError("this ControlNet reads no text, and is of no kind that is known here", code="bad_model_type")


def _with_network(net: Any, network: Any) -> Any:
    patcher = importlib.import_module("comfy.model_patcher")
    management = importlib.import_module("comfy.model_management")
    twin = net.copy()
    twin.control_model = network
    device = management.get_torch_device()
    twin.control_model_wrapped = patcher.ModelPatcher(
        network, load_device=device, offload_device=management.unet_offload_device()
    )
    twin.manual_cast_dtype = None
    return twin


class AcceleratedControlNet:
    """A ControlNet that is loaded already, by a backend."""

    CATEGORY, FUNCTION = CATEGORY, "accelerate"
    RETURN_TYPES: ClassVar = ("CONTROL_NET",)
    DESCRIPTION = "Runs a ControlNet of ComfyUI by a backend: engines are built here, once, and kept."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        rows = ("INT", {"default": 1, "min": 1, "max": 16, "tooltip": "1 without guidance (cfg 1), else 2 per picture"})
        return {
            "required": {
                "control_net": ("CONTROL_NET",),
                "backend": backend_input(),
                "rows": rows,
                "width": size_input(),
                "height": size_input(),
                "precision": precision_input(),
            }
        }

    def accelerate(
        self, control_net: Any, backend: str, rows: int, width: int, height: int, precision: str
    ) -> tuple[Any]:
        with named("AcceleratedControlNet"):
            return (accelerated_control(control_net, backend, rows, width, height, precision),)


NODES: dict[str, tuple[type, str]] = {"AcceleratedControlNet": (AcceleratedControlNet, "Accelerated ControlNet")}
