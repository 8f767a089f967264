"""ControlNets: a second network looks at a drawing of the frame and steers the first (arXiv 2302.05543)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comfystream.errors import AssetError

from .loading.infer import Family, control_config
from .loading.names import control_pairs, renamed
from .loading.parts import component, from_folder
from .loading.weights import read_weights, under
from .shelf import Shelf

__all__ = ["ActiveControl", "Control", "ControlModel", "load_control", "residuals"]


@dataclass(frozen=True, slots=True)
class ControlModel:
    """A loaded ControlNet.

    Attributes:
        name: for people.
        module: diffusers' ControlNetModel.
        shelf: what a backend has made ready of it.
    """

    name: str
    module: Any
    shelf: Shelf = field(default_factory=Shelf, compare=False, repr=False)

    def check(self, family: Family, unet: Any) -> None:
        """Say so when it is not for this UNet.

        Raises:
            AssetError: it is for another architecture.
        """
        own, theirs = self.module.config, unet.config
        for word in ("cross_attention_dim", "addition_embed_type"):
            if getattr(own, word, None) != getattr(theirs, word, None):
                raise AssetError(
                    f"ControlNet {self.name} is for another architecture than this model ({family.value}): its {word} "
                    f"is {getattr(own, word, None)}, the model's {getattr(theirs, word, None)}",
                    code="weights_do_not_fit",
                    hint=f"use a ControlNet that was trained for {family.value}",
                )


ActiveControl = tuple[ControlModel, Tensor, Tensor]
"""A ControlNet, control pictures [rows, 3, height, width] of 0..1, and its strength [1]."""


@dataclass(frozen=True, slots=True)
class Control:
    """How a stream uses a ControlNet.

    Attributes:
        model: the network.
        scale: how strong, 0 and more; 0 leaves it out.
        preprocessor: what draws the control picture.
        parameters: of the preprocessor.
        picture: a control picture that another node made, [1, height, width, 3] of 0..1; then nothing is drawn.
    """

    model: ControlModel
    scale: float = 1.0
    preprocessor: str = "passthrough"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    picture: Tensor | None = None


def load_control(path: Path) -> ControlModel:
    """A ControlNet, from diffusers' folder or from one file of either layout; on the CPU.

    Raises:
        AssetError: damaged, or no ControlNet.
    """
    if path.is_dir():
        return ControlModel(path.name, from_folder("ControlNetModel", path))
    weights = read_weights(path)
    weights = under(weights, "control_model.") or weights
    if "controlnet_cond_embedding.conv_in.weight" in weights:
        raise AssetError(
            f"ControlNet {path.name} is in diffusers' layout without its config",
            code="bad_config",
            hint="give the folder that it lies in, with its config.json",
        )
    config = control_config(weights)
    pairs = control_pairs(len(config["block_out_channels"]), config["layers_per_block"])
    return ControlModel(path.name, component("ControlNetModel", config, renamed(weights, pairs), str(path)))


def residuals(
    active: list[tuple[Any, Tensor, Tensor]], x: Tensor, times: Tensor, tokens: Tensor, added: dict[str, Tensor] | None
) -> tuple[list[Tensor], Tensor] | tuple[None, None]:
    """What all ControlNets together add to the UNet's skips.

    Args:
        active: network, control pictures [rows, 3, height, width] of 0..1, strength [1].
        x: [rows, channels, h, w].
        times: [rows].
        tokens: [rows, tokens, width], of the text alone.
        added: SDXL's further conditioning.

    Returns:
        (down, middle), or (None, None) where there is no network.
    """
    down: list[Tensor] | None = None
    middle: Tensor | None = None
    for module, pictures, scale in active:
        more, mid = module(x, times, tokens, pictures, scale, added_cond_kwargs=added, return_dict=False)
        if down is None or middle is None:
            down, middle = list(more), mid
        else:
            torch._foreach_add_(down, list(more))
            middle = middle.add_(mid)
    return (None, None) if down is None or middle is None else (down, middle)
