"""Which workflow a path means: one of the operator's, or one that comes along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from comfystream.catalog.spec import Catalog
from comfystream.errors import WorkflowError
from comfystream.workflow.model import Workflow
from comfystream.workflow.problem import did_you_mean
from comfystream.workflow.read import parse_workflow, read_workflow

from ..library import BUNDLED, SUFFIXES
from .faults import NODE_FAILED, NOT_FOUND, Refused
from .places import Places

__all__ = ["Named", "Tasks"]

TEXT_TO_IMAGE, IMAGE_TO_IMAGE, UPSCALE = "text-to-image", "image-to-image", "upscale"
IMAGE_DEFAULT = "edges"
HOW = "start the worker with --capability {name}=FILE, or put {name}.json into a folder of --workflows"


@dataclass(frozen=True, slots=True)
class Named:
    """A workflow that can be asked for.

    Attributes:
        name: of the workflow, not of the path that led to it.
        workflow: as its file has it.
        declared: where values belong, from the sidecar.
        is_ours: the operator's or a bundled one; False for one that came with the request.
    """

    name: str
    workflow: Workflow
    declared: Mapping[str, Any] = field(default_factory=dict)
    is_ours: bool = True


class Tasks:
    """Looks into the folders anew each time: files come and go.

    Args:
        capabilities: the workflow file of each; None where it has none.
        folders: of the operator; the workflows that come along are there besides.
    """

    def __init__(self, capabilities: Mapping[str, Path | None], folders: Sequence[Path] = ()) -> None:
        self._capabilities = {name: path for name, path in capabilities.items() if path is not None}
        self._folders = (*folders, BUNDLED)

    def names(self) -> list[str]:
        """Of all workflows that have one."""
        return sorted({*self._capabilities, *self._files()})

    def find(self, path: str, capability: str, catalog: Catalog) -> Named:
        """The workflow of a path.

        Args:
            path: what stands behind the worker's url; empty for the capability itself.
            capability: the one that is asked for, whose workflow counts where the path names none.
            catalog: the node classes.

        Raises:
            Refused: there is none, or its file is broken.
        """
        name = path.strip("/") or capability
        file = self._file(name)
        if file is not None:
            return self._read(name, file, catalog)
        own = self._file(capability)
        if name in (TEXT_TO_IMAGE, IMAGE_TO_IMAGE):
            if own is not None and self._does(name, found := self._read(capability, own, catalog), catalog):
                return found
            if name == IMAGE_TO_IMAGE:
                return self._read(IMAGE_DEFAULT, self._files()[IMAGE_DEFAULT], catalog)
            raise Refused(
                "this worker has no workflow that makes pictures of a text",
                status=NOT_FOUND,
                code="no_workflow",
                hint=f"it takes a diffusion workflow and its models: {HOW.format(name=name)}",
            )
        hint = did_you_mean(name, [*self.names(), IMAGE_TO_IMAGE, TEXT_TO_IMAGE], f"or {HOW.format(name=name[:40])}")
        raise Refused(f'there is no workflow "{name[:80]}"', status=NOT_FOUND, code="unknown_workflow", hint=hint)

    def given(self, workflow: Any, catalog: Catalog) -> Named:
        """A workflow that came with the request: a name, or a graph.

        Raises:
            Refused: there is none of that name.
            WorkflowError: it is no graph.
        """
        if isinstance(workflow, dict):
            return Named("request", parse_workflow(workflow, catalog), is_ours=False)
        if not isinstance(workflow, str) or not workflow:
            raise Refused("workflow: a name or a graph is needed", field="workflow")
        try:
            return self.find(workflow, workflow, catalog)
        except Refused as error:
            if error.status != NOT_FOUND:
                raise
            raise Refused(error.message, field="workflow", code=error.code, hint=error.hint) from None

    # --- files

    def _files(self) -> dict[str, Path]:
        """By name; the first folder counts, and "_" is "-" in a path."""
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    found.setdefault(path.stem, path)
        return found

    def _file(self, name: str) -> Path | None:
        files = {**self._files(), **self._capabilities}
        if name in files:
            return files[name]
        same = [path for known, path in files.items() if known.replace("_", "-") == name.replace("_", "-")]
        return same[0] if same else None

    def _read(self, name: str, file: Path, catalog: Catalog) -> Named:
        try:
            workflow = read_workflow(file, catalog)
        except WorkflowError as error:
            raise Refused(
                f'the worker\'s workflow "{name}" cannot be read: {error.message}',
                status=NODE_FAILED,
                code="workflow_broken",
                hint=error.hint,
            ) from None
        return Named(file.stem if name == IMAGE_DEFAULT else name, workflow, _declared(file.with_suffix(".yaml")))

    def _does(self, task: str, named: Named, catalog: Catalog) -> bool:
        places = Places(named.workflow, catalog, named.declared)
        takes_picture, gives = places.picture() is not None, places.gives_pictures()
        if task == IMAGE_TO_IMAGE:
            return takes_picture and gives
        return gives and "prompt" in places.names()


def _declared(sidecar: Path) -> dict[str, Any]:
    """`inputs` of a sidecar: a name of the request to "node.input", or to several of them."""
    try:
        document = yaml.safe_load(sidecar.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    inputs = document.get("inputs") if isinstance(document, dict) else None
    return {str(name): where for name, where in inputs.items()} if isinstance(inputs, dict) else {}
