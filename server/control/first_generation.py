"""The `control` and `data` channels as the first generation of clients knows them: the same words, the same replies."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from comfystream.catalog.spec import Catalog
from comfystream.errors import ComfyStreamError, WorkflowError
from comfystream.frames import TextCue
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_size import FrameSize
from comfystream.workflow.api_format import to_json_value
from comfystream.workflow.bind import bind
from comfystream.workflow.join import join, place_of
from comfystream.workflow.model import Node, Workflow
from comfystream.workflow.read import parse_workflow

__all__ = ["answer", "joined_workflow", "nodes_info", "text_message"]

_log = logging.getLogger(__name__)
MOST_SIDE = 8192
MOST_PROMPTS = 8
_TITLES = {"pause_prompts": "prompts_paused", "resume_prompts": "prompts_resumed", "stop_prompts": "prompts_stopped"}


async def answer(session: LiveSession, host: EngineHost, text: str, who: str) -> dict[str, Any] | None:
    """The reply to a message on the `control` channel; None (and a line in the log) for what is not understood."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    kind = message.get("type") if isinstance(message, dict) else None
    match kind:
        case "get_nodes":
            return {"type": "nodes_info", "nodes": await _nodes(session, host)}
        case "update_prompts":
            return await _tried("prompts_updated", _update(session, host, message.get("prompts"), who))
        case "update_resolution":
            return _resolution(session, message)
        case "pause_prompts" | "stop_prompts":
            return await _tried(_TITLES[kind], session.pause() if session.workflow is not None else None)
        case "resume_prompts":
            return await _tried(_TITLES[kind], session.resume() if session.workflow is not None else None)
    _log.warning("session %s: a control message of unknown type was passed over", session.id)
    return None


def text_message(cue: TextCue) -> dict[str, str] | None:
    """A text output for the `data` channel; blank ones are not sent."""
    return {"type": "text", "data": cue.text} if cue.text.strip() else None


def joined_workflow(prompts: Any, catalog: Catalog) -> Workflow:
    """The workflow of `prompts`, which is one or a list; several are joined (`workflow.join`).

    Raises:
        WorkflowError: there are none or too many, or one of them is no workflow.
    """
    if not isinstance(prompts, list):
        prompts = [prompts]
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise WorkflowError(
            f"{len(prompts)} prompts were given; a session joins 1 to {MOST_PROMPTS}", code="too_many_prompts"
        )
    parsed = [parse_workflow(_from_text(one) if isinstance(one, str) else one, catalog) for one in prompts]
    return join(parsed)


def _from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkflowError(f"the prompt is not JSON: {error}"[:300], code="json_syntax") from None


async def _tried(kind: str, work: Any) -> dict[str, Any]:
    try:
        if work is not None:
            await work
    except ComfyStreamError as error:
        return {"type": kind, "success": False, "error": str(error)}
    return {"type": kind, "success": True}


async def _update(session: LiveSession, host: EngineHost, prompts: Any, who: str) -> None:
    """Without a workflow the frames are echoed, and messages are acknowledged without effect."""
    if session.workflow is not None:
        await session.set_workflow(joined_workflow(prompts, await host.known()), who=who)


def _resolution(session: LiveSession, message: Mapping[str, Any]) -> dict[str, Any]:
    sides = message.get("width"), message.get("height")
    if not all(type(side) is int and 0 < side <= MOST_SIDE for side in sides):
        words = "width and height are needed, as whole numbers of pixels"
        return {"type": "resolution_updated", "success": False, "error": words}
    try:
        session.set_size(FrameSize(session.options.size.rule, message["width"], message["height"]))
    except ComfyStreamError as error:
        return {"type": "resolution_updated", "success": False, "error": str(error)}
    return {"type": "resolution_updated", "success": True}


async def _nodes(session: LiveSession, host: EngineHost) -> dict[str, Any]:
    if session.workflow is None:
        return {}
    catalog = await host.known()
    found: dict[str, Any] = {}
    for id, node in nodes_info(session.workflow, catalog).items():
        number, own = place_of(id)
        found.setdefault(str(number), {})[own] = node
    return found


def nodes_info(workflow: Workflow, catalog: Catalog) -> dict[str, Any]:
    """What `nodes_info` tells of a workflow: its nodes as those clients call them, with the inputs that are given."""
    found: dict[str, Any] = {}
    for node in converted(workflow):
        spec = catalog.get(node.class_type)
        if spec is None:
            continue
        inputs = {name: _input_info(spec.input(name), value) for name, value in node.inputs.items()}
        found[node.id] = {"class_type": node.class_type, "inputs": inputs}
    return found


def converted(workflow: Workflow) -> list[Node]:
    """The nodes under the names that these clients expect: live ends are called LoadTensor and SaveTensor."""
    try:
        live = {end.node_id for end in bind(workflow).inputs if end.modality == "video"}
    except WorkflowError:
        live = set()
    nodes = []
    for node in workflow.nodes.values():
        if node.id in live and node.class_type != "LoadTensor":
            node = Node(node.id, "LoadTensor", {}, "LoadTensor")
        elif node.class_type in ("PreviewImage", "SaveImage"):
            node = Node(node.id, "SaveTensor", node.inputs, node.title)
        nodes.append(node)
    return nodes


def _input_info(declared: tuple[Any, Mapping[str, Any], str] | None, value: Any) -> dict[str, Any]:
    """`value`, `type`, `min`, `max` and `widget`; a bare list of options is a "combo" whose value is the options."""
    info = {"value": to_json_value(value), "type": "unknown", "min": None, "max": None, "widget": None}
    if declared is None:
        return info
    kind, options, _ = declared
    if isinstance(kind, list | tuple):
        return {**info, "type": "combo", "value": list(kind)} if not options else {**info, "type": list(kind)}
    return {**info, "type": kind, **{name: options.get(name) for name in ("min", "max", "widget")}}
