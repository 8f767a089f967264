"""The folder with models/ and custom_nodes/ in it: the same for what fetches into it and for what loads from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from comfystream.errors import ConfigError

if TYPE_CHECKING:
    from comfystream.catalog.comfyui import ComfyUIOptions

__all__ = ["HELP", "find_workspace", "own_packs"]

VARIABLES = ("COMFYSTREAM_WORKSPACE", "COMFY_UI_WORKSPACE")
HELP = (
    "Folder with models/ and custom_nodes/ in it. Without it: $COMFYSTREAM_WORKSPACE, $COMFY_UI_WORKSPACE, the ComfyUI "
    "that is used, or ~/.comfystream."
)


def find_workspace(given: str | Path = "", comfyui: str = "") -> Path:
    """Where models and packs are.

    Args:
        given: what a flag or a setting names; empty for none. Then the environment's, else the ComfyUI that is used,
            else ComfyStream's own folder (`$COMFYSTREAM_HOME`, `~/.comfystream`), which need not be there yet.
        comfyui: what `--comfyui` says.

    Raises:
        ConfigError: what is named is no folder, or no ComfyUI.
    """
    from comfystream.catalog.comfyui import find_checkout, find_places
    from comfystream.catalog.standin import Folders

    named = str(given) or next(filter(None, map(os.environ.get, VARIABLES)), "")
    if named:
        path = Path(named).expanduser().absolute()
        if not path.is_dir():
            raise ConfigError(
                f"workspace {path}: there is no such folder", code="no_workspace", hint="make it first, or correct it"
            )
        return path
    checkout = find_checkout(comfyui)
    if checkout is not None:
        return Path(find_places()[0] or checkout)
    return Path(Folders().resolved().base)


def own_packs(workspace: Path, comfyui: ComfyUIOptions | None) -> list[Path]:
    """The workspace's folder of node packs, where there is one and the ComfyUI that is loaded does not bring it."""
    folder = workspace / "custom_nodes"
    is_of_comfyui = comfyui is not None and workspace == Path(comfyui.base or comfyui.folder)
    return [folder] if folder.is_dir() and not is_of_comfyui else []
