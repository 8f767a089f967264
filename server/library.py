"""The workflows that a server offers: files in its folders, each with a sidecar that says what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from comfystream.catalog.spec import Catalog
from comfystream.errors import WorkflowError
from comfystream.workflow.model import Workflow
from comfystream.workflow.presets import Preset, PresetValue
from comfystream.workflow.problem import did_you_mean
from comfystream.workflow.read import read_workflow

__all__ = ["Library", "Listed"]

SUFFIXES = (".json", ".png", ".webp")
BUNDLED = Path(__file__).resolve().parent.parent / "workflows"


@dataclass(frozen=True, slots=True)
class Listed:
    """A workflow of the library; `models` are the ids of those that it needs, in the lists of configs/."""

    name: str
    title: str
    description: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    models: tuple[str, ...]


class Library:
    """Looks into its folders anew each time: files come and go.

    Args:
        folders: where the files are; the workflows that come along when there are none.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = tuple(folders) or (BUNDLED,)

    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    found.setdefault(path.stem, path)
        return found

    def listed(self) -> list[Listed]:
        """All of them, by title."""
        every = [_listed(name, path) for name, path in self._files().items()]
        return sorted(every, key=lambda one: one.title.casefold())

    def read(self, name: str, catalog: Catalog) -> Workflow:
        """One of them.

        Raises:
            WorkflowError: there is none of that name, or it cannot be read.
        """
        files = self._files()
        if name not in files:
            raise WorkflowError(
                f'there is no workflow "{name[:80]}"', code="unknown_workflow", hint=did_you_mean(name, files)
            )
        return replace(read_workflow(files[name], catalog), source=files[name].name)

    def presets(self, name: str) -> tuple[Preset, ...]:
        """The sets of values that came along with one of them; what its sidecar says wrongly is left out.

        Args:
            name: of a workflow; none for one that is not there.
        """
        path = self._files().get(name)
        given = _sidecar(path.with_suffix(".yaml")).get("presets") if path is not None else None
        if not isinstance(given, dict):
            return ()
        return tuple(_preset(name, str(title), values) for title, values in given.items() if isinstance(values, dict))

    def name_of(self, workflow: Workflow) -> str:
        """Which of them a workflow came from; empty for none."""
        path = next((path for path in self._files().values() if path.name == workflow.source), None)
        return path.stem if path is not None else ""


def _listed(name: str, path: Path) -> Listed:
    about = _sidecar(path.with_suffix(".yaml"))
    flow = about.get("modality")
    modality: dict[str, Any] = flow if isinstance(flow, dict) else {}
    return Listed(
        name,
        str(about.get("title") or name.replace("_", " ").capitalize()),
        str(about.get("description") or ""),
        tuple(str(one) for one in modality.get("takes") or ()),
        tuple(str(one) for one in modality.get("gives") or ()),
        tuple(str(one) for one in about.get("models") or ()),
    )


def _preset(workflow: str, title: str, values: dict[Any, Any]) -> Preset:
    """`values`: "node.input" to its value."""
    targets = [(str(target).partition("."), value) for target, value in values.items()]
    kept = [PresetValue(node=node, input=name, value=value) for (node, _, name), value in targets]
    return Preset(name=title, workflow=workflow, values=kept)


def _sidecar(path: Path) -> dict[str, Any]:
    """What the sidecar says; a missing or damaged one says nothing."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return document if isinstance(document, dict) else {}
