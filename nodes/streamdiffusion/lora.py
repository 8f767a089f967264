"""LoRAs: small changes of weights, in the layouts of kohya's trainer, of PEFT and of older diffusers."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.errors import AssetError

from .loading.adapter import lora_file, read_adapter
from .loading.names import unet_pairs
from .loading.weights import read_weights
from .model import StreamModel, with_tensors
from .text import PromptEncoder

__all__ = ["read_changes", "with_lora"]

_log = logging.getLogger(__name__)
_PART = re.compile(
    r"^(.*?)\.(lora_down|lora_up|lora_A|lora_B|lora(?:_linear_layer)?\.(?:down|up))(?:\.default)?\.weight$"
)
_FOREIGN = re.compile(r"\.(hada_|lokr_|dora_scale|oft_|lora_mid|lora_magnitude)")
_PROCESSOR = re.compile(r"^(?:unet\.)?(.*)\.processor\.(to_[a-z]+)_lora\.")  # of diffusers before 0.22
_PEFT = "base_model.model."  # in files that PEFT itself saved
_TOWERS = {"lora_te_": 0, "lora_te1_": 0, "lora_te2_": 1, "text_encoder.": 0, "text_encoder_2.": 1}


@dataclass(slots=True)
class _Change:
    """The two factors of one layer's change."""

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None

    def delta(self, device: torch.device) -> Tensor:
        """What is added to the weight at strength 1, in float32, worked out on a device."""
        assert self.down is not None
        assert self.up is not None
        rank = self.down.shape[0]
        scale = (self.alpha if self.alpha is not None else rank) / rank
        flat = self.up.to(device).float().flatten(1) @ self.down.to(device).float().flatten(1)
        return flat.view(self.up.shape[0], *self.down.shape[1:]) * scale


@dataclass(slots=True)
class _Target:
    """A network that changes are for, all names that its layers go by, and where its changed weights go, as what."""

    module: nn.Module
    aliases: dict[str, str]
    home: torch.device | None = None  # of the weights themselves, if nothing is said
    dtype: torch.dtype | None = None
    changed: dict[str, Tensor] = field(default_factory=dict)


def read_changes(path: Path) -> dict[str, _Change]:
    """What a LoRA changes, by its own names of layers.

    Raises:
        AssetError: a damaged file, no LoRA, or one of a kind that is not understood.
    """
    weights = read_weights(path)
    foreign = next((name for name in weights if _FOREIGN.search(name)), None)
    if foreign:
        raise AssetError(
            f"LoRA {path.name} is of a kind that is not understood ({foreign})",
            code="lora_kind",
            hint="plain LoRA files are; LoHa, LoKr, OFT, DoRA and Tucker's convolutions are not",
        )
    changes: dict[str, _Change] = {}
    unread: list[str] = []
    for stored, value in weights.items():
        name = _named(stored)
        if name.endswith(".alpha"):
            changes.setdefault(name.removesuffix(".alpha"), _Change()).alpha = float(value)
        elif match := _PART.match(name):
            change = changes.setdefault(match[1], _Change())
            setattr(change, "down" if match[2].endswith(("down", "_A")) else "up", value)
        else:
            unread.append(stored)
    whole = {name: change for name, change in changes.items() if change.down is not None and change.up is not None}
    if not whole:
        raise AssetError(f"{path.name} is no LoRA", code="lora_kind", hint="it holds no pairs of lora_down and lora_up")
    adapter = read_adapter(path)
    for name, change in whole.items():
        if change.alpha is None and change.down is not None:
            change.alpha = adapter.alpha(name, change.down.shape[0])
    if unread:
        _log.warning("LoRA %s: %d tensors are left out, such as %s", path.name, len(unread), unread[0])
    return whole


def _named(stored: str) -> str:
    """A tensor's name as newer files have it."""
    match = _PROCESSOR.match(stored)
    if match is None:
        return stored
    layer = "to_out.0" if match[2] == "to_out" else match[2]
    return f"unet.{match[1]}.{layer}.lora.{stored[match.end() :]}"


def _original(name: str, pairs: list[tuple[str, str]]) -> str:
    """A layer's name in the original layout."""
    for one, other in pairs:
        if f"{name}.".startswith(other):
            return (one + f"{name}."[len(other) :]).rstrip(".")
    return name


