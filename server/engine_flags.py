"""Options of every command that runs an engine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from .workspace import HELP

__all__ = ["Decoder", "EngineFlags", "FramesFlags", "FramesPlace"]


class FramesPlace(StrEnum):
    """Where pictures are while nodes work on them."""

    AUTO = "auto"  # on a GPU if there is one
    HOST = "host"
    CUDA = "cuda"


class Decoder(StrEnum):
    """What decodes pictures of files and streams."""

    AUTO = "auto"  # NVDEC where it is proved to work
    SOFTWARE = "software"
    NVDEC = "nvdec"


@dataclass(frozen=True, slots=True)
class FramesFlags:
    """Where pictures are decoded, and where they are worked on."""

    PANEL: ClassVar = "Engine"

    frames_on: Annotated[
        FramesPlace | None, typer.Option(help="Where pictures are: a GPU if there is one, or as named.")
    ] = None
    decoder: Annotated[Decoder | None, typer.Option(help="software, nvdec (NVIDIA GPU), or auto.")] = None


@dataclass(frozen=True, slots=True)
class EngineFlags:
    """What the engine of a server or a worker loads; called as the settings are."""

    PANEL: ClassVar = "Engine"

    workspace: Annotated[str | None, typer.Option(metavar="FOLDER", help=HELP)] = None
    node_folders: Annotated[
        list[Path] | None, typer.Option("--nodes", metavar="FOLDER", help="Folder of node packs; repeat.")
    ] = None
    threads: Annotated[int | None, typer.Option(metavar="N", help="Threads of torch.")] = None
