"""Weights on their way to the device and the precision that they are used in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["bring", "is_there"]

Module = TypeVar("Module", bound="nn.Module")


def bring(module: Module, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Module:
    """The module itself, with its weights somewhere else.

    Unlike `Module.to`, tensors are replaced, not changed: whoever shares them keeps them where they are, and it does
    not matter in which mode (of inference or not) they were made. If it fails, all of it is where it was. (And
    diffusers' own `to` warns of every change of precision.)

    Args:
        module: its parameters and buffers.
        device: where to; None leaves each where it is.
        dtype: of those that are floating-point numbers; None leaves it.
    """
    import torch

    place = torch.empty(0, device=device).device if device is not None else None  # "cuda" has a number there
    before: list[tuple[nn.Module, str, Tensor]] = []
    done: dict[int, Tensor] = {}  # what is tied stays tied
    try:
        for owner in module.modules():
            for name, value in (*owner._parameters.items(), *owner._buffers.items()):
                if value is None or _fits(value, place, dtype):
                    continue
                if id(value) not in done:
                    done[id(value)] = _brought(value, place, dtype)
                before.append((owner, name, value))
                setattr(owner, name, done[id(value)])
    except BaseException:
        for owner, name, value in before:
            setattr(owner, name, value)
        raise
    return module


def _brought(value: Tensor, place: torch.device | None, dtype: torch.dtype | None) -> Tensor:
    from torch import nn

    wanted = dtype if dtype is not None and value.is_floating_point() else value.dtype
    made = value.detach().to(place or value.device, wanted)
    return nn.Parameter(made, requires_grad=False) if isinstance(value, nn.Parameter) else made


def is_there(module: nn.Module, device: torch.device | str, dtype: torch.dtype) -> bool:
    """Whether all of it is on a device, in a precision."""
    import torch

    place = torch.empty(0, device=device).device
    return all(_fits(value, place, dtype) for value in (*module.parameters(), *module.buffers()))


def _fits(value: Tensor, place: torch.device | None, dtype: torch.dtype | None) -> bool:
    is_typed = dtype is None or not value.is_floating_point() or value.dtype == dtype
    return is_typed and (place is None or value.device == place)
