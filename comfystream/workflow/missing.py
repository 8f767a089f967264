"""What a workflow needs and this machine does not have: node classes and the packs that bring them, model files and
where each would go. Found out before anything is loaded for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfystream.catalog.spec import Catalog, NodeSpec
from comfystream.model_files import NAMES_MODEL
from comfystream.workflow.model import Node, Workflow
from comfystream.workflow.types import is_combo

__all__ = ["FoldersOf", "Missing", "MissingClass", "MissingFile", "MissingModel", "Origin", "find_missing", "origins"]

CORE = "comfy-core"
MODEL_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".gguf", ".onnx", ".engine", ".pkl")
# Inputs of a class that list the files of a folder -> that folder's kind ("checkpoints") and path.
FoldersOf = Callable[[NodeSpec], Mapping[str, tuple[str, str]]]
# A model's name and the kinds of folders that it is looked for in -> where it would go; None where it is there.
MissingModel = Callable[[str, Sequence[str]], str | None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a node class is from, as the editor saved it with the node.

    Attributes:
        registry_id: of its pack in ComfyUI's registry ("comfy-core": ComfyUI itself); may be empty.
        repository: "owner/name" on GitHub; may be empty.
        version: of the pack, when the file was saved.
    """

    registry_id: str = ""
    repository: str = ""
    version: str = ""

    @property
    def is_core(self) -> bool:
        """Whether it is one of ComfyUI's own."""
        return self.registry_id == CORE


@dataclass(frozen=True, slots=True)
class MissingClass:
    """A node class that is not there; `nodes` are the ids of the nodes that use it."""

    class_type: str
    nodes: tuple[str, ...]
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class MissingFile:
    """A file that an input names and that is not in the folder that the input lists.

    Attributes:
        name: as the workflow has it.
        node: how messages name the node.
        input_name: which input.
        kind: ComfyUI's name of the folder ("checkpoints", "loras"); empty when the class does not tell.
        folder: where it would go; empty when the class does not tell.
        url: where the workflow says that it can be had; may be empty.
    """

    name: str
    node: str
    input_name: str
    kind: str = ""
    folder: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """All that is missing."""

    classes: tuple[MissingClass, ...] = ()
    files: tuple[MissingFile, ...] = ()


def find_missing(
    workflow: Workflow,
    catalog: Catalog,
    folders_of: FoldersOf | None = None,
    missing_model: MissingModel | None = None,
) -> Missing:
    """What a workflow needs that is not there; nothing is loaded or run.

    Args:
        workflow: the graph.
        catalog: the node classes.
        folders_of: which inputs of a class list files of a folder, and which folder.
        missing_model: whether a model that a text input names is there.
    """
    known = origins(workflow)
    urls = _urls(workflow)
    lacking: dict[str, list[str]] = {}
    files: list[MissingFile] = []
    for node in workflow.nodes.values():
        spec = catalog.get(node.class_type)
        if spec is None:
            lacking.setdefault(node.class_type, []).append(node.id)
        else:
            files.extend(_missing_files(node, spec, folders_of, urls))
            files.extend(_missing_models(node, spec, missing_model))
    classes = (MissingClass(name, tuple(ids), known.get(name)) for name, ids in lacking.items())
    return Missing(tuple(classes), tuple(files))


def _missing_files(
    node: Node, spec: NodeSpec, folders_of: FoldersOf | None, urls: Mapping[str, str]
) -> Iterator[MissingFile]:
    unlisted = dict(_unlisted(node, spec))
    if not unlisted:
        return
    folders = folders_of(spec) if folders_of is not None else {}
    for name, value in unlisted.items():
        kind, folder = folders.get(name, ("", ""))
        if folder or value.lower().endswith(MODEL_FILES):
            url = urls.get(value.replace("\\", "/").split("/")[-1], "")
            yield MissingFile(value, node.place, name, kind, folder, url)


def _missing_models(node: Node, spec: NodeSpec, missing_model: MissingModel | None) -> Iterator[MissingFile]:
    """Models that text inputs name."""
    for name, value in node.inputs.items():
        declared = spec.input(name)
        kinds = declared[1].get(NAMES_MODEL) if declared is not None else None
        if not kinds or missing_model is None or not isinstance(value, str) or not value.strip():
            continue
        folder = missing_model(value, kinds)
        if folder is not None:
            yield MissingFile(value, node.place, name, kinds[0], folder)


def _unlisted(node: Node, spec: NodeSpec) -> Iterator[tuple[str, str]]:
    """Text values of list inputs that are not in the list."""
    for name, value in node.inputs.items():
        declared = spec.input(name)
        if not isinstance(value, str) or declared is None or not is_combo(declared[0]):
            continue
        allowed = declared[1].get("options", ()) if isinstance(declared[0], str) else declared[0]
        if value not in allowed and not declared[1].get("remote"):
            yield name, value


def origins(workflow: Workflow) -> dict[str, Origin]:
    """Node class -> where it is from, for files of the editor, which saves that with each node."""
    found: dict[str, Origin] = {}
    for node in _ui_nodes(workflow):
        properties = node.get("properties")
        if not isinstance(properties, Mapping):
            continue
        words = {key: str(properties.get(key) or "") for key in ("cnr_id", "aux_id", "ver")}
        if words["cnr_id"] or words["aux_id"]:
            found.setdefault(str(node.get("type")), Origin(words["cnr_id"], words["aux_id"], words["ver"]))
    return found


def _urls(workflow: Workflow) -> dict[str, str]:
    """File name -> address, for workflows that carry where their models are."""
    found: dict[str, str] = {}
    for node in _ui_nodes(workflow):
        properties = node.get("properties")
        models = properties.get("models") if isinstance(properties, Mapping) else None
        for model in models if isinstance(models, list) else ():
            if isinstance(model, Mapping) and model.get("name") and model.get("url"):
                found[str(model["name"])] = str(model["url"])
    return found


def _ui_nodes(workflow: Workflow) -> Iterator[Mapping[str, Any]]:
    """The nodes as the editor has them, those of subgraphs too."""
    document = workflow.ui or {}
    definitions = document.get("definitions")
    graphs = [document, *((definitions.get("subgraphs") or ()) if isinstance(definitions, Mapping) else ())]
    for graph in graphs:
        nodes = graph.get("nodes") if isinstance(graph, Mapping) else None
        yield from (node for node in nodes or () if isinstance(node, Mapping))
