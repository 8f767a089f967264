"""The flags that say where node classes come from; the same in every command that loads them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from comfystream.catalog.comfyui import Vram

__all__ = ["AllowPacks", "BlockPacks", "ComfyUIFolder", "NoApiNodes", "VramMode", "comfyui_settings"]

_PANEL = "ComfyUI"

ComfyUIFolder = Annotated[
    str,
    typer.Option(
        "--comfyui",
        metavar="DIR",
        help="ComfyUI to take nodes, packs and models from. Without it: COMFYUI_PATH, or the ComfyUI that ComfyStream "
        'is a custom node of; "none" for none.',
        rich_help_panel=_PANEL,
    ),
]
NoApiNodes = Annotated[
    bool, typer.Option("--no-api-nodes", help="Leave out ComfyUI's nodes for paid services.", rich_help_panel=_PANEL)
]
VramMode = Annotated[
    Vram | None, typer.Option("--vram", help="How ComfyUI keeps models on the GPU.", rich_help_panel=_PANEL)
]
AllowPacks = Annotated[
    list[str] | None,
    typer.Option("--allow-pack", metavar="NAME", help="Load only this pack; repeat.", rich_help_panel=_PANEL),
]
BlockPacks = Annotated[
    list[str] | None,
    typer.Option("--block-pack", metavar="NAME", help="Do not load this pack; repeat.", rich_help_panel=_PANEL),
]


def comfyui_settings(
    comfyui: str, no_api_nodes: bool, vram: Vram | None, allow: list[str] | None, block: list[str] | None
) -> dict[str, Any]:
    """The flags as settings; None for those that were not given."""
    return {
        "comfyui": comfyui or None,
        "api_nodes": False if no_api_nodes else None,
        "vram": vram.value if vram is not None else None,
        "allow_packs": allow or None,
        "block_packs": block or None,
    }
