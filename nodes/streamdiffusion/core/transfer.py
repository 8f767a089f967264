"""From the host's memory to the device, without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["brought"]


def brought(value: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """The value on a device, in a type, without waiting for what the device has still to do; itself if it is there."""
    device, value = torch.device(device), value.to(dtype or value.dtype)
    if value.device.type == "cpu" and device.type == "cuda":
        value = value.pin_memory()  # a copy out of other memory waits until the device has come to it
    return value.to(device, non_blocking=True)
