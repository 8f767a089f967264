"""Tiny random models made with ComfyUI's own classes and loaded by its own loaders. Only imported beside a ComfyUI."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["FAMILIES", "conditioning", "control_net", "kl_vae", "model", "taesd_vae"]

FAMILIES = {"sd15": "sd1.x", "sdxl": "sdxl_base"}
"""With what `TensorRTLoader` calls them."""

WIDTH, TOKENS, POOLED = 32, 77, 1280
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"num_heads": 8, "num_head_channels": -1, "use_linear_in_transformer": False},
    "sdxl": {
        "num_heads": -1,
        "num_head_channels": 64,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": POOLED + 6 * 256,
    },
}
SHAPE: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "context_dim": WIDTH,
    "use_spatial_transformer": True,
    "legacy": False,
}


def random_weights(module: Any, seed: int) -> Any:
    """Its weights are whatever was in memory: ComfyUI always loads some."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1 / parameter[0].numel() ** 0.5, generator=generator)
            else:
                parameter.normal_(0, 0.1, generator=generator)
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.add_(1)  # of a norm
    return module


def kl_vae() -> Any:
    """A VAE with a small autoencoder of the large kind."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    shape = {"double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32}
    shape |= {"ch_mult": [1, 2, 2, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    params = {"ddconfig": shape, "embed_dim": 4}
    weights = random_weights(AutoencoderKL(**params), 3).state_dict()
    return comfy.sd.VAE(sd=weights, config={"params": params})


def taesd_vae() -> Any:
    """A VAE that ComfyUI takes for a TAESD by its weights."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    weights = random_weights(TAESD(latent_channels=4), 4).state_dict()
    weights |= {"vae_scale": torch.tensor(0.18215), "vae_shift": torch.tensor(0.0)}
    return comfy.sd.VAE(sd=weights)


def model(family: str) -> Any:
    """A MODEL with a tiny UNet."""
    import comfy.model_management as management
    import comfy.model_patcher
    import comfy.supported_models
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = {**SHAPE, **UNETS[family], "out_channels": 4, "transformer_depth_output": [1, 1, 1, 1]}
    weights = random_weights(UNetModel(**config), 5).state_dict()
    kind = {"sd15": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}[family](config)
    kind.set_inference_dtype(torch.float32, None)
    made = kind.get_model(weights, "", device=torch.device("cpu"))
    made.load_model_weights(weights, "")
    return comfy.model_patcher.ModelPatcher(made, management.get_torch_device(), management.unet_offload_device())


def control_net(family: str) -> Any:
    """A CONTROL_NET that ComfyUI loads from weights."""
    import comfy.cldm.cldm
    import comfy.controlnet

    shape = {**SHAPE, **UNETS[family], "num_heads": -1, "num_head_channels": 64, "hint_channels": 3}
    return comfy.controlnet.load_controlnet_state_dict(
        random_weights(comfy.cldm.cldm.ControlNet(**shape), 6).state_dict(), model_options={"dtype": torch.float32}
    )


def conditioning(seed: int) -> list[Any]:
    """CONDITIONING of a prompt that nobody wrote."""
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, POOLED, generator=generator)
    return [[torch.randn(1, TOKENS, WIDTH, generator=generator), {"pooled_output": pooled}]]
