"""Compile a workflow: which nodes run when, in which order, and what each lane reads and puts out.

Pure data, nothing runs.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfystream.catalog.spec import Catalog, NodeSpec
from comfystream.engine.step import Schedule, Step, make_step
from comfystream.errors import WorkflowError
from comfystream.frames import Lane
from comfystream.workflow.bind import Bindings
from comfystream.workflow.model import Link, Workflow

__all__ = ["LanePlan", "Output", "Plan", "compile_plan"]


@dataclass(frozen=True, slots=True)
class Output:
    """A bound output: what it puts out and where the value comes from.

    Attributes:
        node_id: the SaveTensor, PreviewImage, SaveAudioTensor, SaveTextTensor ... node.
        modality: "video", "audio" or "text".
        value: the link it reads, or a constant (a text).
        lane: the lane whose ticks put it out.
        is_live: whether the value may differ from tick to tick.
        options: the node's constant inputs (`remove_linebreaks`).
    """

    node_id: str
    modality: str
    value: Link | Any
    lane: Lane
    is_live: bool
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LanePlan:
    """What one tick of a lane does.

    Attributes:
        lane: which.
        steps: VOLATILE and LIVE steps that every tick may run, each after those it reads.
        on_demand: steps that run only when a lazy input above them is asked for, in order.
        outputs: what the tick puts out, in file order.
        bound_inputs: node ids of the live inputs of this lane.
        reads_frame: whether a node (of any lane) reads the frame as a tensor; if not, it is never converted.
        reads_mask: whether the MASK (slot 1) of a bound LoadImage is read.
        crossing: links to values that the other lane makes; the last one is read.
        is_dynamic: some step is async, lazy or may expand: the lane runs on the scheduler.
    """

    lane: Lane
    steps: tuple[Step, ...]
    on_demand: tuple[Step, ...]
    outputs: tuple[Output, ...]
    bound_inputs: tuple[str, ...]
    reads_frame: bool
    reads_mask: bool
    crossing: tuple[Link, ...]
    is_dynamic: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled workflow.

    Attributes:
        workflow, bindings: what it was compiled from.
        steps: every step that may run, by node id, each after those it reads (bound inputs and outputs are no steps).
        lanes: by lane, in the order in which a warm-up ticks them (audio first, pictures may read it).
        static_roots: ids of static and volatile steps to run when the plan is prepared, in order.
        audio_buffer_ms: how much sound an audio tick takes, 0 without an audio input.
    """

    workflow: Workflow
    bindings: Bindings
    steps: Mapping[str, Step]
    lanes: Mapping[Lane, LanePlan]
    static_roots: tuple[str, ...]
    audio_buffer_ms: float


def compile_plan(workflow: Workflow, catalog: Catalog, bindings: Bindings, dropped: Collection[str] = ()) -> Plan:
    """Compile a checked workflow.

    Args:
        workflow: the graph, with its constants converted.
        catalog: the node classes.
        bindings: its live inputs and outputs.
        dropped: ids of output nodes to leave out, because something above them is wrong.

    Raises:
        WorkflowError: a cycle, a missing node class, or a link to a node that is not there.
    """
    return _Compiler(workflow, catalog, bindings, dropped).compile()


