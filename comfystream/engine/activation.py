"""A plan with everything that it takes to tick: bound functions, static values, one tick per lane.

`Activation.tick` is what a lane thread calls per frame. Lanes may tick at the same time on different threads: each
reads and writes its own values, and what crosses between them stands in one list, where the last value wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfystream.catalog.comfyui.compat_running import raised_by_nodes
from comfystream.catalog.spec import Catalog
from comfystream.clock import Clock
from comfystream.engine.bound import Binder
from comfystream.engine.fast import Bail, CompiledTick, VolatileStep, compile_tick, general_call
from comfystream.engine.fingerprint import Fingerprint
from comfystream.engine.plan import LanePlan, Plan
from comfystream.engine.scheduler import Observer, Scheduler, node_error
from comfystream.engine.step import Schedule, Step
from comfystream.engine.store import StaticStore
from comfystream.engine.values import MISSING, PASSTHROUGH
from comfystream.workflow.model import Link

__all__ = ["Activation", "LaneTick", "Prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What preparing a plan gave: everything that does not depend on a frame.

    Attributes:
        plan: the compiled workflow.
        values: slot values of static and volatile steps, by node id.
        signatures: by node id, for steps that are kept by content.
        fingerprints: of volatile steps that have one, by node id.
        run: ids that were run for it (the others were kept).
        spent_ns: how long each of those took.
        kept: ids whose result was kept from before.
    """

    plan: Plan
    values: Mapping[str, tuple[Any, ...]]
    signatures: Mapping[str, int | None]
    fingerprints: Mapping[str, Fingerprint]
    run: tuple[str, ...]
    spent_ns: Mapping[str, int]
    kept: frozenset[str] = frozenset()


class Activation:
    """A prepared plan, bound to node instances.

    Args:
        prepared: the plan and its static values.
        binder: functions; its instances belong to this activation.
        cross: values that cross lanes, by link, to start with (of the revision before, or of a rehearsal).
        profile: time every step.
        without_sinks: leave out output nodes that nothing reads (a rehearsal must not write files).
    """

    def __init__(
        self,
        prepared: Prepared,
        catalog: Catalog,
        binder: Binder,
        blocker: type,
        store: StaticStore,
        clock: Clock,
        *,
        cross: Mapping[Link, Any] | None = None,
        profile: bool = True,
        observer: Observer | None = None,
        without_sinks: bool = False,
    ) -> None:
        self.prepared = prepared
        self.plan = prepared.plan
        self.binder = binder
        links = sorted(
            {link for lane in self.plan.lanes.values() for link in lane.crossing}, key=lambda k: (k.node, k.slot)
        )
        self._cross_index = {link: i for i, link in enumerate(links)}
        self.cross = [(cross or {}).get(link, MISSING) for link in links]
        self._blocker = blocker
        self._profile = profile
        self._volatile = self._volatile_steps()
        self.lanes = {}
        steps = self.plan.steps
        static = {id: sign for id, sign in prepared.signatures.items() if steps[id].schedule is Schedule.STATIC}
        for lane, plan in self.plan.lanes.items():
            scheduler = Scheduler(steps, catalog, binder, blocker, store=store, signatures=static, observer=observer)
            self.lanes[lane] = LaneTick(self, _without_sinks(plan) if without_sinks else plan, scheduler)

    def static(self, link: Link) -> Any:
        """The value of a link to a static or volatile step."""
        outputs = self.prepared.values.get(link.node, ())
        return outputs[link.slot] if link.slot < len(outputs) else None

    def crossing_values(self) -> dict[Link, Any]:
        """What stands between the lanes now."""
        return {link: self.cross[i] for link, i in self._cross_index.items() if self.cross[i] is not MISSING}

    def _volatile_steps(self) -> dict[str, VolatileStep]:
        made = {}
        for step in self.plan.steps.values():
            if step.schedule is Schedule.VOLATILE and step.id in self.prepared.values:
                outputs = self.prepared.values[step.id]
                last = tuple(outputs[slot] if slot < len(outputs) else None for slot in step.used)
                arguments = tuple(self.static(link) for _, link in step.links)
                call = general_call(step, self.binder, self._blocker)
                made[step.id] = VolatileStep(call, self.prepared.fingerprints.get(step.id), arguments, last)
        return made

    def compile(self, plan: LanePlan, general: frozenset[str]) -> CompiledTick:
        """The compiled tick of a lane."""
        return compile_tick(
            plan,
            self.binder,
            self._blocker,
            self.static,
            self._cross_index,
            self._volatile,
            profile=self._profile,
            general=general,
        )

    def frame_is_for_host(self, lane: LanePlan) -> bool:
        """See `Binder.frame_is_for_host`."""
        return self.binder.frame_is_for_host(lane)

    def cross_index(self, link: Link) -> int | None:
        """Where a link's value stands in `cross`, if it crosses lanes."""
        return self._cross_index.get(link)


