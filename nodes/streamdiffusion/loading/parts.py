"""Classes of diffusers and transformers, made and filled from configs and tensors; imported here, when needed."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from comfystream.errors import AssetError

from .weights import fill, read_config, read_folder

__all__ = ["component", "libraries", "tokenizer_in", "transformers_part", "unknown_keys_out"]

_log = logging.getLogger(__name__)


def libraries() -> tuple[ModuleType, ModuleType]:
    """Diffusers and transformers.

    Raises:
        AssetError: they are not installed.
    """
    try:
        import diffusers
        import transformers
    except ImportError as error:
        raise AssetError(
            f"diffusion models need the Python package {error.name!r}, which is not installed",
            code="diffusion_extra",
            hint="pip install 'comfystream[diffusion]'",
        ) from error
    return diffusers, transformers


def unknown_keys_out(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what describes the file rather than the model."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def component(cls_name: str, config: Mapping[str, Any], weights: Mapping[str, Tensor], what: str) -> Any:
    """A network of diffusers.

    Args:
        cls_name: such as "UNet2DConditionModel".
        config: as its config.json has it.
        weights: by its own names.
        what: for messages.

    Raises:
        AssetError: config or weights do not fit the class.
    """
    diffusers, _ = libraries()
    cls = getattr(diffusers, cls_name)
    known = inspect.signature(cls).parameters  # files say more than the class takes, and diffusers warns of that
    try:
        with torch.device("meta"):
            module = cls.from_config({name: value for name, value in config.items() if name in known})
    except (TypeError, ValueError, KeyError) as error:
        raise AssetError(f"{what}: its config does not make a {cls_name}: {error}", code="bad_config") from error
    return fill(module, weights, what)


def transformers_part(cls_name: str, config: Mapping[str, Any], weights: Mapping[str, Tensor], what: str) -> Any:
    """A network of transformers, by its class and its config's; names with and without "text_model." are understood.

    Raises:
        AssetError: config or weights do not fit the class.
    """
    _, transformers = libraries()
    cls = getattr(transformers, cls_name)
    try:
        module = cls(cls.config_class(**unknown_keys_out(config)))
    except (TypeError, ValueError, KeyError) as error:
        raise AssetError(f"{what}: its config does not make a {cls_name}: {error}", code="bad_config") from error
    own = module.state_dict()
    for prefix in ("text_model.", "vision_model."):
        if not any(name.startswith(prefix) for name in own):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    wanted = {name: value for name, value in weights.items() if name in own or not name.startswith("text_projection")}
    return fill(module, wanted, what)


def from_folder(cls_name: str, folder: Path, is_transformers: bool = False) -> Any:
    """A component's folder of diffusers' layout: config.json and weights.

    Raises:
        AssetError: something is missing, damaged, or does not fit.
    """
    make = transformers_part if is_transformers else component
    return make(cls_name, read_config(folder), read_folder(folder), str(folder))


def tokenizer_in(folders: list[Path]) -> Any:
    """The CLIP tokenizer of the first folder that has one, or None."""
    _, transformers = libraries()
    for folder in folders:
        if (folder / "vocab.json").is_file():
            return transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    return None
