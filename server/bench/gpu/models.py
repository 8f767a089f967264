"""Models of a scale with random weights, made on the device; never zeros, on which a GPU is faster than on pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from comfystream.accel.placement import bring
from comfystream.errors import ConfigError
from comfystream_nodes.streamdiffusion.control import ControlModel
from comfystream_nodes.streamdiffusion.image_prompt import build
from comfystream_nodes.streamdiffusion.loading.infer import Family
from comfystream_nodes.streamdiffusion.model import Autoencoder, StreamModel
from comfystream_nodes.streamdiffusion.settings import Style
from comfystream_nodes.streamdiffusion.text import Embedding, PromptEncoder

from .scale import Scale

__all__ = [
    "control_model",
    "depth_network",
    "embedding",
    "library",
    "random_weights",
    "stream_model",
    "style",
    "with_style",
]

TOKENS, STYLE_TOKENS = 77, 4
GAIN = 0.9  # of each layer: activations stay finite in half precision through the deepest network here


def library(name: str) -> Any:
    """A package that only benchmarks of models need.

    Raises:
        ConfigError: it is missing.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"this bench needs the package {name}", code=f"no_{name}", hint="pip install 'comfystream[diffusion]'"
        ) from None


def random_weights(module: Any, seed: int = 0) -> Any:
    """Normal numbers scaled by what each layer adds up; norms and biases stay as they are made."""
    device = next(module.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, GAIN / parameter[0].numel() ** 0.5, generator=generator)
    return module.eval().requires_grad_(False)


def stream_model(scale: Scale, family: str, device: torch.device, dtype: torch.dtype) -> StreamModel:
    """UNet and TAESD of a family, as a stream takes them; prompts are embeddings."""
    diffusers, width = library("diffusers"), scale.taesd_width
    with device:
        unet = random_weights(diffusers.UNet2DConditionModel(**scale.unets[family]))
        taesd = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(width,) * 4, decoder_block_out_channels=(width,) * 4
        )
    bring(unet, device, dtype)
    autoencoder = Autoencoder(bring(random_weights(taesd, 1), device, dtype), 1.0)
    prompts = PromptEncoder(Family(family), (), dtype)
    return StreamModel(f"{scale.name} {family}", Family(family), unet, autoencoder, prompts, device=device, dtype=dtype)


def embedding(model: StreamModel) -> Embedding:
    """A prompt of random numbers."""
    config = model.unet.config
    width = config.cross_attention_dim
    tokens = torch.randn(1, TOKENS, width if isinstance(width, int) else width[-1])
    if model.family is not Family.SDXL:
        return Embedding(tokens, None, "random")
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return Embedding(tokens, torch.randn(1, pooled), "random")


def control_model(scale: Scale, model: StreamModel) -> ControlModel:
    """A ControlNet for a model; its last layers are not zero, as they would be before training."""
    diffusers, config = library("diffusers"), dict(scale.unets[model.family.value])
    for name in ("up_block_types", "sample_size"):
        config.pop(name, None)
    with model.device:
        net = diffusers.ControlNetModel(**config, conditioning_embedding_out_channels=scale.control_widths)
    return ControlModel("depth", bring(random_weights(net, 2), model.device, model.dtype))


def with_style(scale: Scale, model: StreamModel) -> StreamModel:
    """The model with an IP-Adapter in its UNet."""
    transformers, wide = library("transformers"), scale.picture_width
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(**small, image_size=32, patch_size=16, projection_dim=wide)
    encoder = transformers.CLIPVisionModelWithProjection(config).to(model.device, model.dtype).eval()
    built = build(model.unet, _adapter_weights(model, wide), encoder, "random", model.device, model.dtype)
    return model.with_parts(image_prompt=built)


def _adapter_weights(model: StreamModel, wide: int) -> dict[str, Tensor]:
    unet = model.unet
    width = unet.config.cross_attention_dim
    weights = {
        "image_proj.proj.weight": torch.randn(STYLE_TOKENS * width, wide) / wide**0.5,
        "image_proj.proj.bias": torch.zeros(STYLE_TOKENS * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(names):
        hidden = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for which in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * number + 1}.{which}.weight"] = torch.randn(hidden, width) / width**0.5
    return weights


def style(model: StreamModel) -> Style:
    """A style picture's tokens, random: it is encoded once, not in a tick."""
    width = model.unet.config.cross_attention_dim
    return Style(torch.randn(1, STYLE_TOKENS, width), torch.randn(1, STYLE_TOKENS, width), 0.6)


def depth_network(scale: Scale, size: str, device: torch.device) -> nn.Module:
    """Depth Anything V2 in one of its sizes."""
    transformers, given = library("transformers"), scale.depths[size]
    inner = {"patch_size": 14, "image_size": 518, "reshape_hidden_states": False, **given["inner"]}
    config = transformers.DepthAnythingConfig(
        backbone_config=transformers.Dinov2Config(**inner), patch_size=14, **given["outer"]
    )
    with device:
        network: nn.Module = random_weights(transformers.DepthAnythingForDepthEstimation(config), 3)
    return network
