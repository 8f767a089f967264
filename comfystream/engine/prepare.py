"""Check, bind and compile a workflow, then run what is static."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from comfystream.catalog.spec import Catalog
from comfystream.clock import Clock
from comfystream.engine.activation import Prepared
from comfystream.engine.bound import Binder, HiddenValues, Instances
from comfystream.engine.dynprompt import DynamicPrompt
from comfystream.engine.fingerprint import Fingerprint
from comfystream.engine.placement import PlacedBinder, Places
from comfystream.engine.plan import Plan, compile_plan
from comfystream.engine.scheduler import Observer, Scheduler
from comfystream.engine.step import Schedule, Step
from comfystream.engine.store import StaticStore
from comfystream.errors import WorkflowError
from comfystream.workflow.api_format import to_api
from comfystream.workflow.bind import bind
from comfystream.workflow.check import check
from comfystream.workflow.model import Workflow

__all__ = ["compile_checked", "make_binder", "run_static"]


def compile_checked(workflow: Workflow, catalog: Catalog) -> Plan:
    """Check and compile.

    Raises:
        WorkflowError: the first problem that a check found; its message counts the others.
    """
    bindings = bind(workflow)
    checked = check(workflow, catalog, bindings)
    problems = checked.errors
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise WorkflowError(f"{first}{more}", code=first.type, node_id=first.node_id)
    return compile_plan(checked.workflow, catalog, bindings, checked.dropped)


def make_binder(plan: Plan, instances: Instances, places: Places | None = None) -> Binder:
    """Functions and hidden values for one activation of a plan; with `places`, for frames on a device."""
    prompt = to_api(plan.workflow)
    pnginfo = {"workflow": plan.workflow.ui} if plan.workflow.ui is not None else None
    hidden = HiddenValues(prompt, DynamicPrompt(prompt), pnginfo)
    return Binder(instances, hidden) if places is None else PlacedBinder(instances, hidden, places, plan)


def run_static(
    plan: Plan,
    catalog: Catalog,
    binder: Binder,
    blocker: type,
    store: StaticStore,
    clock: Clock,
    observer: Observer,
    hold: Callable[[list[int]], None],
) -> Prepared:
    """Run the static and volatile steps that every tick needs, reusing what is kept.

    Args:
        plan, catalog, binder, blocker, store, clock: what to run and with what.
        observer: told what runs.
        hold: called with the signatures before anything runs; the caller holds them in the store, so that what was
            loaded before something failed is still there for the next try.

    Raises:
        NodeError: a node raised.
    """
    recorder = _Recorder(observer)
    spent_ns: dict[str, int] = {}

    @contextlib.contextmanager
    def timed(step: Step) -> Iterator[None]:
        began = time.perf_counter_ns()
        try:
            yield
        finally:
            spent_ns[step.id] = spent_ns.get(step.id, 0) + time.perf_counter_ns() - began

    fingerprints: dict[str, Fingerprint] = {}
    signatures: dict[str, int | None] = {}
    for step in plan.steps.values():
        if step.schedule is Schedule.LIVE:
            continue
        fingerprint = None
        if step.spec.has_fingerprint:
            asked = Fingerprint(step, binder.fingerprint(step), binder.extra_arguments(step), clock)
            fingerprint = asked.evaluate()
            fingerprints[step.id] = asked
        signatures[step.id] = store.sign(step, signatures, fingerprint)
    hold([signature for signature in signatures.values() if signature is not None])
    kept = frozenset(id for id, signature in signatures.items() if store.get(signature) is not None)
    scheduler = Scheduler(
        plan.steps, catalog, binder, blocker, store=store, signatures=signatures, observer=recorder, timed_by=timed
    )
    values: dict[str, tuple[Any, ...]] = {}
    asyncio.run(scheduler.run(plan.static_roots, values))
    return Prepared(plan, _only_plan(values, plan), signatures, fingerprints, tuple(recorder.ran), spent_ns, kept)


def _only_plan(values: Mapping[str, tuple[Any, ...]], plan: Plan) -> dict[str, tuple[Any, ...]]:
    """Without the nodes that expansions added."""
    return {id: outputs for id, outputs in values.items() if id in plan.steps}


class _Recorder(Observer):
    """Notes what ran, and passes on."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.ran: list[str] = []

    def started(self, step: Step) -> None:
        self._observer.started(step)

    def finished(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        self.ran.append(step.id)
        self._observer.finished(step, ui)

    def cached(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        self._observer.cached(step, ui)

    def blocked(self, step: Step, message: str) -> None:
        self._observer.blocked(step, message)
