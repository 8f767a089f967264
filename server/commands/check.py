"""`comfystream check`: what a workflow needs, what is missing, what goes in and out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comfystream.errors import WorkflowError

from ..comfyui_flags import ComfyUIFlags
from ..faults import BAD_INPUT, Reported, say_all, say_note
from ..flags import grouped

if TYPE_CHECKING:
    from comfystream.catalog.registry import NodeCatalog
    from comfystream.workflow.bind import LiveInput, LiveOutput
    from comfystream.workflow.check import CheckResult
    from comfystream.workflow.missing import Missing
    from comfystream.workflow.model import Workflow

    from ..needed import Needed

__all__ = ["check"]


@grouped
def check(
    workflow: Annotated[Path, typer.Argument(help="API or editor JSON, or a PNG or WebP that ComfyUI saved.")],
    nodes: Annotated[
        list[Path] | None, typer.Option("--nodes", metavar="FOLDER", help="Folder of custom node packs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    *,
    comfyui: ComfyUIFlags,
) -> None:
    """Say what a workflow needs and whether it can run. Nothing is run."""
    from ..loading import comfyui_options, load_nodes, read_early, read_with

    early = read_early(workflow)
    options = comfyui_options(comfyui.comfyui, api_nodes=not comfyui.no_api_nodes)
    catalog = load_nodes(nodes or [], options, comfyui.allow_pack, comfyui.block_pack)
    graph = read_with(catalog, workflow, early)
    result = _checked(graph, catalog)
    needed, lacking = _lacking(graph, catalog)
    if as_json:
        document = as_document(graph, catalog, result) | {"lacks": needed.as_document(lacking)}
        document["runs"] = result.is_ok and not lacking.files
        print(json.dumps(document, indent=2))
    else:
        _show(graph, catalog, result, list(needed.lines(lacking)))
    if not result.is_ok or lacking.files:
        raise Reported(BAD_INPUT)


def _checked(workflow: Workflow, catalog: NodeCatalog) -> CheckResult:
    from comfystream.workflow.check import check as check_workflow

    return check_workflow(workflow, catalog)


def _lacking(workflow: Workflow, catalog: NodeCatalog) -> tuple[Needed, Missing]:
    from comfystream.catalog.model_folders import model_folders
    from comfystream.model_files import missing_model
    from comfystream.workflow.missing import find_missing

    from ..needed import Needed

    return Needed(), find_missing(workflow, catalog, model_folders, missing_model)


def needs(workflow: Workflow, catalog: NodeCatalog) -> tuple[dict[str, Counter[str]], Counter[str]]:
    """Classes by pack, each with how often it is used, and the classes that are missing."""
    by_pack: dict[str, Counter[str]] = {}
    missing: Counter[str] = Counter()
    for node in workflow.nodes.values():
        spec = catalog.get(node.class_type)
        if spec is None:
            missing[node.class_type] += 1
        else:
            by_pack.setdefault(spec.pack, Counter())[node.class_type] += 1
    return by_pack, missing


def as_document(workflow: Workflow, catalog: NodeCatalog, result: CheckResult) -> dict[str, Any]:
    """The answer of `--json`."""
    from comfystream.workflow.bind import modalities

    by_pack, missing = needs(workflow, catalog)
    bindings = result.bindings
    return {
        "workflow": workflow.source,
        "runs": result.is_ok,
        "nodes": len(workflow.nodes),
        "needs": {pack: dict(classes) for pack, classes in by_pack.items()},
        "missing": dict(missing),
        "inputs": _ends(bindings.inputs) if bindings is not None else [],
        "outputs": _ends(bindings.outputs) if bindings is not None else [],
        "modalities": modalities(bindings) if bindings is not None else None,
        "problems": [
            {
                "type": problem.type,
                "message": str(problem),
                "node": problem.node_id,
                "input": problem.input_name,
                "is_error": problem.is_error,
            }
            for problem in result.problems
        ],
        "broken_packs": [{"pack": broken.pack, "message": broken.message} for broken in catalog.broken()],
    }


def _ends(found: Sequence[LiveInput | LiveOutput]) -> list[dict[str, str]]:
    return [{"node": live.node_id, "class_type": live.class_type, "modality": live.modality} for live in found]


def _show(workflow: Workflow, catalog: NodeCatalog, result: CheckResult, lacks: Sequence[str]) -> None:
    by_pack, missing = needs(workflow, catalog)
    print(f"{workflow.source}: {len(workflow.nodes)} nodes")
    for pack, classes in by_pack.items():
        print(f"  needs    {pack}: {_listed(classes)}")
    if missing:
        print(f"  missing  {_listed(missing)}")
    for line in lacks:
        print(f"  lacks    {line}")
    if result.bindings is not None:
        for name, ends in (("inputs", result.bindings.inputs), ("outputs", result.bindings.outputs)):
            words = ", ".join(f'{live.modality} (node {live.node_id} "{live.class_type}")' for live in ends)
            print(f"  {name:<8} {words or 'none: it runs by its own clock'}")
        print(f"  modality {_modality(result)}")
    for problem in result.problems:
        if not problem.is_error:
            say_note(f"warning: {workflow.source}: {problem}")
    if result.errors:
        say_all(f"{workflow.source}: {problem}" for problem in result.errors)
    elif lacks:
        print(f"  it cannot run yet: it lacks {len(lacks)} {'file' if len(lacks) == 1 else 'files'}")
    else:
        print("  it can run")


def _listed(classes: Counter[str]) -> str:
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in sorted(classes.items()))


def _modality(result: CheckResult) -> str:
    from comfystream.workflow.bind import modalities

    if result.bindings is None:
        raise WorkflowError("the live ends of the workflow cannot be told")
    flags = modalities(result.bindings)
    takes = [name for name, flag in flags.items() if flag["input"]]
    gives = [name for name, flag in flags.items() if flag["output"]]
    return f"{' and '.join(takes) or 'nothing'} to {' and '.join(gives) or 'nothing'}"
