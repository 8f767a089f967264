"""Reading a workflow and loading what it needs, cheapest first: a syntax error must not wait for torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from comfystream.errors import ConfigError, WorkflowError
from comfystream.workflow.read import read_workflow

if TYPE_CHECKING:
    from comfystream.catalog.comfyui import ComfyUIOptions, Vram
    from comfystream.catalog.registry import NodeCatalog
    from comfystream.catalog.spec import Catalog
    from comfystream.engine.protocol import Engine, EngineOptions
    from comfystream.workflow.model import Workflow
    from comfystream.workflow.problem import Problem

__all__ = [
    "catalog_of",
    "comfyui_options",
    "load_nodes",
    "open_engine",
    "pack_folders",
    "place",
    "read_early",
    "read_with",
    "threads_beside_codecs",
    "with_values",
]


def read_early(file: Path) -> Workflow | None:
    """The workflow, or None when it is in the editor's format, which takes the node classes to read.

    Raises:
        WorkflowError: the file cannot be read, or is no workflow.
    """
    try:
        return read_workflow(file)
    except WorkflowError as error:
        if error.code == "needs_catalog":
            return None
        raise


def read_with(catalog: Catalog, file: Path, early: Workflow | None) -> Workflow:
    """The workflow for sure, given the node classes."""
    return early if early is not None else read_workflow(file, catalog)


def with_values(workflow: Workflow, catalog: Catalog, targets: Sequence[str]) -> Workflow:
    """The workflow with what `--set node.input=value` says.

    Raises:
        WorkflowError: there is no such node or input; the hint has the nearest names.
    """
    from comfystream.workflow.edits import SetValues, apply, parse_target

    if not targets:
        return workflow
    patches = [parse_target(workflow, text, catalog) for text in targets]
    return apply(workflow, SetValues(patches=patches), catalog)


def open_engine(kind: str, options: EngineOptions) -> Engine:
    """The engine in this process ("thread") or in one of its own ("process")."""
    if kind == "process":
        from comfystream.engine.child import ChildEngine

        return ChildEngine(options)
    from comfystream.engine.local import LocalEngine

    return LocalEngine(options)


def catalog_of(engine: Engine) -> Catalog:
    """The engine's node classes."""
    from comfystream.catalog.from_object_info import ObjectInfoCatalog
    from comfystream.engine.local import LocalEngine

    return engine.host.catalog if isinstance(engine, LocalEngine) else ObjectInfoCatalog(engine.object_info())


def place(problem: Problem, source: str) -> str:
    """A problem as a line: the file, the node, the words, the hint."""
    return f"{source}: {problem}" if source else str(problem)


def pack_folders(folders: Sequence[Path]) -> tuple[str, ...]:
    """Absolute paths of folders of node packs.

    Raises:
        ConfigError: one of them is no folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--nodes {folder}: there is no such folder", code="no_folder")
    return tuple(str(folder.resolve()) for folder in folders)


def threads_beside_codecs() -> int:
    """Threads for torch such that decoder and encoder, which run at the same time, get cores, too."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


def comfyui_options(
    given: str = "", *, api_nodes: bool = True, vram: Vram | str | None = None
) -> ComfyUIOptions | None:
    """Which ComfyUI to load; None for none.

    Args:
        given: what `--comfyui` or the setting says.
        api_nodes: with its nodes for paid services.
        vram: "low", "normal" or "high".

    Raises:
        ConfigError: what was named is no ComfyUI, or a folder or file that the environment names for it is not there.
    """
    from comfystream.catalog.comfyui import ComfyUIOptions, Vram, find_checkout, find_places

    folder = find_checkout(given)
    if folder is None:
        return None
    base, extra_model_paths = find_places()
    return ComfyUIOptions(str(folder), api_nodes, Vram(vram or Vram.NORMAL), base, extra_model_paths)


def load_nodes(
    folders: Sequence[Path],
    comfyui: ComfyUIOptions | None = None,
    allow: Sequence[str] | None = None,
    block: Sequence[str] | None = None,
) -> NodeCatalog:
    """The node classes, in this process and without an engine."""
    from comfystream.catalog.registry import CatalogOptions, load_catalog
    from comfystream.catalog.standin import Folders

    from .workspace import find_workspace, own_packs

    base = find_workspace(comfyui=comfyui.folder if comfyui is not None else "none")
    return load_catalog(
        CatalogOptions(
            pack_folders=pack_folders([*folders, *own_packs(base, comfyui)]),
            folders=Folders(base=str(base)),
            allow=tuple(allow or ()),
            block=tuple(block or ()),
            comfyui=comfyui,
        )
    )
