"""What the stand-in modules share with the rest of the catalog."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FOLDERS", "NODE_CLASSES", "NODE_NAMES", "FolderState", "Folders"]


def _home() -> str:
    return os.environ.get("COMFYSTREAM_HOME") or str(Path.home() / ".comfystream")


@dataclass(frozen=True, slots=True)
class Folders:
    """What nodes get from `folder_paths`. An empty string means the default, a folder of that name below `base`.

    Attributes:
        base: default `$COMFYSTREAM_HOME`, else `~/.comfystream`.
        input, output, models: where LoadImage looks, where SaveImage writes, where model files are.
        temp: default a folder in the system's temporary folder.
    """

    base: str = field(default_factory=_home)
    input: str = ""
    output: str = ""
    temp: str = ""
    models: str = ""

    def resolved(self) -> Folders:
        """The same with every default filled in and made absolute."""
        base = os.path.abspath(self.base)
        return Folders(
            base=base,
            input=os.path.abspath(self.input or os.path.join(base, "input")),
            output=os.path.abspath(self.output or os.path.join(base, "output")),
            temp=os.path.abspath(self.temp or os.path.join(tempfile.gettempdir(), "comfystream")),
            models=os.path.abspath(self.models or os.path.join(base, "models")),
        )


class FolderState:
    """The folders in force."""

    def __init__(self) -> None:
        self.now = Folders().resolved()

    def use(self, folders: Folders) -> None:
        """Put other folders in force for `folder_paths` as it is imported next."""
        self.now = folders.resolved()


FOLDERS = FolderState()
NODE_CLASSES: dict[str, type] = {}
NODE_NAMES: dict[str, str] = {}
