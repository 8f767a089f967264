"""How a ComfyUI checkout is loaded into a process that is not its own: every fact about its modules that this takes.

Tried with 0.3.64 and 0.33.0. Each fact has its reason beside it; the tests with `COMFYUI_PATH` fail when one changes.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from comfystream.catalog.comfyui.checkout import ComfyUIOptions, Vram, version_of
from comfystream.catalog.comfyui.compat_torchvision import import_torchvision
from comfystream.catalog.loader import attempt, load_pack
from comfystream.catalog.packs import BrokenPack, LoadedPack, PackSource
from comfystream.catalog.standin import finder
from comfystream.catalog.standin.state import Folders
from comfystream.errors import AssetError, ConfigError

__all__ = ["OLDEST", "NEWEST", "ComfyUI", "is_known", "load_comfyui", "publish"]

_log = logging.getLogger(__name__)

OLDEST, NEWEST = "0.3.64", "0.33"
# Top-level names that a checkout owns. One of them loaded from elsewhere means that two would be mixed.
OWNED = frozenset(
    ("api_server", "app", "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras")
    + ("execution", "folder_paths", "latent_preview", "middleware", "node_helpers", "nodes", "protocol", "server")
    + ("utils",)
)
# A fork (ComfyUI-Zluda) runs pip from this module when `comfy.model_management` imports it. It has no names that
# anybody uses, so an empty one in its place is enough, and a ComfyUI without it never looks.
INSTALLS_PACKAGES = "comfy.zluda"
# Where its own node files are; it names a broken one without the folder.
PLACES = ("comfy_extras", "comfy_api_nodes")

_loaded: dict[ComfyUIOptions, ComfyUI] = {}  # modules stay in the process, so what they gave does, too


@dataclass(frozen=True, slots=True)
class ComfyUI:
    """A checkout that is loaded.

    Attributes:
        version: as it calls itself; empty when it does not.
        builtin: its own node classes: core, extras, API nodes.
        broken: node modules of its own that could not be imported.
        pack_folders: its `custom_nodes`, and those that `extra_model_paths.yaml` names.
        web_server: what packs find as `PromptServer.instance`.
    """

    version: str
    builtin: LoadedPack
    broken: tuple[BrokenPack, ...]
    pack_folders: tuple[str, ...]
    web_server: Any


def is_known(version: str) -> bool:
    """Whether this version lies in the range that was tried."""
    return bool(version) and _numbers(OLDEST) <= _numbers(version) and _numbers(version)[:2] <= _numbers(NEWEST)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def load_comfyui(options: ComfyUIOptions, folders: Folders | None = None) -> ComfyUI:
    """Load the checkout's node classes, without a server, a window or its own executor's threads.

    Args:
        options: which one.
        folders: where input, output and models are, if not in the checkout; empty entries leave them there.

    Raises:
        ConfigError: this process has modules under names that ComfyUI owns.
        AssetError: it cannot be imported; the hint says which package is missing.
    """
    if options in _loaded:
        return _loaded[options]
    folder = Path(options.folder).resolve()
    version = version_of(folder)
    _refuse_a_second(folder)
    if not is_known(version):
        tried = f"{OLDEST} to {NEWEST}"
        _log.warning("ComfyUI %s at %s is not one of those that were tried (%s)", version or "?", folder, tried)
    loaded = attempt("ComfyUI", lambda: _load(folder, version, options, folders or Folders(base="")))
    if isinstance(loaded, BrokenPack):
        raise _cannot_load(loaded, folder, version)
    _loaded[options] = loaded
    return loaded


def _cannot_load(broken: BrokenPack, folder: Path, version: str) -> AssetError:
    _log.debug("%s", broken.trace)
    hint = broken.hint
    if hint.startswith("install"):
        hint = f"install what it needs: {sys.executable} -m pip install -r {folder / 'requirements.txt'}"
    elif not hint and not is_known(version):
        hint = f"versions {OLDEST} to {NEWEST} were tried"
    name = " ".join(filter(None, ("ComfyUI", version)))
    return AssetError(f"{name} at {folder} cannot be loaded: {broken.message}", code="comfyui", hint=hint)


def _refuse_a_second(folder: Path) -> None:
    for name in sorted(OWNED):
        module = sys.modules.get(name)
        if module is None:
            continue
        origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
        if origin and Path(origin).resolve().is_relative_to(folder):
            continue
        if name == "server" and getattr(module, "comfyui_folder", None) == str(folder):
            continue
        raise ConfigError(
            f"module {name!r} is already loaded from {origin or 'elsewhere'}",
            code="comfyui_loaded",
            hint="a process holds one ComfyUI, or the stand-ins for it, and nothing else under these names",
        )


def _load(folder: Path, version: str, options: ComfyUIOptions, folders: Folders) -> ComfyUI:
    _put_first(str(folder))
    import_torchvision()
    _set_arguments(options)
    # before `nodes`: that puts <folder>/comfy on sys.path, whose utils.py would then hide the package `utils`
    extra_paths: Any = importlib.import_module("utils.extra_config")
    paths: Any = importlib.import_module("folder_paths")
    _set_folders(paths, folders)
    own_paths = folder / "extra_model_paths.yaml"
    for file in (*([str(own_paths)] if own_paths.is_file() else []), *options.extra_model_paths):
        extra_paths.load_extra_path_config(file)
    web_server = _stand_in_for_server(folder)
    nodes: Any = importlib.import_module("nodes")
    with _quiet_root_log():
        failed = asyncio.run(_init_nodes(nodes, options.api_nodes))
    _put_last(str(folder / "comfy"))
    reasons = [_why(name, folder, nodes) for name in failed]
    broken = tuple(reason for reason in reasons if reason is not None)
    names = dict(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    builtin = LoadedPack(PackSource("ComfyUI", folder), v1=dict(nodes.NODE_CLASS_MAPPINGS), display_names=names)
    return ComfyUI(version, builtin, broken, _pack_folders(paths), web_server)


def _put_first(entry: str) -> None:
    sys.path[:] = [entry, *(place for place in sys.path if place != entry)]
    importlib.invalidate_caches()


def _put_last(entry: str) -> None:
    """Packs that import `ldm` or `sample` find them there as in ComfyUI, and nobody else's `utils` is hidden."""
    sys.path[:] = [*(place for place in sys.path if place != entry), entry]


