"""Where the values of a request belong in a workflow: what its sidecar says, what titles say, what is obvious."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfystream.catalog.dynamic import effective_inputs, entry_parts
from comfystream.catalog.spec import Catalog
from comfystream.workflow.bind import INPUTS, OUTPUTS, PRIMARY, STILL
from comfystream.workflow.edits import parse_target
from comfystream.workflow.model import Link, Node, Workflow

from .faults import Refused

__all__ = ["KNOWN", "Place", "Places"]

SOUND_FILE = "LoadAudio"
POSITIVE, NEGATIVE = "positive", "negative"
TEXTS = ("text", "prompt", "value", "string", "clip_l", "clip_g", "t5xxl")
NUMBERS: Mapping[str, tuple[str, ...]] = {
    "seed": ("seed", "noise_seed"),
    "steps": ("steps",),
    "guidance_scale": ("cfg", "guidance"),
    "strength": ("denoise",),
    "scale": ("scale_by",),
}
KNOWN = ("prompt", "negative_prompt", *NUMBERS, "width", "height")
PLAIN = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


@dataclass(frozen=True, slots=True)
class Place:
    """One input of one node."""

    node: str
    input: str


class Places:
    """Looks for the places of one workflow.

    Args:
        workflow: the graph.
        catalog: the node classes.
        declared: from the sidecar's `inputs`: name to "node.input", or several of them.
    """

    def __init__(self, workflow: Workflow, catalog: Catalog, declared: Mapping[str, Any] | None = None) -> None:
        self._workflow = workflow
        self._catalog = catalog
        self._declared = dict(declared or {})
        self._settable = {node.id: dict(self._constants(node)) for node in workflow.nodes.values()}

    def of(self, name: str) -> list[Place]:
        """Where a value of that name goes; empty for nowhere.

        Raises:
            Refused: it fits several places of which only one can be meant.
            WorkflowError: the sidecar names a place that is not there.
        """
        if name in self._declared:
            given = self._declared[name]
            targets = given if isinstance(given, list) else [given]
            patches = [parse_target(self._workflow, f"{target}=0", self._catalog) for target in targets]
            return [Place(patch.node, patch.input) for patch in patches]
        titled = self._titled(name)
        if titled or name not in KNOWN:
            return titled
        if name in ("prompt", "negative_prompt"):
            return self._texts(name)
        return self._size(name) if name in ("width", "height") else self._numbers(name)

    def names(self) -> list[str]:
        """All names that have a place, and the titles that are one."""
        found = [*self._declared]
        for name in KNOWN:
            try:
                if name not in found and self.of(name):
                    found.append(name)
            except Refused:
                continue
        return found

    # --- pictures and sound

    def picture(self) -> Node | None:
        """The node that the request's picture goes to: the live input, or the only LoadImage."""
        nodes = list(self._workflow.nodes.values())
        live = [node for node in nodes if INPUTS.get(node.class_type) == "video" and node.class_type != STILL]
        primary = [node for node in live if node.class_type == PRIMARY] or live
        stills = [node for node in nodes if node.class_type == STILL]
        found = primary or stills
        return found[0] if len(found) == 1 else None

    def sound(self) -> Node | None:
        """The same for sound."""
        nodes = self._workflow.nodes.values()
        kinds = [node for node in nodes if INPUTS.get(node.class_type) == "audio" or node.class_type == SOUND_FILE]
        return kinds[0] if len(kinds) == 1 else None

    def loader(self, name: str) -> Node | None:
        """A node that loads a picture or sound, by title or by id."""
        loads = [n for n in self._workflow.nodes.values() if n.class_type in INPUTS or n.class_type == SOUND_FILE]
        named = [node for node in loads if _plain(node.title) == _plain(name)]
        return named[0] if len(named) == 1 else next((node for node in loads if node.id == name), None)

    def gives_pictures(self) -> bool:
        """Whether it puts out pictures."""
        return any(OUTPUTS.get(node.class_type) == "video" for node in self._workflow.nodes.values())

    # --- values

    def _constants(self, node: Node) -> Iterator[tuple[str, str]]:
        spec = self._catalog.get(node.class_type)
        if spec is None:
            return
        declared = effective_inputs(spec, node.inputs)
        for name in declared:
            entry = declared.required.get(name, declared.optional.get(name))
            if entry is None or isinstance(node.inputs.get(name), Link):
                continue
            kind, options = entry_parts(entry)
            kind = "COMBO" if isinstance(kind, list | tuple) else str(kind)
            if kind in PLAIN and not options.get("forceInput"):
                yield name, kind

    def _titled(self, name: str) -> list[Place]:
        """A node that is titled so, when it has one input to set (or one that is called like its value)."""
        wanted = _plain(name)
        found = []
        for node in self._workflow.nodes.values():
            if node.title and _plain(node.title) == wanted:
                inputs = self._settable[node.id]
                values = [one for one in inputs if one in ("value", *TEXTS, name)] or list(inputs)
                if len(values) == 1 or (values and values[0] == "value"):
                    found.append(Place(node.id, values[0]))
        return _one(name, found)

    def _numbers(self, name: str) -> list[Place]:
        found = [
            Place(id, one)
            for id, inputs in self._settable.items()
            for one, kind in inputs.items()
            if one in NUMBERS[name] and kind in ("INT", "FLOAT")
        ]
        return found if name == "seed" else _one(name, found)

    def _size(self, name: str) -> list[Place]:
        """Of the node that makes an empty picture to begin with; latents before pictures."""
        makers = []
        for node in self._workflow.nodes.values():
            inputs = self._settable[node.id]
            spec = self._catalog.get(node.class_type)
            if spec is not None and {"width", "height"} <= inputs.keys() and not list(node.links()):
                makers.append((spec.output_types, node.id))
        latent = [id for outputs, id in makers if "LATENT" in outputs]
        found = latent or [id for outputs, id in makers if "IMAGE" in outputs]
        return _one(name, [Place(id, name) for id in found])

    def _texts(self, name: str) -> list[Place]:
        positive, negative = self._above(POSITIVE), self._above(NEGATIVE)
        if name == "negative_prompt":
            return _one(name, [place for place in negative if place not in positive])
        if positive:
            return _one(name, [place for place in positive if place not in negative] or positive)
        found = [
            Place(id, one)
            for id, inputs in self._settable.items()
            for one, kind in inputs.items()
            if kind == "STRING" and (one == "prompt" or (one in TEXTS and self._conditions(id)))
        ]
        return _one(name, found)

    def _conditions(self, id: str) -> bool:
        spec = self._catalog.get(self._workflow.nodes[id].class_type)
        return spec is not None and "CONDITIONING" in spec.output_types

    def _above(self, role: str) -> list[Place]:
        """Texts that lead to inputs of that name; nodes in between that have both roles are passed on their side."""
        nodes = self._workflow.nodes
        todo = [link.node for node in nodes.values() for name, link in node.links() if name == role]
        seen: set[str] = set()
        found: list[Place] = []
        while todo:
            id = todo.pop(0)
            if id in seen or id not in nodes:
                continue
            seen.add(id)
            texts = [one for one, kind in self._settable[id].items() if kind == "STRING" and one in TEXTS]
            if texts:
                found.append(Place(id, texts[0]))
                continue
            links = dict(nodes[id].links())
            todo += [links[role].node] if role in links else [link.node for link in links.values()]
        return found


def _plain(title: str) -> str:
    return "_".join(title.casefold().replace("-", " ").replace("_", " ").split())


def _one(name: str, found: list[Place]) -> list[Place]:
    if len(found) > 1:
        places = ", ".join(f"{place.node}.{place.input}" for place in found[:6])
        raise Refused(
            f'"{name}" fits several places of this workflow: {places}',
            field=name,
            code="ambiguous_field",
            hint=f'say which: "values": {{"{found[0].node}.{found[0].input}": ...}}',
        )
    return found
