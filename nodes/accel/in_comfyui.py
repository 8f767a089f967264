"""A UNet of ours in the model that ComfyUI's samplers take. Only imported inside a real ComfyUI."""

from __future__ import annotations

from typing import Any

from comfystream.errors import EngineError

__all__ = ["model_of"]


def model_of(unet: Any, model_type: str) -> Any:
    """ComfyUI's MODEL around a UNet.

    Raises:
        EngineError: engines of this type are not known here.
    """
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    known = {
        "sd1.x": (comfy.supported_models.SD15, None),
        "sd2.x-768v": (comfy.supported_models.SD20, None),
        "sdxl_base": (comfy.supported_models.SDXL, 2816),
        "sdxl_refiner": (comfy.supported_models.SDXLRefiner, 2560),
    }
    if model_type not in known:
        raise EngineError(
            f"engines of {model_type} cannot be loaded", code="bad_model_type", hint=f"{', '.join(known)}"
        )
    kind, pooled = known[model_type]
    config = kind({"in_channels": 4, "adm_in_channels": pooled})
    config.unet_config["disable_unet_model_creation"] = True
    model = config.get_model({})
    if model_type == "sd2.x-768v":
        model.model_sampling = comfy.model_base.model_sampling(config, comfy.model_base.ModelType.V_PREDICTION)
    model.diffusion_model = unet
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, device, comfy.model_management.unet_offload_device())
