"""Models for engines, off the disk: folders of diffusers, single files with a configuration beside them, TAESD."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from comfystream.errors import AssetError, ConfigError, EngineError

from .comfy_modules import diffusers_unet, residuals_of_config
from .depth import DepthModule, depth_spec, load_depth_model
from .model_specs import controlnet_spec, decoder_spec, encoder_spec, unet_spec
from .modules import ControlNetModule, UNetModule, VaeDecoderModule, VaeEncoderModule
from .runner import torch_dtype
from .spec import PRECISIONS, ModelSpec
from .taesd import TaesdEncoder, load_taesd
from .targets import BuildTarget
from .upscaler_files import load_upscaler, upscaler_spec
from .weights import check_safetensors, read_weights

__all__ = ["load_model"]


def load_model(target: BuildTarget, workspace: Path) -> tuple[nn.Module, ModelSpec]:
    """The module of a target in its precision, on the processor, and what it takes.

    Raises:
        AssetError: there is no such model, or its file is broken.
        EngineError: diffusers is missing.
        ConfigError: the target asks for what this model is not.
    """
    dtype = torch_dtype(PRECISIONS[target.precision])
    module, spec = _LOADERS[target.kind](target, workspace)
    return module.to(dtype).eval().requires_grad_(False), spec


def _taesd(target: BuildTarget, workspace: Path) -> tuple[nn.Module, ModelSpec]:
    module = load_taesd(workspace / target.model)
    if isinstance(module, TaesdEncoder):
        return module, encoder_spec(target.ranges, target.precision, "taesd_encoder")
    return module, decoder_spec(target.ranges, target.precision, "taesd_decoder")


def _unet(target: BuildTarget, workspace: Path) -> tuple[nn.Module, ModelSpec]:
    unet = _diffusers(target, workspace, "UNet2DConditionModel", "unet")
    if target.names == "comfyui":
        return diffusers_unet(unet, target.ranges, target.precision, target.controlnet)
    is_xl = unet.config.addition_embed_type == "text_time"
    residuals = residuals_of_config(unet.config) if target.controlnet else ()
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim if is_xl else 0
    spec = unet_spec(
        target.ranges,
        target.precision,
        text_width=_text_width(unet),
        channels=unet.config.in_channels,
        pooled_width=pooled,
        residuals=residuals,
    )
    return UNetModule(unet, len(residuals), is_xl), spec


def _controlnet(target: BuildTarget, workspace: Path) -> tuple[nn.Module, ModelSpec]:
    net = _diffusers(target, workspace, "ControlNetModel", "controlnet")
    is_xl = net.config.addition_embed_type == "text_time"
    pooled = net.config.projection_class_embeddings_input_dim - 6 * net.config.addition_time_embed_dim if is_xl else 0
    spec = controlnet_spec(
        target.ranges,
        target.precision,
        text_width=_text_width(net),
        outputs=len(net.controlnet_down_blocks) + 1,
        pooled_width=pooled,
    )
    return ControlNetModule(net, is_xl), spec


def _vae(target: BuildTarget, workspace: Path) -> tuple[nn.Module, ModelSpec]:
    vae = _diffusers(target, workspace, "AutoencoderKL", "vae")
    if target.kind == "vae_encoder":
        return VaeEncoderModule(vae), encoder_spec(target.ranges, target.precision)
    return VaeDecoderModule(vae), decoder_spec(target.ranges, target.precision, channels=vae.config.latent_channels)


def _depth(target: BuildTarget, workspace: Path) -> tuple[nn.Module, ModelSpec]:
    if not isinstance(target.batch, int):
        raise ConfigError(f"{target.id}: batch: a depth model has one number of rows", code="bad_targets")
    model = load_depth_model(_found(target, workspace))
    return DepthModule(model), depth_spec(model, target.side, target.batch, target.precision)


def _upscaler(target: BuildTarget, workspace: Path) -> tuple[nn.Module, ModelSpec]:
    return load_upscaler(workspace / target.model, target.scale), upscaler_spec(target.ranges, target.precision)


_LOADERS: dict[str, Callable[[BuildTarget, Path], tuple[nn.Module, ModelSpec]]] = {
    "taesd": _taesd,
    "unet": _unet,
    "controlnet": _controlnet,
    "vae_encoder": _vae,
    "vae_decoder": _vae,
    "depth": _depth,
    "upscaler": _upscaler,
}


def _text_width(model: Any) -> int:
    width = model.config.cross_attention_dim
    return int(width if isinstance(width, int) else width[-1])


def _diffusers(target: BuildTarget, workspace: Path, kind: str, subfolder: str) -> Any:
    try:
        import diffusers
    except ImportError:
        raise EngineError(
            f"{target.id}: a {target.kind} needs the package diffusers",
            code="backend_missing",
            hint="pip install 'comfystream[diffusion]'",
        ) from None
    path = _found(target, workspace)
    for file in [path] if path.is_file() else sorted(path.rglob("*.safetensors")):
        if file.suffix == ".safetensors":
            check_safetensors(file)
    try:
        if path.is_file():
            return _from_file(getattr(diffusers, kind), path, target, workspace)
        inner = target.subfolder or subfolder
        folder = path / inner if (path / inner).is_dir() else path
        if kind == "AutoencoderKL":  # a folder says itself which autoencoder it holds
            kind = _config(folder / "config.json").get("_class_name", kind)
        return getattr(diffusers, kind).from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        if isinstance(error, AssetError | torch.OutOfMemoryError):
            raise
        raise AssetError(
            f"{target.id}: {path} cannot be loaded as {kind}: {' '.join(str(error).split())[:200]}",
            code="broken_weights",
        ) from error


def _from_file(kind: Any, path: Path, target: BuildTarget, workspace: Path) -> Any:
    """One file of weights, in the names of diffusers, and its configuration as JSON beside it."""
    config = workspace / target.config if target.config else path.with_suffix(".json")
    if not config.is_file():
        raise AssetError(
            f"{target.id}: {path.name} needs its configuration, and there is no {config}",
            code="no_file",
            hint="`config` names it: the config.json of the diffusers folder that the weights come from",
        )
    model = kind.from_config(_config(config))
    model.load_state_dict(read_weights(path))
    return model


def _config(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise AssetError(f"{path}: not JSON: {error}", code="broken_weights") from None
    if not isinstance(document, dict):
        raise AssetError(f"{path}: not a configuration of diffusers", code="broken_weights")
    return document


def _found(target: BuildTarget, workspace: Path) -> Path:
    places = (
        workspace / target.model,
        workspace / "models" / target.model,
        workspace / "models/diffusers" / target.model,
    )
    for path in places:
        if path.exists():
            return path
    raise AssetError(f"{target.id}: there is no {places[0]}", code="no_file", hint="comfystream fetch models")
