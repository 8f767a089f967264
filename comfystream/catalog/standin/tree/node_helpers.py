"""Small helpers that node packs share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from PIL import ImageFile

T = TypeVar("T")
A = TypeVar("A")


def conditioning_set_values(conditioning: Any, values: Mapping[str, Any] | None = None, append: bool = False) -> Any:
    """A copy of the conditioning with these values in each entry; `append` adds them to what is there."""

    def merged(old: Mapping[str, Any]) -> dict[str, Any]:
        new = dict(old)
        for key, value in (values or {}).items():
            before = old.get(key) if append else None
            new[key] = value if before is None else before + value
        return new

    return [[entry[0], merged(entry[1])] for entry in conditioning]


def pillow(fn: Callable[[A], T], arg: A) -> T:
    """Call a Pillow function; a second time with truncated files allowed when it fails."""
    try:
        return fn(arg)
    except (OSError, ValueError):
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return fn(arg)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def hasher() -> Callable[..., Any]:
    """The hash that ComfyUI names files' contents with."""
    return hashlib.sha256


def string_to_torch_dtype(string: str) -> Any:
    """The dtype of "fp32", "fp16" or "bf16"; None for another name."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}.get(string)


def image_alpha_fix(destination: Any, source: Any) -> tuple[Any, Any]:
    """Both pictures [B, H, W, C] with the channels of the first; a new alpha channel is opaque."""
    import torch

    have, want = source.shape[-1], destination.shape[-1]
    if have > want:
        source = source[..., :want]
    elif have < want:
        source = torch.nn.functional.pad(source, (0, want - have), value=1.0)
    return destination, source
