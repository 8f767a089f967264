"""Weights: files, dictionaries, batches."""

from __future__ import annotations

import json
import struct
from typing import Any

import torch

Weights = dict[str, Any]


def load_torch_file(ckpt: str, safe_load: bool = False, device: Any = None, return_metadata: bool = False) -> Any:
    """Weights of a .safetensors file, or of a torch file without code in it.

    Raises:
        ImportError: a .safetensors file, and the `safetensors` package is not installed.
    """
    metadata: dict[str, str] | None = None
    if ckpt.lower().endswith((".safetensors", ".sft")):
        from safetensors import safe_open

        with safe_open(ckpt, framework="pt", device=str(device or "cpu")) as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata()
    else:
        loaded = torch.load(ckpt, map_location=device or "cpu", weights_only=True)
        weights = loaded.get("state_dict", loaded)
    return (weights, metadata) if return_metadata else weights


def save_torch_file(sd: Weights, ckpt: str, metadata: dict[str, str] | None = None) -> None:
    """Write a .safetensors file."""
    from safetensors.torch import save_file

    save_file(sd, ckpt, metadata=metadata)


def safetensors_header(safetensors_path: str, max_size: int = 100 * 1024 * 1024) -> bytes | None:
    """The JSON header of a .safetensors file; None when it says to be larger than `max_size` bytes."""
    with open(safetensors_path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = file.read(size) if size <= max_size else None
    if header is not None:
        json.loads(header)
    return header


def calculate_parameters(sd: Weights, prefix: str = "") -> int:
    """Number of values in the tensors whose names start with `prefix`."""
    return sum(value.nelement() for key, value in sd.items() if key.startswith(prefix))


def weight_dtype(sd: Weights, prefix: str = "") -> Any:
    """The dtype that most values of those tensors have; None when there are none."""
    counts: dict[Any, int] = {}
    for key, value in sd.items():
        if key.startswith(prefix):
            counts[value.dtype] = counts.get(value.dtype, 0) + value.numel()
    return max(counts, key=lambda dtype: counts[dtype]) if counts else None


def state_dict_key_replace(state_dict: Weights, keys_to_replace: dict[str, str]) -> Weights:
    """Rename keys, in place."""
    for old, new in keys_to_replace.items():
        if old in state_dict:
            state_dict[new] = state_dict.pop(old)
    return state_dict


def state_dict_prefix_replace(
    state_dict: Weights, replace_prefix: dict[str, str], filter_keys: bool = False
) -> Weights:
    """Rename by prefix, in place; with `filter_keys` a new dict of the renamed only."""
    out: Weights = {} if filter_keys else state_dict
    for old, new in replace_prefix.items():
        for key in [key for key in state_dict if key.startswith(old)]:
            out[new + key[len(old) :]] = state_dict.pop(key)
    return out


def repeat_to_batch_size(tensor: torch.Tensor, batch_size: int, dim: int = 0) -> torch.Tensor:
    """Repeat or cut along `dim` until it is `batch_size` long."""
    length = tensor.shape[dim]
    if length < batch_size:
        repeats = [1] * tensor.ndim
        repeats[dim] = -(-batch_size // length)
        tensor = tensor.repeat(repeats)
    return tensor.narrow(dim, 0, batch_size)


def resize_to_batch_size(tensor: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Pick or repeat items, spread evenly, until there are `batch_size`."""
    count = tensor.shape[0]
    if count == batch_size:
        return tensor
    if batch_size <= 1:
        return tensor[:batch_size]
    step = (count - 1) / (batch_size - 1) if batch_size < count else count / batch_size
    picked = [
        min(round(step * number) if batch_size < count else int((number + 0.5) * step), count - 1)
        for number in range(batch_size)
    ]
    return tensor[picked]


def _owner(obj: Any, attr: str) -> tuple[Any, str]:
    *path, name = attr.split(".")
    for part in path:
        obj = getattr(obj, part)
    return obj, name


def get_attr(obj: Any, attr: str) -> Any:
    """The attribute at a dotted path."""
    owner, name = _owner(obj, attr)
    return getattr(owner, name)


def set_attr(obj: Any, attr: str, value: Any) -> Any:
    """Put a value at a dotted path; gives what was there."""
    owner, name = _owner(obj, attr)
    before = getattr(owner, name)
    setattr(owner, name, value)
    return before


def set_attr_param(obj: Any, attr: str, value: Any) -> Any:
    """As `set_attr`, as a parameter without gradient."""
    return set_attr(obj, attr, torch.nn.Parameter(value, requires_grad=False))


def copy_to_param(obj: Any, attr: str, value: Any) -> None:
    """Copy values into the parameter at a dotted path."""
    get_attr(obj, attr).data.copy_(value)


def string_to_seed(data: str | bytes) -> int:
    """A 32-bit number from a text: CRC-32 (polynomial 0xEDB88320) over its code points."""
    remainder = 0xFFFFFFFF
    for unit in data if isinstance(data, bytes) else map(ord, data):
        remainder ^= unit
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0xEDB88320 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF
