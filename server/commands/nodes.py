"""`comfystream nodes`: the node classes that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comfystream.errors import ConfigError

from ..comfyui_flags import ComfyUIFlags
from ..flags import grouped

if TYPE_CHECKING:
    from comfystream.catalog.registry import NodeCatalog
    from comfystream.catalog.spec import NodeSpec

__all__ = ["nodes"]


@grouped
def nodes(
    search: Annotated[
        str, typer.Argument(metavar="[SEARCH]", help="Only classes whose name, category or text has this.")
    ] = "",
    folders: Annotated[
        list[Path] | None, typer.Option("--nodes", metavar="FOLDER", help="Folder of custom node packs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print ComfyUI's object_info JSON.")] = False,
    *,
    comfyui: ComfyUIFlags,
) -> None:
    """List the node classes that workflows can use."""
    from ..loading import comfyui_options, load_nodes

    options = comfyui_options(comfyui.comfyui, api_nodes=not comfyui.no_api_nodes)
    catalog = load_nodes(folders or [], options, comfyui.allow_pack, comfyui.block_pack)
    found = matching(catalog, search)
    if as_json:
        from comfystream.catalog.object_info import node_info

        print(json.dumps({spec.key: node_info(spec) for spec in found}, indent=2))
        return
    if not found:
        hint = "comfystream nodes lists all"
        raise ConfigError(f'no node class has "{search}" in it', code="nothing_found", hint=hint)
    _show(found)


def matching(catalog: NodeCatalog, search: str) -> list[NodeSpec]:
    """The classes that have `search` in their key, name, category or description."""
    wanted = search.casefold()
    every = [spec for key in catalog.keys() if (spec := catalog.get(key)) is not None]  # noqa: SIM118 - no mapping
    return [spec for spec in every if wanted in _text(spec).casefold()]


def _text(spec: NodeSpec) -> str:
    return f"{spec.key}\n{spec.display_name}\n{spec.category}\n{spec.description}\n{spec.pack}"


def _show(found: list[NodeSpec]) -> None:
    from rich.table import Table

    from ..display import wide_console

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("Class", "Category", "Inputs", "Outputs", "Pack"):
        table.add_column(column)
    for spec in sorted(found, key=lambda spec: (spec.pack, spec.category, spec.key)):
        inputs = [name for section in ("required", "optional") for name in spec.inputs.get(section, ())]
        outputs = [kind if isinstance(kind, str) else "COMBO" for kind in spec.output_types]
        table.add_row(spec.key, spec.category, ", ".join(inputs), ", ".join(outputs), spec.pack)
    console = wide_console()
    console.print(table, highlight=False)
    console.print(f"{len(found)} {'class' if len(found) == 1 else 'classes'}", highlight=False)
