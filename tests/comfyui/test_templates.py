"""The editor's own template workflows, converted without a browser, on the node classes of a real checkout.

They are the pip package `comfyui-workflow-templates-json`; `COMFYUI_TEMPLATES` names another folder of them. All have
to convert. How many values are wrong is judged only with the templates that a version of ComfyUI itself asks for: newer
ones hold values that its node classes do not have yet.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_process import in_own_process

PACKAGE = "comfyui_workflow_templates_json"
SCALARS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload", "animated_image_upload", "remote")

# Package and version of the templates in the requirements of a ComfyUI.
MADE_FOR = {
    "0.3.64": "comfyui_workflow_templates-0.1.95",
    "0.33.0": "comfyui_workflow_templates_json-0.1.50",
}
# Values that do not fit the class as it is, and why that is not the conversion's doing.
EXPLAINED: dict[tuple[str, str], str] = {
    **dict.fromkeys(
        (("Rodin3D_Gen2", name) for name in ("Material_Type", "TAPose", "Seed", "Polygon_count")),
        "saved when TAPose came last; the class has it first, and the editor gives the values by their places, too",
    ),
    **dict.fromkeys(
        (("MoonvalleyVideo2VideoNode", name) for name in ("steps", "control_type")),
        "saved by an earlier class, whose seed had a control and which had other widgets after it",
    ),
    ("KSampler", "scheduler"): "beta57 is a scheduler that a custom pack adds; ComfyUI alone does not have it",
}


def convert(checkout: str, folder: str) -> dict[str, Any]:
    """Runs in the other process: what became of each template."""
    import importlib.util

    from comfystream.catalog import CatalogOptions, load_catalog
    from comfystream.catalog.comfyui import ComfyUIOptions
    from comfystream.catalog.comfyui.checkout import version_of

    if not folder:
        found = importlib.util.find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            return {"no_package": True}
        folder = found.submodule_search_locations[0]
    catalog = load_catalog(CatalogOptions(comfyui=ComfyUIOptions(checkout)))
    told: dict[str, Any] = {"files": 0, "nodes": 0, "unknown": 0, "crashed": [], "refused": [], "wrong": []}
    told["package"], told["comfyui"] = package_of(Path(folder)), version_of(Path(checkout))
    for file in sorted(Path(folder).rglob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(document, dict) and isinstance(document.get("nodes"), list):
            one_template(file.name, document, catalog, told)
    return told


def package_of(folder: Path) -> str:
    """Name and version of the package that a folder of templates belongs to; empty when it lies elsewhere."""
    for place in (folder, folder.parent):
        for found in place.glob("comfyui_workflow_templates*.dist-info"):
            name = found.name.removesuffix(".dist-info")
            if place == folder or name.startswith(f"{folder.name}-"):
                return name
    return ""


def one_template(name: str, document: dict[str, Any], catalog: Any, told: dict[str, Any]) -> None:
    from comfystream.errors import WorkflowError
    from comfystream.workflow.read import parse_workflow

    told["files"] += 1
    try:
        workflow = parse_workflow(document, catalog, source=name)
    except WorkflowError as error:
        told["refused"].append([name, error.code])
        return
    except Exception as error:  # noqa: BLE001 - what is looked for
        told["crashed"].append([name, repr(error)])
        return
    misaligned = {(w.node_id, w.input_name): w.details for w in workflow.warnings if w.input_name}
    for node in workflow.nodes.values():
        told["nodes"] += 1
        spec = catalog.get(node.class_type)
        if spec is None:
            told["unknown"] += 1
            continue
        for input_name, why in wrong_inputs(node, spec):
            told["wrong"].append([name, node.class_type, input_name, why])
        for (node_id, input_name), details in misaligned.items():
            if node_id == node.id:
                told["wrong"].append([name, node.class_type, input_name, f"replaced: {details}"])


def wrong_inputs(node: Any, spec: Any) -> Iterator[tuple[str, str]]:
    """Constants of the wrong type, and values of lists that are no files and not in the list."""
    from comfystream.catalog.dynamic import effective_inputs
    from comfystream.catalog.model_folders import model_folders
    from comfystream.catalog.spec import find_input
    from comfystream.workflow.model import Link
    from comfystream.workflow.types import is_combo

    now = effective_inputs(spec, node.inputs)
    inputs = {"required": now.required, "optional": now.optional}
    files: dict[str, Any] | None = None
    for name, value in node.inputs.items():
        declared = find_input(inputs, name)
        if isinstance(value, Link) or declared is None:
            continue
        kind, options, _ = declared
        expected = SCALARS.get(kind) if isinstance(kind, str) else None
        if expected is not None and not (isinstance(value, expected) and (kind == "BOOLEAN" or value is not True)):
            yield name, f"{kind} is {value!r}"
        elif is_combo(kind) and isinstance(value, str) and not any(options.get(key) for key in UPLOADS):
            allowed = options.get("options") or () if isinstance(kind, str) else kind
            files = model_folders(spec) if files is None and allowed and value not in allowed else files
            if allowed and value not in allowed and name not in (files or {}):
                yield name, f"{value!r} is not in the list"


@pytest.mark.comfyui
@pytest.mark.timeout(600)
def test_all_templates_convert(checkout: Path, python: str) -> None:
    folder = os.environ.get("COMFYUI_TEMPLATES", "")
    told = in_own_process(__file__, "convert", checkout, folder, python=python, timeout_s=580)
    if "no_package" in told:
        pytest.skip(f"{PACKAGE} is not installed and COMFYUI_TEMPLATES names no folder of template workflows")
    print({key: told[key] for key in ("comfyui", "package", "files", "nodes", "unknown", "refused")})
    wrong = Counter((class_type, name) for _, class_type, name, _ in told["wrong"])
    for row in told["wrong"]:
        print(*row)
    assert told["files"] > 150
    assert told["crashed"] == []
    assert told["refused"] == []
    if told["package"] != MADE_FOR.get(told["comfyui"]):
        print(f"{len(told['wrong'])} values NOT judged: {told['package'] or 'these'} are not of {told['comfyui']}")
        return
    assert len(told["wrong"]) <= 17
    assert set(wrong) <= set(EXPLAINED), "each one is explained here"
