"""What a workflow lacks, for a person: which pack brings a class, where a file goes and where it can be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from comfystream.assets.lists import ModelEntry, PackEntry, load_models, load_packs
from comfystream.workflow.missing import Missing, MissingClass, MissingFile

__all__ = ["Needed"]

MODELS = "models.yaml"  # the list that `comfystream fetch models` takes by default
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class Needed:
    """Answers off the lists of `comfystream fetch`.

    Args:
        configs: the folder that has nodes.yaml, models.yaml and further lists of models; without them less is known.
    """

    def __init__(self, configs: Path = CONFIGS) -> None:
        self._packs: Mapping[str, PackEntry] = _read(load_packs, configs / "nodes.yaml")
        lists = sorted(configs.glob("models*.yaml"), key=lambda file: (file.name != MODELS, file.name))
        self._models: list[tuple[str, Mapping[str, ModelEntry]]] = [(file.name, load_models(file)) for file in lists]

    def lines(self, missing: Missing) -> Iterator[str]:
        """A line for each thing that is missing."""
        for lacking in missing.classes:
            yield f"node class {lacking.class_type} (node {', '.join(lacking.nodes)}): {self.pack(lacking)}"
        for file in missing.files:
            place = f"goes into {file.folder}" if file.folder else "its node class does not say where it goes"
            source = self.source(file)
            yield f'file "{file.name}" ({file.node}, {file.input_name}): {place}{f"; {source}" if source else ""}'

    def as_document(self, missing: Missing) -> dict[str, Any]:
        """The same as JSON."""
        classes = [{"class": one.class_type, "nodes": one.nodes, "pack": self.pack(one)} for one in missing.classes]
        files = [
            {
                "file": one.name,
                "node": one.node,
                "input": one.input_name,
                "kind": one.kind,
                "folder": one.folder,
                "source": self.source(one),
            }
            for one in missing.files
        ]
        return {"classes": classes, "files": files}

    def pack(self, lacking: MissingClass) -> str:
        """Which pack brings a class, in words."""
        origin = lacking.origin
        for id, entry in self._packs.items():
            named = {id.lower(), entry.folder.lower()}
            repository = origin.repository.lower() if origin is not None else ""
            is_named = origin is not None and (
                origin.registry_id.lower() in named or (repository and entry.url.lower().endswith(f"/{repository}"))
            )
            if lacking.class_type in entry.classes or is_named:
                return f"comes with {entry.name or id}: comfystream fetch nodes --only {id}"
        if origin is None:
            return "no known pack has it"
        if origin.is_core:
            return f"is ComfyUI's own, as of version {origin.version or '?'}: name a ComfyUI that has it with --comfyui"
        where = f"https://github.com/{origin.repository}" if origin.repository else "in ComfyUI's registry"
        return f"comes with {origin.registry_id or origin.repository} ({where})"

    def source(self, file: MissingFile) -> str:
        """Where a file can be had, in words; empty when nobody says."""
        whole = file.name.replace("\\", "/").strip("/")
        name = whole.split("/")[-1]
        for listed, entries in self._models:
            for id, entry in entries.items():
                paths = (entry.path, *(more.path for more in entry.extra_files))
                if any(f"/{whole}/" in f"/{path}" for path in paths) or name in (
                    entry.path.split("/")[-1],
                    entry.url.split("/")[-1],
                ):
                    return f"comfystream fetch models {f'--config {listed} ' if listed != MODELS else ''}--only {id}"
        return f"from {file.url}" if file.url else ""


def _read(load: Any, file: Path) -> Any:
    """A list; nothing where ComfyStream was installed without them."""
    return load(file) if file.is_file() else {}
