"""Options of every command that runs an engine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["Decode", "Decoder", "FramesOn", "FramesPlace"]


class FramesPlace(StrEnum):
    """Where pictures are while nodes work on them."""

    AUTO = "auto"  # on a GPU if there is one
    HOST = "host"
    CUDA = "cuda"


FramesOn = Annotated[
    FramesPlace | None,
    typer.Option(
        "--frames-on", help="Where pictures are: a GPU if there is one, or as named.", rich_help_panel="Engine"
    ),
]


class Decoder(StrEnum):
    """What decodes pictures of files and streams."""

    AUTO = "auto"  # NVDEC where it is proved to work
    SOFTWARE = "software"
    NVDEC = "nvdec"


Decode = Annotated[
    Decoder | None,
    typer.Option("--decoder", help="software, nvdec (NVIDIA GPU), or auto.", rich_help_panel="Engine"),
]
