"""The newest version of the node API: `io`, `ui`, `ComfyExtension`."""

from __future__ import annotations

from typing import Any

from . import _input, _io, _io_public, _ui_public, _util
from ._api import ComfyAPI, ComfyAPISync

io = IO = _io_public
ui = UI = _ui_public


class ComfyExtension:
    """What a pack's `comfy_entrypoint` returns; derive and write `get_node_list`."""

    async def on_load(self) -> None:
        """Called once before the nodes are asked for."""

    async def get_node_list(self) -> list[type[_io.ComfyNode]]:
        """The pack's node classes."""
        raise NotImplementedError(f"{type(self).__name__} has no get_node_list")


class Input:
    """Types of values that nodes take."""

    Image: Any = _input.ImageInput
    Audio: Any = _input.AudioInput
    Mask: Any = _input.MaskInput
    Latent: Any = _input.LatentInput
    Video: Any = _input.VideoInput


class Types:
    """Types of values that nodes make."""

    VideoCodec = _util.VideoCodec
    VideoContainer = _util.VideoContainer
    VideoComponents = _util.VideoComponents
    MESH = _util.MESH
    VOXEL = _util.VOXEL
    SPLAT = _util.SPLAT
    File3D = _util.File3D


__all__ = ["IO", "UI", "ComfyAPI", "ComfyAPISync", "ComfyExtension", "Input", "Types", "io", "ui"]
