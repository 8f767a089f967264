"""The flags that say where node classes come from; the same in every command that loads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from comfystream.catalog.comfyui import Vram

__all__ = ["ComfyUIFlags", "LoadingFlags"]


@dataclass(frozen=True, slots=True)
class ComfyUIFlags:
    """Which ComfyUI, and which packs."""

    PANEL: ClassVar = "ComfyUI"

    comfyui: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="ComfyUI to take nodes, packs and models from. Without it: COMFYUI_PATH, or the ComfyUI that "
            'ComfyStream is a custom node of; "none" for none.',
        ),
    ] = ""
    no_api_nodes: Annotated[
        bool, typer.Option("--no-api-nodes", help="Leave out ComfyUI's nodes for paid services.")
    ] = False
    allow_pack: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Load only this pack; repeat.")] = None
    block_pack: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Do not load this pack; repeat.")] = None


@dataclass(frozen=True, slots=True)
class LoadingFlags(ComfyUIFlags):
    """The same for commands that run models."""

    vram: Annotated[Vram | None, typer.Option(help="How ComfyUI keeps models on the GPU.")] = None

    @property
    def settings(self) -> dict[str, Any]:
        """The flags as settings; None for those that were not given."""
        return {
            "comfyui": self.comfyui or None,
            "api_nodes": False if self.no_api_nodes else None,
            "vram": self.vram.value if self.vram is not None else None,
            "allow_packs": self.allow_pack or None,
            "block_packs": self.block_pack or None,
        }
