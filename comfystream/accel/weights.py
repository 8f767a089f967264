"""Files of weights: looked at before they are loaded, so that a broken one is told by its name and place."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfystream.errors import AssetError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_safetensors", "read_weights"]

LARGEST_HEADER = 100 << 20


def check_safetensors(path: Path) -> dict[str, Any]:
    """Read the list of tensors at the start of a safetensors file, and see that the rest is there.

    Args:
        path: the file.

    Returns:
        By name: `dtype`, `shape`, `data_offsets`.

    Raises:
        AssetError: there is no such file, it is cut off, or it is something else.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            header = file.read(length) if length <= min(size, LARGEST_HEADER) else b""
    except OSError as error:
        raise AssetError(f"{path}: {error.strerror}", code="no_file", hint="comfystream fetch models") from error
    try:
        tensors = json.loads(header)
        tensors.pop("__metadata__", None)
        end = max((one["data_offsets"][1] for one in tensors.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise AssetError(
            f"{path}: not a safetensors file, or cut off within its first part",
            code="broken_weights",
            hint="fetch it again",
        ) from None
    wanted = 8 + length + int(end)
    if size < wanted:
        raise AssetError(
            f"{path}: cut off: {size} bytes of {wanted}", code="broken_weights", hint="delete it and fetch it again"
        )
    return dict(tensors)


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        AssetError: it cannot be read, or the package safetensors is missing.
    """
    check_safetensors(path)
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise AssetError(
            "reading weights needs the package safetensors", code="backend_missing", hint="pip install safetensors"
        ) from None
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise AssetError(f"{path}: {error}", code="broken_weights", hint="fetch it again") from error
