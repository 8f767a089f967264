"""Finding a ComfyUI checkout and telling its version. Nothing of it is run here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from comfystream.errors import ConfigError

__all__ = ["ComfyUIOptions", "Vram", "find_checkout", "find_places", "is_comfyui", "version_of"]

VARIABLE = "COMFYUI_PATH"
BASE, EXTRA_PATHS = "COMFYUI_BASE_DIRECTORY", "COMFYUI_EXTRA_MODEL_PATHS"
NOT_ONE = "it is the folder that has nodes.py, execution.py and comfy/"
# this file is <repository>/comfystream/catalog/comfyui/checkout.py
OUR_ROOT = Path(__file__).resolve().parents[3]


class Vram(StrEnum):
    """How ComfyUI keeps models on the GPU: `--lowvram`, its own choice, `--highvram`."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class ComfyUIOptions:
    """Which checkout to load, and how.

    Attributes:
        folder: the checkout.
        api_nodes: also load the nodes that call paid services.
        vram: how its model management keeps models on the GPU.
        base: the folder of its models, packs, input and output, if that is not the checkout; its `--base-directory`.
        extra_model_paths: further files like its `extra_model_paths.yaml`.
    """

    folder: str
    api_nodes: bool = True
    vram: Vram = Vram.NORMAL
    base: str = ""
    extra_model_paths: tuple[str, ...] = ()


def is_comfyui(folder: Path) -> bool:
    """Whether a folder is a ComfyUI checkout."""
    return (folder / "comfy").is_dir() and (folder / "nodes.py").is_file() and (folder / "execution.py").is_file()


def version_of(folder: Path) -> str:
    """What the checkout calls itself ("0.3.64"); empty when it does not say."""
    file = folder / "comfyui_version.py"
    if not file.is_file():
        return ""
    found = re.search(r"""__version__\s*=\s*["']([^"']+)""", file.read_text(encoding="utf-8"))
    return found[1] if found else ""


def find_checkout(given: str = "", environ: Mapping[str, str] | None = None, home: Path = OUR_ROOT) -> Path | None:
    """The checkout to use: the one that is given, else `COMFYUI_PATH`, else the one whose `custom_nodes/` we stand in.

    Args:
        given: a folder; "none" for none at all; empty when nothing is said.
        environ: of the process by default.
        home: where ComfyStream stands.

    Raises:
        ConfigError: what is given, or what the variable names, is no checkout.
    """
    environ = os.environ if environ is None else environ
    named, how = (given, "--comfyui") if given else (environ.get(VARIABLE, ""), VARIABLE)
    if named.lower() == "none":
        return None
    if named:
        folder = Path(named).expanduser().absolute()
        if not is_comfyui(folder):
            raise ConfigError(f"{how} {named}: this is no ComfyUI checkout", code="no_comfyui", hint=NOT_ONE)
        return folder
    if home.parent.name == "custom_nodes" and is_comfyui(home.parent.parent):
        return home.parent.parent
    return None


def find_places(environ: Mapping[str, str] | None = None) -> tuple[str, tuple[str, ...]]:
    """Where models and packs are beside the checkout: a base folder (or ""), and files of further paths.

    Args:
        environ: of the process by default; files are separated as in `PATH`.

    Raises:
        ConfigError: what is named is not there.
    """
    environ = os.environ if environ is None else environ
    base = environ.get(BASE, "")
    if base and not Path(base).is_dir():
        raise ConfigError(f"{BASE} {base}: there is no such folder", code="no_folder")
    files = tuple(file for file in environ.get(EXTRA_PATHS, "").split(os.pathsep) if file)
    for file in files:
        if not Path(file).is_file():
            raise ConfigError(f"{EXTRA_PATHS} {file}: there is no such file", code="no_file")
    return base, files