def _unet_target(unet: Any, dtype: torch.dtype) -> _Target:
    config = unet.config
    pairs = unet_pairs(
        len(config.block_out_channels),
        config.layers_per_block,
        [kind.startswith("Cross") for kind in config.down_block_types],
    )
    aliases: dict[str, str] = {}
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            aliases |= {f"{prefix}{name}": name for prefix in ("unet.", "", _PEFT)}
            aliases["lora_unet_" + name.replace(".", "_")] = name
            aliases["lora_unet_" + _original(name, pairs).replace(".", "_")] = name
    return _Target(unet, aliases, torch.device("cpu"), dtype)  # it goes to the device when something runs it


def _tower_target(module: nn.Module, number: int) -> _Target:
    aliases: dict[str, str] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            long: str = name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}"
            for prefix, tower in _TOWERS.items():
                if tower == number:
                    spelled = long if prefix.endswith(".") else long.replace(".", "_")
                    aliases[prefix + spelled] = name
            if number == 0:
                aliases[_PEFT + long] = name
    return _Target(module, aliases)


def with_lora(model: StreamModel, path: str | Path, strength: float) -> StreamModel:
    """A model with a LoRA added to its weights; what it does not touch is shared with the model that was given.

    Args:
        model: stays as it is.
        path: a .safetensors file, or the folder that a trainer saved it in.
        strength: 1 as trained; may be negative.

    Raises:
        AssetError: no LoRA, a damaged file, or one for another architecture.
    """
    if model.image_prompt is not None:
        raise AssetError("add LoRAs before the IP-Adapter", hint="connect the LoRA node to the model's loader")
    file = lora_file(Path(path))
    changes = read_changes(file)
    towers = [_tower_target(tower.module, number) for number, tower in enumerate(model.prompts.towers)]
    targets = [_unet_target(model.unet, model.dtype), *towers]
    strangers = [name for name in changes if not any(name in target.aliases for target in targets)]
    present = {prefix for prefix, number in _TOWERS.items() if number < len(towers) and towers[number].aliases}
    unseen = [name for name in strangers if name.startswith(tuple(set(_TOWERS) - present))]
    strangers = [name for name in strangers if name not in unseen]
    if strangers:
        raise _other_architecture(file, model, f"{len(strangers)} of {len(changes)} layers are not in it", strangers[0])
    if unseen:
        _log.warning("LoRA %s: %d layers of a text encoder are left out: it is not in this model", file, len(unseen))
    for name, change in changes.items():
        for target in targets:
            if name in target.aliases:
                _add(file, model, target, target.aliases[name], change, strength)
    unet = with_tensors(model.unet, targets[0].changed)
    return model.with_parts(unet=unet, prompts=_prompts(model, towers), loras=(*model.loras, (file.name, strength)))


def _prompts(model: StreamModel, targets: list[_Target]) -> PromptEncoder:
    towers = tuple(
        replace(tower, module=with_tensors(tower.module, target.changed)) if target.changed else tower
        for tower, target in zip(model.prompts.towers, targets, strict=True)
    )
    return PromptEncoder(model.prompts.family, towers, model.prompts.dtype)


def _add(file: Path, model: StreamModel, target: _Target, layer: str, change: _Change, strength: float) -> None:
    name = f"{layer}.weight"
    weight = target.module.get_parameter(name)
    delta = change.delta(model.device)
    if delta.shape != weight.shape and delta.numel() != weight.numel():
        raise _other_architecture(file, model, f"{layer} is {list(weight.shape)}, the LoRA's {list(delta.shape)}", "")
    base = target.changed.get(name, weight).to(model.device).float()
    merged = base + delta.view(weight.shape) * strength
    target.changed[name] = merged.to(target.home or weight.device, target.dtype or weight.dtype)


def _other_architecture(file: Path, model: StreamModel, why: str, example: str) -> AssetError:
    return AssetError(
        f"LoRA {file.name} is for another architecture than {model.name} ({model.family.value}): {why}"
        + (f", such as {example}" if example else ""),
        code="lora_architecture",
        hint=f"use a LoRA that was trained for {model.family.value}",
    )
