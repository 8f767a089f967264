"""Which nodes of a workflow are its live inputs and outputs.

Roles go by class key alone and no node is replaced: the engine feeds and reads the bound nodes by id. A bound picture
node has two outputs where its class has: IMAGE (slot 0) is the live frame, MASK (slot 1) is what ComfyUI's LoadImage
gives for a picture without transparency: float32 zeros of shape [1, 64, 64].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from comfystream.errors import WorkflowError
from comfystream.workflow.model import Link, Node, Workflow
from comfystream.workflow.problem import Problem, nearest

__all__ = [
    "Bindings",
    "IoFlags",
    "LiveInput",
    "LiveOutput",
    "Modality",
    "bind",
    "live_nodes",
    "modalities",
    "passed_through",
]

Modality = Literal["video", "audio", "text"]
IoFlags = dict[str, dict[str, bool]]

PRIMARY = "PrimaryInputLoadImage"
STILL = "LoadImage"
INPUTS: Mapping[str, Modality] = {"LoadTensor": "video", PRIMARY: "video", STILL: "video", "LoadAudioTensor": "audio"}
OUTPUTS: Mapping[str, Modality] = {
    "SaveTensor": "video",
    "SaveImage": "video",
    "PreviewImage": "video",
    "SaveAudioTensor": "audio",
    "SaveTextTensor": "text",
}
OUTPUT_INPUT = {
    "SaveTensor": "images",
    "SaveImage": "images",
    "PreviewImage": "images",
    "SaveAudioTensor": "audio",
    "SaveTextTensor": "data",
}
SHOWN_FIRST = ("SaveTensor", "SaveImage", "PreviewImage")
SLIP = 0.85  # a class that is so much like an output's was meant to be one
MAX_INPUTS = 2
MAX_OUTPUTS = 3
DEFAULT_BUFFER_MS = 500.0


@dataclass(frozen=True, slots=True)
class LiveInput:
    """A node whose output is the live picture or sound.

    Attributes:
        node_id, class_type: the node.
        modality: "video" or "audio".
        has_mask: its class has a MASK output in slot 1 (see the module's text).
        buffer_ms: how much sound it gathers per tick; 0 for video. A linked `buffer_size` counts as the default.
    """

    node_id: str
    class_type: str
    modality: Modality
    has_mask: bool = False
    buffer_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveOutput:
    """A node whose input is put out.

    Attributes:
        node_id, class_type: the node.
        modality: "video", "audio" or "text".
        input_name: the input that carries the value.
        is_shown: False for a further video output beside the one that viewers see.
    """

    node_id: str
    class_type: str
    modality: Modality
    input_name: str
    is_shown: bool = True


@dataclass(frozen=True, slots=True)
class Bindings:
    """The live ends of a workflow; `warnings` says what is odd about them."""

    inputs: tuple[LiveInput, ...] = ()
    outputs: tuple[LiveOutput, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def is_generative(self) -> bool:
        """Whether there is no live input: such a workflow ticks by a clock."""
        return not self.inputs

    def inputs_of(self, modality: Modality) -> tuple[LiveInput, ...]:
        """The live inputs of one modality."""
        return tuple(live for live in self.inputs if live.modality == modality)

    def outputs_of(self, modality: Modality) -> tuple[LiveOutput, ...]:
        """The live outputs of one modality."""
        return tuple(live for live in self.outputs if live.modality == modality)

    @property
    def node_ids(self) -> frozenset[str]:
        """Ids of all bound nodes."""
        return frozenset(live.node_id for live in self.inputs) | frozenset(live.node_id for live in self.outputs)


def bind(workflow: Workflow, *, strict: bool = False) -> Bindings:
    """Find the live inputs and outputs.

    Video inputs are LoadTensor, PrimaryInputLoadImage, and LoadImage when it is the only one and there is no primary.
    With a primary every LoadImage stays a still picture.

    Args:
        workflow: the graph.
        strict: refuse a workflow without a live input, as the first generation of clients expects.

    Raises:
        WorkflowError: too many inputs or outputs, none to put out, or no way to tell which picture is the live one.
    """
    inputs = [node for node in workflow.nodes.values() if node.class_type in INPUTS]
    outputs = [node for node in workflow.nodes.values() if node.class_type in OUTPUTS]
    primary = [node for node in inputs if node.class_type == PRIMARY]
    _count(inputs, primary, outputs, strict)
    if not outputs:
        raise _no_output(workflow)
    stills = [node for node in inputs if node.class_type == STILL]
    if not primary and len(stills) > 1:
        raise _ambiguous(stills)
    live = [node for node in inputs if node.class_type != STILL or not primary]
    bound = tuple(_live_output(node) for node in outputs)
    shown, hidden = _choose_shown(bound)
    return Bindings(tuple(_live_input(node) for node in live), shown, (*_two_pictures(live), *hidden))


def _count(inputs: list[Node], primary: list[Node], outputs: list[Node], strict: bool) -> None:
    if len(primary) > 1:
        raise _refused(
            f"too many primary inputs in prompt: {_names(primary)}",
            "too_many_primary_inputs",
            "keep one PrimaryInputLoadImage; make the others LoadImage",
        )
    if not primary and len(inputs) > MAX_INPUTS:
        raise _refused(
            f"too many inputs in prompt: {_names(inputs)}",
            "too_many_inputs",
            "at most one picture and one sound input; mark the live picture with PrimaryInputLoadImage to keep others",
        )
    if len(outputs) > MAX_OUTPUTS:
        raise _refused(
            f"too many outputs in prompt: {_names(outputs)}", "too_many_outputs", "at most three: video, audio, text"
        )
    if strict and not inputs:
        raise _refused("missing input", "missing_input", f"add one of {', '.join(INPUTS)}")


def _no_output(workflow: Workflow) -> WorkflowError:
    """Says which node may have been meant as one: its class is an output's but for a slip of the finger."""
    for node in workflow.nodes.values():
        for name in nearest(node.class_type, OUTPUTS, 1, SLIP):
            return _refused("missing output", "missing_output", f'{node.place} is none; did you mean "{name}"?')
    return _refused("missing output", "missing_output", f"add one of {', '.join(OUTPUTS)}")


def _refused(message: str, code: str, hint: str) -> WorkflowError:
    return WorkflowError(message, code=code, hint=hint)


def _ambiguous(stills: list[Node]) -> WorkflowError:
    return WorkflowError(
        f"cannot tell which picture is the live one: {_names(stills)}",
        code="ambiguous_input",
        hint="replace the live one by PrimaryInputLoadImage; the others then stay still pictures",
        node_id=stills[0].id,
    )


def _names(nodes: list[Node]) -> str:
    return ", ".join(node.place for node in nodes)


def _live_input(node: Node) -> LiveInput:
    modality = INPUTS[node.class_type]
    buffer_ms = _buffer_ms(node) if modality == "audio" else 0.0
    return LiveInput(node.id, node.class_type, modality, node.class_type in (PRIMARY, STILL), buffer_ms)


def _buffer_ms(node: Node) -> float:
    value = node.inputs.get("buffer_size", DEFAULT_BUFFER_MS)
    try:
        return DEFAULT_BUFFER_MS if isinstance(value, Link) else float(value)
    except (TypeError, ValueError, OverflowError):  # the check says so in ComfyUI's words
        return DEFAULT_BUFFER_MS


def _live_output(node: Node) -> LiveOutput:
    return LiveOutput(node.id, node.class_type, OUTPUTS[node.class_type], OUTPUT_INPUT[node.class_type])


def _choose_shown(outputs: tuple[LiveOutput, ...]) -> tuple[tuple[LiveOutput, ...], list[Problem]]:
    """Of several video outputs the best class is shown, and of one class the last in file order."""
    video = [live for live in outputs if live.modality == "video"]
    if len(video) < 2:
        return outputs, []
    best = min(reversed(video), key=lambda live: SHOWN_FIRST.index(live.class_type))
    marked = tuple(
        LiveOutput(live.node_id, live.class_type, live.modality, live.input_name, live is best)
        if live.modality == "video"
        else live
        for live in outputs
    )
    others = [live for live in video if live is not best]
    return marked, [_not_shown(live, best) for live in others]


def _not_shown(live: LiveOutput, best: LiveOutput) -> Problem:
    return Problem(
        "output_not_shown",
        "This video output is not shown",
        details=f'node {best.node_id} "{best.class_type}" is',
        hint="remove it, or connect what you want to see to a SaveTensor",
        node_id=live.node_id,
        class_type=live.class_type,
        is_error=False,
    )


def _two_pictures(live: list[Node]) -> list[Problem]:
    """A LoadImage beside a LoadTensor is live, too, which may not be what was meant."""
    if not any(node.class_type == "LoadTensor" for node in live):
        return []
    return [
        Problem(
            "second_live_picture",
            "This picture is replaced by the live one, too",
            hint="to keep it as it is, make the LoadTensor a PrimaryInputLoadImage",
            node_id=node.id,
            class_type=node.class_type,
            is_error=False,
        )
        for node in live
        if node.class_type == STILL
    ]


def modalities(bindings: Bindings) -> IoFlags:
    """Per modality whether the workflow takes it and gives it."""
    return {
        name: {"input": bool(bindings.inputs_of(name)), "output": bool(bindings.outputs_of(name))}
        for name in ("video", "audio", "text")
    }


def passed_through(bindings: Bindings) -> dict[str, bool]:
    """Whether incoming video and audio go on untouched: they do when the workflow puts out none of its own.

    Sound that the graph reads but does not give (a transcription) is fed to the graph and passed through as well.
    """
    return {"video": not bindings.outputs_of("video"), "audio": not bindings.outputs_of("audio")}


def live_nodes(workflow: Workflow, bindings: Bindings) -> dict[str, frozenset[Modality]]:
    """Ids of the nodes that depend on a live input (bound inputs included), with the modalities of those inputs."""
    followers: dict[str, list[str]] = {}
    for node in workflow.nodes.values():
        for _, link in node.links():
            followers.setdefault(link.node, []).append(node.id)
    reached: dict[str, set[Modality]] = {}
    for live in bindings.inputs:
        waiting = [live.node_id]
        while waiting:
            node_id = waiting.pop()
            if live.modality not in reached.setdefault(node_id, set()):
                reached[node_id].add(live.modality)
                waiting.extend(followers.get(node_id, ()))
    return {node_id: frozenset(found) for node_id, found in reached.items()}
