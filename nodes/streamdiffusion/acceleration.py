"""Where accelerated backends come in. One that is asked for by name and is not there raises; nothing falls back."""

from __future__ import annotations

from collections.abc import Callable

from comfystream.errors import AssetError

from .model import StreamModel

__all__ = ["accelerated", "register"]

Accelerator = Callable[[StreamModel], StreamModel]

# "xformers" asks for fused attention, which torch has by itself.
_KNOWN: dict[str, Accelerator] = dict.fromkeys(("none", "eager", "xformers"), lambda model: model)


def register(name: str, accelerator: Accelerator) -> None:
    """Make a backend known under a name.

    Args:
        name: such as "tensorrt".
        accelerator: gives the model with faster parts, or raises.
    """
    _KNOWN[name] = accelerator


def accelerated(model: StreamModel, name: str) -> StreamModel:
    """The model as a backend runs it.

    Raises:
        AssetError: the backend is not there.
    """
    if name not in _KNOWN:
        raise AssetError(
            f"acceleration {name!r} is not available here; there is: {', '.join(sorted(_KNOWN))}",
            code="backend_missing",
            hint="set acceleration to none to run in PyTorch; a slower backend is never taken silently",
        )
    return _KNOWN[name](model)