def _without_sinks(plan: LanePlan) -> LanePlan:
    return replace(plan, steps=tuple(step for step in plan.steps if step.used or not step.spec.is_output))


class LaneTick:
    """One lane of an activation. Called by one thread at a time."""

    def __init__(self, activation: Activation, plan: LanePlan, scheduler: Scheduler) -> None:
        self.plan = plan
        self._activation = activation
        self._scheduler = scheduler
        self._general: frozenset[str] = frozenset()
        self._compiled = None if plan.is_dynamic else activation.compile(plan, self._general)
        self._loop: asyncio.AbstractEventLoop | None = None
        # a place per step, those on demand included, and one for nodes that expansions add
        count = len(plan.steps) + len(plan.on_demand) + 1
        self.total_ns = [0] * count
        self.max_ns = [0] * count
        self._whole = 0
        self._called = [0] * count
        self._volatile = {
            step.id: activation.prepared.values[step.id] for step in plan.steps if self._is_kept_volatile(step)
        }

    def _is_kept_volatile(self, step: Step) -> bool:
        return step.schedule is Schedule.VOLATILE and step.id in self._activation.prepared.values

    def run(self, frame: Any, mask: Any = None) -> tuple[Any, ...] | None:
        """One tick.

        Args:
            frame: value of the lane's live input (a tensor, an AUDIO dict); None when no node reads it.
            mask: value of slot 1 of a bound LoadImage, where read.

        Returns:
            Values of `plan.outputs`; PASSTHROUGH stands for the frame itself. None when the lane still waits for a
            value of the other lane.

        Raises:
            NodeError: a node raised.
        """
        compiled = self._compiled
        if compiled is None:
            return self._run_scheduled(frame, mask)
        try:
            result = compiled.run(frame, mask, self._activation.cross, self.total_ns, self.max_ns)
        except raised_by_nodes() as error:
            index = compiled.step_index(error)
            if index is None:
                raise
            self._count_up_to(index)
            raise node_error(self.plan.steps[index], error) from error
        if type(result) is Bail:
            self._count_up_to(result.index + (result.raw is not MISSING))
            return self._finish(result, frame, mask)
        self._whole += 1
        whole: tuple[Any, ...] = result
        return whole

    def _count_up_to(self, index: int) -> None:
        """The compiled function stopped at a step: those before it were called, those after it were not."""
        for i in range(index):
            self._called[i] += 1

    def calls_of(self, index: int) -> int:
        """How often a step ran."""
        return self._called[index] + (self._whole if index < len(self.plan.steps) else 0)

    # --- the general way

    def _run_scheduled(self, frame: Any, mask: Any) -> tuple[Any, ...] | None:
        cross = self._activation.cross
        if any(cross[self._index(link)] is MISSING for link in self.plan.crossing):
            return None
        values = self._start_values(frame, mask)
        self._skip_unchanged(values)
        targets = [step.id for step in self.plan.steps]
        self._evaluate(targets, values)
        self._volatile.update({id: values[id] for id in self._volatile if id in values})
        return self._outputs(values)

    def _finish(self, bail: Bail, frame: Any, mask: Any) -> tuple[Any, ...]:
        """The rest of a tick that the compiled function left at a step."""
        step = self.plan.steps[bail.index]
        values = self._start_values(frame, mask)
        live: dict[str, dict[int, Any]] = {}
        for link, value in bail.live.items():
            live.setdefault(link.node, {})[link.slot] = value
        for id, slots in live.items():
            values[id] = tuple(slots.get(slot) for slot in range(max(slots) + 1))
        targets = [later.id for later in self.plan.steps[bail.index :]]
        if bail.raw is MISSING:
            self._evaluate(targets, values)
        else:
            self._evaluate(targets, values, resume=(step.id, bail.raw))
            self._learn(step, bail.raw)
        return self._outputs(values)

    def _learn(self, step: Step, raw: Any) -> None:
        """A node that gave something unusual once will do so again: call it the general way from now on."""
        expands = isinstance(raw, dict) and raw.get("expand") is not None
        if expands or getattr(raw, "expand", None) is not None:
            self._compiled = None  # its graph may link to any node: nothing may be freed before the tick ends
        elif step.id not in self._general:
            self._general |= {step.id}
            self._compiled = self._activation.compile(self.plan, self._general)

    def _start_values(self, frame: Any, mask: Any) -> dict[str, tuple[Any, ...]]:
        values = dict(self._activation.prepared.values)
        for id in self.plan.bound_inputs:
            values[id] = (frame, mask)
        by_node: dict[str, dict[int, Any]] = {}
        for link in self.plan.crossing:
            by_node.setdefault(link.node, {})[link.slot] = self._activation.cross[self._index(link)]
        for id, slots in by_node.items():
            values[id] = tuple(slots.get(slot) for slot in range(max(slots) + 1))
        return values

    def _skip_unchanged(self, values: dict[str, tuple[Any, ...]]) -> None:
        """Leave in `values` only the volatile steps that need not run again."""
        changed: set[str] = set()
        for step in (*self.plan.steps, *self.plan.on_demand):
            if step.schedule is not Schedule.VOLATILE:
                continue
            fingerprint = self._activation.prepared.fingerprints.get(step.id)
            moved = fingerprint is not None and fingerprint.changed()
            if moved or step.id not in self._volatile or any(link.node in changed for _, link in step.links):
                changed.add(step.id)
                values.pop(step.id, None)
            else:
                values[step.id] = self._volatile[step.id]

    def _evaluate(
        self, targets: list[str], values: dict[str, tuple[Any, ...]], resume: tuple[str, Any] | None = None
    ) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        indexes = {step.id: i for i, step in enumerate((*self.plan.steps, *self.plan.on_demand))}
        self._scheduler.timed_by = lambda step: self._timed(indexes.get(step.id, len(indexes)))
        self._loop.run_until_complete(self._scheduler.run(targets, values, resume=resume))

    @contextlib.contextmanager
    def _timed(self, index: int) -> Iterator[None]:
        began = time.perf_counter_ns()
        try:
            yield
        finally:
            spent = time.perf_counter_ns() - began
            self._called[index] += 1
            self.total_ns[index] += spent
            self.max_ns[index] = max(self.max_ns[index], spent)

    def _outputs(self, values: Mapping[str, tuple[Any, ...]]) -> tuple[Any, ...]:
        for link in self._exports():
            outputs = values.get(link.node, ())
            self._activation.cross[self._index(link)] = outputs[link.slot] if link.slot < len(outputs) else None
        return tuple(self._value_of(output.value, values) for output in self.plan.outputs)

    def _value_of(self, value: Any, values: Mapping[str, tuple[Any, ...]]) -> Any:
        if not isinstance(value, Link):
            return value
        if value.node in self.plan.bound_inputs and value.slot == 0:
            return PASSTHROUGH
        outputs = values.get(value.node, ())
        return outputs[value.slot] if value.slot < len(outputs) else None

    def _exports(self) -> list[Link]:
        mine = {step.id for step in self.plan.steps} | set(self.plan.bound_inputs)
        crossing = {link for lane in self._activation.plan.lanes.values() for link in lane.crossing}
        return [link for link in crossing if link.node in mine]

    def _index(self, link: Link) -> int:
        index = self._activation.cross_index(link)
        if index is None:
            raise KeyError(link)
        return index

    def close(self) -> None:
        """Close the lane's event loop, if it has one."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None
