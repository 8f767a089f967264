"""Runs a pack's code and takes its node classes out. Whatever a pack raises ends here, as a `BrokenPack`."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import inspect
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from comfystream.catalog.packs import BrokenPack, LoadedPack, PackSource
from comfystream.catalog.standin.finder import ONLY_REAL, ROOTS
from comfystream.errors import AssetError, ComfyStreamError

__all__ = ["attempt", "load_pack", "run_prestartup"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


def attempt(pack: str, work: Callable[[], T], key: str = "") -> T | BrokenPack:
    """Run foreign code; what it raises (also `sys.exit`) becomes a `BrokenPack`.

    Args:
        pack: name of the pack.
        work: what to run.
        key: node class it is about, if it is about one.
    """
    try:
        return work()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a border: foreign code must not stop the rest
        return _broken(pack, error, key)


def _broken(pack: str, error: BaseException, key: str) -> BrokenPack:
    return BrokenPack(pack, _message(error), _trace(error), _hint(error), key)


def _message(error: BaseException) -> str:
    if isinstance(error, ComfyStreamError):  # its hint is told apart, and its class says nothing to a person
        return error.message
    kind = type(error).__name__
    return " ".join(f"{kind}: {error}".split()) if str(error) else kind


def _trace(error: BaseException) -> str:
    # from the pack's first line on: how this module and importlib got there helps nobody
    told = traceback.TracebackException.from_exception(error)
    ours = [frame.filename == __file__ or "importlib" in frame.filename for frame in told.stack]
    first = ours.index(False) if False in ours else len(ours)
    if first < len(ours) or isinstance(error, SyntaxError):
        told.stack = traceback.StackSummary.from_list(told.stack[first:])
    return "".join(told.format())


def _hint(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "the pack ended the program while it was imported"
    if not isinstance(error, ImportError) or not error.name:
        return getattr(error, "hint", "")
    root = error.name.partition(".")[0]
    if root in ROOTS | ONLY_REAL:
        return "the pack needs a real ComfyUI"
    if isinstance(error, ModuleNotFoundError):
        return f"install what the pack needs (it has no module {error.name!r}); see its requirements.txt"
    return ""


def run_prestartup(source: PackSource) -> BrokenPack | None:
    """Run the pack's `prestartup_script.py` if it has one; ComfyUI does so for all packs before the first import."""
    if source.path is None or source.path.is_file():
        return None
    script = source.path / "prestartup_script.py"
    if not script.is_file():
        return None
    name = f"{module_name(source.path)}_prestartup"
    outcome = attempt(source.name, lambda: _execute(name, script, None))
    return outcome if isinstance(outcome, BrokenPack) else None


def load_pack(source: PackSource) -> LoadedPack | BrokenPack:
    """Import a pack and ask it for its classes."""
    return attempt(source.name, lambda: _load(source))


def _load(source: PackSource) -> LoadedPack:
    module = _import(source)
    web = getattr(module, "WEB_DIRECTORY", None)
    folder = source.file.parent if source.file is not None else Path(module.__file__ or "").parent
    mappings = getattr(module, "NODE_CLASS_MAPPINGS", None)
    loaded = LoadedPack(
        source,
        v1=dict(mappings or {}),
        v3=_ask_entrypoint(module) if mappings is None else (),
        display_names=dict(getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {}),
        web_directory=(folder / web).resolve() if web else None,
    )
    _log.debug("node pack %s: %d classes", source.name, len(loaded.v1) + len(loaded.v3))
    return loaded


def _import(source: PackSource) -> ModuleType:
    if source.path is None or source.file is None:
        return importlib.import_module(source.module)
    if not source.file.is_file():
        raise AssetError(f"node pack {source.path} has no __init__.py")
    return _execute(module_name(source.path), source.file, source.path if source.path.is_dir() else None)


def module_name(path: Path) -> str:
    """An import name for a pack on disk: unique for its path, and valid whatever the folder is called."""
    readable = re.sub(r"\W+", "_", path.stem if path.is_file() else path.name)
    return f"comfystream_pack_{readable}_{hashlib.sha1(str(path).encode(), usedforsecurity=False).hexdigest()[:8]}"


def _execute(name: str, file: Path, package: Path | None) -> ModuleType:
    _forget(name)
    locations = [str(package)] if package is not None else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise AssetError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(name)
        raise
    return module


def _forget(name: str) -> None:
    # a pack that is loaded again is read again, with all its submodules
    for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[loaded]


def _ask_entrypoint(module: ModuleType) -> tuple[Any, ...]:
    entrypoint = getattr(module, "comfy_entrypoint", None)
    if not callable(entrypoint):
        raise AssetError(
            "the pack has neither NODE_CLASS_MAPPINGS nor comfy_entrypoint", hint="it may not be a pack of nodes"
        )
    return run_coroutine(_nodes_of(entrypoint))


async def _nodes_of(entrypoint: Callable[[], Any]) -> tuple[Any, ...]:
    extension = await _settled(entrypoint())
    if not hasattr(extension, "get_node_list"):
        raise AssetError(f"comfy_entrypoint returned {type(extension).__name__}, not a ComfyExtension")
    if hasattr(extension, "on_load"):
        await _settled(extension.on_load())
    nodes = await _settled(extension.get_node_list())
    if not isinstance(nodes, Iterable):
        raise AssetError(f"get_node_list returned {type(nodes).__name__}, not a list of node classes")
    return tuple(nodes)


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def run_coroutine(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end, on a thread of its own where this one has a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run, name="pack-entrypoint")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return outcome[0]