class _Compiler:
    def __init__(self, workflow: Workflow, catalog: Catalog, bindings: Bindings, dropped: Collection[str]) -> None:
        self._nodes = workflow.nodes
        self._workflow = workflow
        self._catalog = catalog
        self._bindings = bindings
        self._live_inputs = {live.node_id: Lane(live.modality) for live in bindings.inputs}
        self._bound_outputs = {live.node_id: live.modality for live in bindings.outputs if live.is_shown}
        self._ignored = {*dropped, *(live.node_id for live in bindings.outputs if not live.is_shown)}
        self._specs: dict[str, NodeSpec] = {}

    def compile(self) -> Plan:
        order = self._order()
        steps = {id: make_step(self._nodes[id], self._spec(id)) for id in order if not self._is_bound(id)}
        sources = self._live_sources(order, steps)
        volatile = self._volatile(order, steps)
        lane_of = self._assign_lanes(order, steps, sources, volatile)
        steps = {id: self._schedule(step, lane_of, volatile) for id, step in steps.items()}
        steps = self._with_used_slots(steps)
        lanes = self._lanes_present(steps)
        outputs = self._outputs(steps, lanes)
        demanded = self._demanded(steps, outputs)
        plans = {lane: self._lane_plan(lane, steps, outputs, demanded) for lane in lanes}
        static_roots = tuple(id for id, step in steps.items() if step.schedule is not Schedule.LIVE and id in demanded)
        return Plan(self._workflow, self._bindings, steps, plans, static_roots, self._audio_buffer_ms())

    def _audio_buffer_ms(self) -> float:
        sizes = {live.buffer_ms for live in self._bindings.inputs_of("audio")}
        if len(sizes) > 1:
            raise WorkflowError(
                f"the LoadAudioTensor nodes ask for different buffer sizes: {sorted(sizes)} ms",
                hint="give them the same buffer_size: one tick takes one run of sound",
            )
        return sizes.pop() if sizes else 0.0

    def _is_bound(self, id: str) -> bool:
        return id in self._live_inputs or id in self._bound_outputs

    def _spec(self, id: str) -> NodeSpec:
        if id not in self._specs:
            node = self._nodes.get(id)
            spec = self._catalog.get(node.class_type) if node is not None else None
            if node is None or spec is None:
                what = (
                    f'node class "{node.class_type}" is not installed'
                    if node
                    else f"a link goes to node {id}, which is not in the workflow"
                )
                raise WorkflowError(what, node_id=id)
            self._specs[id] = spec
        return self._specs[id]

    def _roots(self) -> list[str]:
        return [
            id
            for id in self._nodes
            if id in self._bound_outputs
            or (id not in self._live_inputs and id not in self._ignored and self._spec(id).is_output)
        ]

    def _order(self) -> list[str]:
        """Ids that outputs depend on, each after those it reads; lazy inputs included."""
        done: dict[str, bool] = {}
        order: list[str] = []
        for root in self._roots():
            stack: list[tuple[str, Iterator[str]]] = [(root, self._above(root))] if root not in done else []
            done.setdefault(root, False)
            while stack:
                id, above = stack[-1]
                following = next(above, None)
                if following is None:
                    stack.pop()
                    done[id] = True
                    order.append(id)
                elif following not in done:
                    done[following] = False
                    stack.append((following, self._above(following)))
                elif not done[following]:
                    path = [frame[0] for frame in stack]
                    cycle = [*path[path.index(following) :], following]
                    raise WorkflowError(
                        f"the workflow has a cycle: {' -> '.join(cycle)}", code="dependency_cycle", node_id=following
                    )
        return order

    def _above(self, id: str) -> Iterator[str]:
        if id in self._live_inputs:
            return iter(())
        node = self._nodes.get(id)
        if node is None:
            raise WorkflowError(f"a link goes to node {id}, which is not in the workflow", node_id=id)
        return iter([link.node for _, link in node.links()])

    def _live_sources(self, order: list[str], steps: Mapping[str, Step]) -> dict[str, frozenset[Lane]]:
        sources: dict[str, frozenset[Lane]] = {id: frozenset({lane}) for id, lane in self._live_inputs.items()}
        for id in order:
            if id not in self._live_inputs:
                sources[id] = frozenset().union(*(sources[link.node] for _, link in self._nodes[id].links()))
        return sources

    def _volatile(self, order: list[str], steps: Mapping[str, Step]) -> set[str]:
        found: set[str] = set()
        for id in order:
            step = steps.get(id)
            if step is not None and (step.spec.has_fingerprint or any(link.node in found for _, link in step.links)):
                found.add(id)
        return found

    def _assign_lanes(
        self, order: list[str], steps: Mapping[str, Step], sources: Mapping[str, frozenset[Lane]], volatile: set[str]
    ) -> dict[str, Lane]:
        """The lane of every live or volatile step.

        What hangs on one input ticks with it. What hangs on both ticks with the sound if a sound output needs it (sound
        can neither drop nor repeat), else with the picture. Volatile nodes tick with the lane that reads them.
        """
        feeds_audio = self._ancestors_of(id for id, modality in self._bound_outputs.items() if modality == "audio")
        lane_of: dict[str, Lane] = {}
        for id in order:
            if id in steps and (live := sources[id]):
                lane_of[id] = next(iter(live)) if len(live) == 1 else (Lane.AUDIO if id in feeds_audio else Lane.VIDEO)
        present = [lane for lane in (Lane.VIDEO, Lane.AUDIO) if lane in self._live_inputs.values()] or [Lane.CLOCK]
        readers: dict[str, set[Lane]] = {}
        for id in reversed(order):
            if id in volatile and id not in lane_of:
                wanted = readers.get(id, set())
                lane_of[id] = next((lane for lane in present if lane in wanted), present[0])
            lane = lane_of.get(id)
            if lane is not None:
                for _, link in self._nodes[id].links():
                    readers.setdefault(link.node, set()).add(lane)
        return lane_of

    def _ancestors_of(self, ids: Iterator[str]) -> set[str]:
        found: set[str] = set()
        todo = list(ids)
        while todo:
            id = todo.pop()
            if id not in found:
                found.add(id)
                todo.extend(self._above(id))
        return found

    def _schedule(self, step: Step, lane_of: Mapping[str, Lane], volatile: set[str]) -> Step:
        lane = lane_of.get(step.id)
        if lane is None:
            return step
        is_live = bool(self._live_inputs) and self._has_live_ancestor(step.id)
        return step.with_schedule(Schedule.LIVE if is_live else Schedule.VOLATILE, lane)

    def _has_live_ancestor(self, id: str) -> bool:
        return not self._live_inputs.keys().isdisjoint(self._ancestors_of(iter([id])))

    def _with_used_slots(self, steps: Mapping[str, Step]) -> dict[str, Step]:
        used: dict[str, set[int]] = {}
        for id in self._nodes:
            for _, link in self._nodes[id].links():
                used.setdefault(link.node, set()).add(link.slot)
        return {id: replace(step, used=tuple(sorted(used.get(id, ())))) for id, step in steps.items()}

    def _lanes_present(self, steps: Mapping[str, Step]) -> list[Lane]:
        live = set(self._live_inputs.values())
        return [lane for lane in (Lane.AUDIO, Lane.VIDEO) if lane in live] or [Lane.CLOCK]

    def _outputs(self, steps: Mapping[str, Step], lanes: list[Lane]) -> list[Output]:
        made = []
        for bound in self._bindings.outputs:
            if not bound.is_shown:
                continue
            node = self._nodes[bound.node_id]
            value = node.inputs.get(bound.input_name)
            source = steps.get(value.node) if isinstance(value, Link) else None
            if isinstance(value, Link) and value.node in self._live_inputs:
                lane, is_live = self._live_inputs[value.node], True
            elif source is not None and source.lane is not None:
                lane, is_live = source.lane, True
            else:
                lane, is_live = self._lane_for_constant(bound.modality, lanes), False
            options = {name: given for name, given in node.inputs.items() if not isinstance(given, Link)}
            made.append(Output(bound.node_id, bound.modality, value, lane, is_live, options))
        return made

    def _lane_for_constant(self, modality: str, lanes: list[Lane]) -> Lane:
        wanted = Lane.AUDIO if modality == "audio" else Lane.VIDEO
        return wanted if wanted in lanes else lanes[0]

    def _demanded(self, steps: Mapping[str, Step], outputs: list[Output]) -> set[str]:
        """Ids that run without being asked for: reachable from a root without following a lazy input."""
        found: set[str] = set()
        todo = [output.value.node for output in outputs if isinstance(output.value, Link)]
        todo += [id for id, step in steps.items() if step.spec.is_output and id not in self._ignored]
        while todo:
            id = todo.pop()
            if id in found or id not in steps:
                continue
            found.add(id)
            step = steps[id]
            todo.extend(link.node for name, link in step.links if name not in step.lazy)
        return found

    def _lane_plan(self, lane: Lane, steps: Mapping[str, Step], outputs: list[Output], demanded: set[str]) -> LanePlan:
        mine = [step for step in steps.values() if step.lane is lane]
        mine_out = tuple(output for output in outputs if output.lane is lane)
        reads = [link for step in mine for _, link in step.links]
        inputs = tuple(id for id, bound in self._live_inputs.items() if bound is lane)
        all_reads = [link for step in steps.values() for _, link in step.links]
        shown = [output.value for output in mine_out if isinstance(output.value, Link)]
        foreign = {
            link
            for link in (*reads, *shown)
            if (link.node in steps and steps[link.node].lane not in (None, lane))
            or self._live_inputs.get(link.node, lane) is not lane
        }
        return LanePlan(
            lane=lane,
            steps=tuple(step for step in mine if step.id in demanded),
            on_demand=tuple(step for step in mine if step.id not in demanded),
            outputs=mine_out,
            bound_inputs=inputs,
            reads_frame=any(link.node in inputs and link.slot == 0 for link in all_reads)
            or self._shown_elsewhere(lane, outputs),
            reads_mask=any(link.node in inputs and link.slot == 1 for link in (*all_reads, *shown)),
            crossing=tuple(sorted(foreign, key=lambda link: (link.node, link.slot))),
            is_dynamic=any(_is_dynamic(step) for step in mine)
            or any(step.id not in demanded for step in mine)
            or self._has_lazy_static(mine, steps, demanded),
        )

    def _shown_elsewhere(self, lane: Lane, outputs: list[Output]) -> bool:
        """Whether another lane puts out this lane's input."""
        return any(
            isinstance(output.value, Link)
            and self._live_inputs.get(output.value.node) is lane
            and output.lane is not lane
            for output in outputs
        )

    def _has_lazy_static(self, mine: list[Step], steps: Mapping[str, Step], demanded: set[str]) -> bool:
        return any(link.node in steps and link.node not in demanded for step in mine for _, link in step.links)


def _is_dynamic(step: Step) -> bool:
    return step.is_async or step.asks_for_lazy or bool(step.raw) or may_expand(step.spec)


def may_expand(spec: NodeSpec) -> bool:
    """Whether a node may return a graph in its place, as far as that can be told without running it.

    V3 nodes declare it. V1 nodes do not, but to build a graph they import `GraphBuilder`, look at the prompt, or take
    raw links. One that does without is noticed when it expands.
    """
    if spec.api == "v3":
        return spec.enable_expand
    if "DYNPROMPT" in spec.hidden.values():
        return True
    module = _module_globals(spec.cls)
    return "GraphBuilder" in module


def _module_globals(cls: type) -> Mapping[str, Any]:
    module = sys.modules.get(cls.__module__)
    return vars(module) if module is not None else {}
