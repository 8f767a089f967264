"""Weight files: reading them, and putting what they hold into a module, with errors that say what is wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from comfystream.errors import AssetError

__all__ = ["fill", "read_config", "read_folder", "read_weights", "under"]

Module = TypeVar("Module", bound=nn.Module)
IGNORED = ("position_ids", "logit_scale")  # buffers and numbers that older files carry and no module has
TOLD = 3  # names in a message
# The weights of a component's folder, best first. A repository may hold more files: of a TAESD both halves once again,
# in its author's own layout.
OF_FOLDER = tuple(
    f"{name}{ending}"
    for ending in (".fp16.safetensors", ".safetensors", ".fp16.bin", ".bin")
    for name in ("diffusion_pytorch_model", "pytorch_model", "model", "*")
)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors, .bin, .pt, .pth or .ckpt file, on the CPU. Pickled code is never run.

    Raises:
        AssetError: no such file, or it is cut off or of another kind.
    """
    file = Path(path)
    if not file.is_file():
        raise AssetError(f"weight file {file} does not exist", code="weights_missing")
    if file.suffix in (".safetensors", ".sft"):
        return _read_safetensors(file)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise _unreadable(file, error) from error
    return _flat(loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}, file)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> AssetError:
    size = file.stat().st_size
    said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    is_refused = isinstance(error, pickle.UnpicklingError)
    return AssetError(
        f"weight file {file} cannot be read ({size} bytes): {said}",
        code="weights_broken",
        hint="it is cut off or damaged: fetch it again"
        + "; or it holds code, which is never run: use a .safetensors file" * is_refused,
    )


def _flat(loaded: Mapping[str, Any], file: Path, prefix: str = "") -> dict[str, Tensor]:
    """Nested tables as one, names joined by dots; IP-Adapter files are nested."""
    flat: dict[str, Tensor] = {}
    for name, value in loaded.items():
        if isinstance(value, Tensor):
            flat[f"{prefix}{name}"] = value
        elif isinstance(value, Mapping):
            flat.update(_flat(value, file, f"{prefix}{name}."))
    if not flat and not prefix:
        raise AssetError(f"weight file {file} holds no tensors", code="weights_broken")
    return flat


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file of a model folder.

    Raises:
        AssetError: it is missing or no JSON object.
    """
    try:
        config = json.loads((folder / name).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AssetError(f"model folder {folder} has no {name}", hint="it must be in diffusers' layout") from error
    except ValueError as error:
        raise AssetError(f"{folder / name} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise AssetError(f"{folder / name} is no JSON object")
    return config


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of one component's folder: one weight file, or the shards that an index names.

    Raises:
        AssetError: no weights there, or one of the files is broken.
    """
    for index in sorted(folder.glob("*.safetensors.index*.json")):
        shards = sorted(set(read_config(folder, index.name).get("weight_map", {}).values()))
        return {name: value for shard in shards for name, value in read_weights(folder / shard).items()}
    for pattern in OF_FOLDER:
        files = sorted(folder.glob(pattern), key=lambda file: (len(file.name), file.name))
        if files:
            return read_weights(files[0])
    raise AssetError(f"model folder {folder} has no weight file", hint="expected a .safetensors file in it")


def under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def fill(module: Module, weights: Mapping[str, Tensor], what: str) -> Module:
    """Put tensors into a module, which then computes and never learns.

    Args:
        module: made for these weights; may be on the meta device.
        weights: by the module's own names.
        what: for the message: which part of which file.

    Raises:
        AssetError: names or shapes do not fit.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in weights and not name.endswith(IGNORED)]
    surplus = [name for name in weights if name not in own and not name.endswith(IGNORED)]
    if missing or surplus:
        raise AssetError(
            f"{what} does not fit its model: {_some('missing', missing)}{_some('unknown', surplus)}".rstrip("; "),
            code="weights_do_not_fit",
            hint="the file is of another architecture, or parts of it are missing",
        )
    for name, value in own.items():
        if name in weights and weights[name].shape != value.shape:
            raise AssetError(
                f"{what}: {name} is {list(weights[name].shape)} where {list(value.shape)} was expected",
                code="weights_do_not_fit",
                hint="the file is of another architecture",
            )
    module.load_state_dict({name: weights[name] for name in own if name in weights}, strict=False, assign=True)
    return module.requires_grad_(False).eval()


def _some(word: str, names: Iterable[str]) -> str:
    listed = list(names)
    return f"{len(listed)} tensors {word} ({', '.join(listed[:TOLD])}{', ...' if len(listed) > TOLD else ''}); " * bool(
        listed
    )
