"""LoRAs for Wan's transformers, merged into the weights, whoever named the layers."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from comfystream.errors import AssetError

from ..loading.adapter import lora_file
from ..lora import read_changes
from ..model import with_tensors
from .model import VideoModel
from .names import transformer_pairs
from .transformer import CausalStep

__all__ = ["with_video_lora"]

_KOHYA = "lora_unet_"
_GENERATOR = "generator_lora."  # in checkpoints of training, beside that of the critic, which has the same layers


def _key(name: str) -> str:
    """A layer's name without what stands before it, which differs from trainer to trainer."""
    if name.startswith(_KOHYA):
        return name.removeprefix(_KOHYA)
    place = name.find("blocks.")
    if place >= 0:
        name = name[place:]
    for prefix in ("diffusion_model.", "transformer.", "base_model.model.", _GENERATOR, "model."):
        name = name.removeprefix(prefix)
    return name.replace(".", "_")


def _aliases(transformer: nn.Module, blocks: int) -> dict[str, str]:
    """All names that a layer goes by, with underscores, to its own."""
    pairs = transformer_pairs(blocks)
    aliases: dict[str, str] = {}
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            aliases[name.replace(".", "_")] = name
            for theirs, ours in pairs:
                if f"{name}.".startswith(ours):
                    aliases[(theirs + f"{name}."[len(ours) :]).rstrip(".").replace(".", "_")] = name
    return aliases


def with_video_lora(model: VideoModel, path: Path, strength: float) -> VideoModel:
    """A model with a LoRA added to its weights; what it does not touch is shared with the model that was given.

    Args:
        model: stays as it is.
        path: a .safetensors or .pt file, or the folder that a trainer saved it in.
        strength: 1 as trained; may be negative.

    Raises:
        AssetError: no LoRA, a damaged file, or one for another architecture.
    """
    path = lora_file(path)
    changes = read_changes(path)
    changes = {name: change for name, change in changes.items() if name.startswith(_GENERATOR)} or changes
    aliases = _aliases(model.transformer, len(model.transformer.blocks))
    strangers = [name for name in changes if _key(name) not in aliases]
    if strangers:
        raise _other(path, model, f"{len(strangers)} of {len(changes)} layers are not in it, such as {strangers[0]}")
    changed: dict[str, Tensor] = {}
    for name, change in changes.items():
        layer = f"{aliases[_key(name)]}.weight"
        weight = model.transformer.get_parameter(layer)
        delta = change.delta(weight.device)
        if delta.shape != weight.shape:
            raise _other(path, model, f"{name} is {list(delta.shape)} where {list(weight.shape)} was expected")
        base = changed.get(layer, weight).float()
        changed[layer] = (base + delta * strength).to(weight.dtype)
    step = CausalStep(with_tensors(model.transformer, changed))
    return model.with_parts(step=step, loras=(*model.loras, (path.name, strength)))


def _other(path: Path, model: VideoModel, why: str) -> AssetError:
    return AssetError(
        f"LoRA {path.name} is for another architecture than {model.name}: {why}",
        code="lora_architecture",
        hint="use a LoRA that was trained for this size of Wan's transformer",
    )
