"""One way in for all kinds of models: by a path, or from what ComfyUI has loaded."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.accel.placement import bring
from comfystream.errors import AssetError
from comfystream.model_files import find_model, place_of

from ..model import Autoencoder, StreamModel
from ..text import ComfyTower, PromptEncoder
from .folder import load_autoencoder, load_folder
from .infer import other_sampling
from .single_file import autoencoder_of, load_autoencoder_file, load_single_file, unet_of
from .unet_alone import with_unet

__all__ = [
    "AUTOENCODERS",
    "MODELS",
    "TOKENIZERS",
    "UNETS",
    "device_of",
    "dtype_of",
    "find",
    "load_model",
    "model_from_comfyui",
    "placed",
]

# How ComfyUI names what a model predicts, or its noise levels, where neither is that of Stable Diffusion
NOT_UNDERSTOOD = {"EDM", "X0", "CONST", "ModelSamplingDiscreteEDM"}
# Kinds of model folders, the usual one first
MODELS, AUTOENCODERS = ("checkpoints", "diffusers"), ("vae_approx", "vae")
UNETS, TOKENIZERS = ("diffusion_models",), ("tokenizers",)
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def device_of(name: str) -> torch.device:
    """A device by name; "auto" is the GPU where there is one.

    Raises:
        AssetError: that device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise AssetError(f"device {name!r} is unknown", hint="use auto, cuda or cpu") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise AssetError(f"device {name} was asked for, but there is no CUDA device", hint="use auto or cpu")
    return device


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """A precision by name; "auto" is float16 on a GPU, float32 elsewhere."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise AssetError(f"dtype {name!r} is unknown", hint=f"one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def find(name: str, *kinds: str) -> Path:
    """A model file or folder: a path, or a name below ComfyUI's model folders of these kinds.

    Raises:
        AssetError: nothing there. Models are never fetched while a workflow runs.
    """
    found = find_model(name, kinds)
    if found is None:
        raise AssetError(
            f"model {name!r} is not there in {place_of(kinds[0])}",
            code="model_missing",
            hint=f"put it into the folder {kinds[0]!r} of your models, or give its full path; nothing is fetched while "
            "running; comfystream check WORKFLOW says what a workflow needs and how to fetch it",
        )
    return found


def tokenizer_folders(beside: Path, named: str = "") -> list[Path]:
    """Where a CLIP tokenizer may lie: the named folder, beside the model, and the one that ComfyUI brings."""
    if named:
        found = find(named, *TOKENIZERS)
        return [found, found / "tokenizer"]
    folders = []
    folders += [beside / "tokenizer", beside.parent / "tokenizer"]
    try:
        module = importlib.import_module("comfy.sd1_clip")
    except ImportError:
        return folders
    return [*folders, Path(str(module.__file__)).parent / "sd1_tokenizer"]


def load_model(name: str, autoencoder: str = "", tokenizer: str = "", unet: str = "") -> StreamModel:
    """A model on the CPU, from diffusers' folder or from a single file.

    Args:
        name: a path, or a name below the folders for checkpoints or diffusers.
        autoencoder: a VAE or TAESD, file or folder, in place of the model's own; empty for its own.
        tokenizer: folder of a CLIP tokenizer, for single files; empty to look for one.
        unet: a UNet alone, file or folder, in place of the model's own; empty for its own.

    Raises:
        AssetError: not there, damaged, or of another kind.
    """
    model = _load_whole(name, autoencoder, tokenizer)
    return with_unet(model, find(unet, *UNETS)) if unet else model


def _load_whole(name: str, autoencoder: str, tokenizer: str) -> StreamModel:
    path = find(name, *MODELS)
    own = find(autoencoder, *AUTOENCODERS) if autoencoder else None
    if path.is_file():
        if own is not None and own.is_dir():
            model = load_single_file(path, tokenizer_folders(path, tokenizer))
            return model.with_parts(autoencoder=load_autoencoder(own))
        return load_single_file(path, tokenizer_folders(path, tokenizer), own)
    model = load_folder(path)
    if own is not None:
        made = load_autoencoder(own) if own.is_dir() else load_autoencoder_file(own, model.family)
        model = model.with_parts(autoencoder=made)
    return model


def placed(model: StreamModel, device: torch.device, dtype: torch.dtype) -> StreamModel:
    """The model for a device, in a precision. Its modules are moved, not copied; the UNet when something runs it."""
    for tower in model.prompts.towers:
        bring(tower.module, device, dtype)
    prompts = PromptEncoder(model.family, model.prompts.towers, dtype)
    made = model.with_parts(device=device, dtype=dtype, prompts=prompts)
    bring(made.autoencoder.module, device, made.autoencoder_dtype(dtype))
    return made


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in module.state_dict().items()}


def model_from_comfyui(patcher: Any, vae: Any, clip: Any = None) -> StreamModel:
    """Out of ComfyUI's MODEL, VAE and CLIP: their weights as they are, patches such as LoRAs applied.

    Args:
        patcher: ComfyUI's ModelPatcher of a Stable Diffusion 1.5, 2.1 or SDXL UNet.
        vae: ComfyUI's VAE.
        clip: ComfyUI's CLIP; without it prompts come as ComfyUI's CONDITIONING.

    Raises:
        AssetError: the MODEL is of another kind.
    """
    if not hasattr(getattr(patcher, "model", None), "diffusion_model"):
        raise AssetError("this MODEL is no diffusion model of ComfyUI", hint="connect a checkpoint loader")
    if getattr(patcher, "patches", None):
        management = importlib.import_module("comfy.model_management")
        management.load_models_gpu([patcher], force_patch_weights=True)
    unet, family = unet_of(_state(patcher.model.diffusion_model), "ComfyUI's MODEL")
    stage = vae.first_stage_model
    autoencoder: Autoencoder = autoencoder_of(_state(stage), family, "ComfyUI's VAE")
    sampling = patcher.get_model_object("model_sampling")  # the node ModelSamplingDiscrete replaces a model's own
    kinds = {cls.__name__ for cls in type(sampling).__mro__}
    if "ModelSamplingDiscrete" not in kinds or kinds & NOT_UNDERSTOOD:
        raise other_sampling("this MODEL")
    towers: tuple[Any, ...] = (ComfyTower(clip),) if clip is not None else ()
    prompts = PromptEncoder(family, towers)
    velocity, is_zero = "V_PREDICTION" in kinds, bool(getattr(sampling, "zsnr", False))
    named = "ComfyUI's MODEL"
    return StreamModel(named, family, unet, autoencoder, prompts, velocity, is_zero_terminal=is_zero)
