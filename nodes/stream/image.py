"""The picture that stands for the live one while a workflow is edited, and the viewer inside the editor."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["ComfyStreamUIPreview", "PrimaryInputLoadImage"]


def _load_image() -> type[Any]:
    """LoadImage of the ComfyUI around us; our own where there is none."""
    host = getattr(sys.modules.get("nodes"), "LoadImage", None)
    if host is not None:
        return host
    from ..core.image_files import LoadImage

    return LoadImage


class PrimaryInputLoadImage(_load_image()):
    """A picture while a workflow is edited, the live picture in a stream."""

    DESCRIPTION = "Loads a picture; in a stream, the live picture takes its place."


class ComfyStreamUIPreview:
    """Place of the live viewer, which the editor draws."""

    RETURN_TYPES = ()
    FUNCTION = "execute"
    CATEGORY = "ComfyStream"
    DESCRIPTION = "Shows the live stream in the editor."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def execute(self) -> tuple[()]:
        return ()
