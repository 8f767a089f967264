"""What a trainer says of a LoRA beside its tensors: PEFT's `LoraConfig`, in a file of its own or in the header."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfystream.errors import AssetError

from .weights import read_config

__all__ = ["Adapter", "lora_file", "read_adapter"]

OF_PEFT = "adapter_model.safetensors"
OF_FOLDER = ("pytorch_lora_weights.safetensors", OF_PEFT)
CONFIG = "adapter_config.json"
HEADER = "lora_adapter_metadata"  # as diffusers' trainers write it


class Adapter:
    """The configs of one file's networks.

    Args:
        configs: of PEFT, by the first word of the names of a network's layers, such as "unet"; "" is for all others.
    """

    def __init__(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        self._configs = configs

    def alpha(self, layer: str, rank: int) -> float | None:
        """A layer's alpha, which is divided by the rank to scale it; None where nothing is said.

        Args:
            layer: its name in the file.
            rank: of its factors.
        """
        config = self._configs.get(layer.partition(".")[0]) or self._configs.get("", {})
        patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
        own = next((value for key, value in patterns.items() if re.fullmatch(rf"(?:.*\.)?(?:{key})", layer)), None)
        alpha = config.get("lora_alpha") if own is None else own
        if alpha is None:
            return None
        return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1)


def lora_file(path: Path) -> Path:
    """The weights of a LoRA that is a file, or the folder that a trainer saved it in.

    Raises:
        AssetError: a folder without one file that is it.
    """
    if not path.is_dir():
        return path
    files = [path / name for name in OF_FOLDER if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise AssetError(
            f"LoRA folder {path.name} holds {len(files)} weight files",
            code="weights_missing",
            hint=f"name the file that is meant; {' or '.join(OF_FOLDER)} is found by itself",
        )
    return files[0]


def read_adapter(file: Path) -> Adapter:
    """What is said of a LoRA's file.

    Raises:
        AssetError: it is damaged.
    """
    if file.name == OF_PEFT and (file.parent / CONFIG).is_file():
        return Adapter({"": read_config(file.parent, CONFIG)})
    return Adapter(_by_network(_header(file)))


def _header(file: Path) -> Mapping[str, Any]:
    if file.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(str(file), "pt") as opened:
        text = (opened.metadata() or {}).get(HEADER)
    try:
        found = json.loads(text) if text else {}
    except ValueError as error:
        raise AssetError(f"{file.name}: what its header says of the LoRA is no JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _by_network(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Keys such as "unet.lora_alpha" as a table for each network; plain ones are for the only network."""
    configs: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        network, _, name = key.rpartition(".")
        configs.setdefault(network, {})[name] = value
    return configs