def _set_arguments(options: ComfyUIOptions) -> None:
    """What a command line would say. Its parser reads `sys.argv` only after `comfy.options.enable_args_parsing()`.

    `comfy.model_management` looks at these when it is imported, and raises on a torch without a GPU unless it is told.
    """
    sys.modules.setdefault(INSTALLS_PACKAGES, ModuleType(INSTALLS_PACKAGES))
    args: Any = importlib.import_module("comfy.cli_args").args
    args.cpu = not _has_accelerator()
    args.lowvram = options.vram == Vram.LOW
    args.highvram = options.vram == Vram.HIGH
    args.disable_api_nodes = not options.api_nodes
    args.base_directory = options.base or None


def _has_accelerator() -> bool:
    import torch

    kinds = (getattr(torch, name, None) for name in ("cuda", "xpu", "npu", "mlu"))
    if any(kind is not None and kind.is_available() for kind in kinds):
        return True
    return torch.backends.mps.is_available()


def _set_folders(paths: Any, folders: Folders) -> None:
    """Its own folders stay, but for what was asked; previews never go between those of a ComfyUI that runs there."""
    temp = folders.temp or os.path.join(tempfile.gettempdir(), "comfystream")
    for name, place in (("input", folders.input), ("output", folders.output), ("temp", temp)):
        if place:
            os.makedirs(place, exist_ok=True)
            getattr(paths, f"set_{name}_directory")(os.path.abspath(place))
    for kind in ("checkpoints", "clip", "vae", "diffusion_models", "loras"):  # as its main.py does: what nodes save
        paths.add_model_folder_path(kind, os.path.join(paths.get_output_directory(), kind))


def _stand_in_for_server(folder: Path) -> Any:
    """Put our stand-in under the name `server`, so that no socket, database or front end is needed.

    Nodes and packs reach `PromptServer.instance` and `BinaryEventTypes` there, and some do when they are imported.
    """
    loaded = sys.modules.get("server")
    if loaded is None:
        file = finder.TREE / "server.py"
        spec = importlib.util.spec_from_loader("server", finder.StandinLoader("server", str(file)), origin=str(file))
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules["server"] = loaded
        spec.loader.exec_module(loaded)
        loaded.comfyui_folder = str(folder)  # type: ignore[attr-defined]
    module: Any = loaded
    return module.PromptServer.instance


async def _init_nodes(nodes: Any, api_nodes: bool) -> list[str]:
    """Names of its node files that failed.

    Custom nodes are not loaded by it: it only says that one is broken, not why, and knows no list of blocked ones.
    """
    failed = [str(name) for name in await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False) or ()]
    if api_nodes:
        failed += [str(name) for name in await nodes.init_builtin_api_nodes() or ()]
    return failed


@contextmanager
def _quiet_root_log() -> Iterator[None]:
    """ComfyUI tells broken files of its own by `logging.warning`, with tracebacks; we report them in our words."""

    def drop(record: logging.LogRecord) -> bool:
        _log.debug("ComfyUI: %s", record.getMessage())
        return False

    root = logging.getLogger()
    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)


def _why(name: str, folder: Path, nodes: Any) -> BrokenPack | None:
    """The reason, which ComfyUI only logs: the file is imported once more. None when that works."""
    file = next((folder / place / name for place in PLACES if (folder / place / name).is_file()), folder / name)
    parent = file.parent.name
    again = load_pack(PackSource(file.stem, file, python_module=f"{parent}.{file.stem}"))
    if isinstance(again, BrokenPack):
        return replace(again, pack=f"{parent}/{name}")
    nodes.NODE_CLASS_MAPPINGS.update(again.v1)
    return None


def _pack_folders(paths: Any) -> tuple[str, ...]:
    return tuple(place for place in paths.get_folder_paths("custom_nodes") if os.path.isdir(place))


def publish(source: PackSource, classes: Mapping[str, type]) -> None:
    """Show a pack's classes to the other packs as ComfyUI does: `nodes.NODE_CLASS_MAPPINGS` and where it lies."""
    nodes: Any = importlib.import_module("nodes")
    nodes.NODE_CLASS_MAPPINGS.update(classes)
    if source.path is not None:
        nodes.LOADED_MODULE_DIRS[source.name] = str(source.path)
