"""Run a workflow once, as ComfyUI does when it is queued: every output node, no live input."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from comfystream.engine.bound import Binder, Instances
from comfystream.engine.host import Host
from comfystream.engine.plan import Output, Plan, compile_plan
from comfystream.engine.prepare import make_binder, run_static
from comfystream.engine.scheduler import Observer, Scheduler
from comfystream.engine.step import Schedule, Step
from comfystream.errors import WorkflowError
from comfystream.workflow.bind import Bindings
from comfystream.workflow.check import NOTHING_BOUND, CheckResult, check
from comfystream.workflow.model import Link, Workflow

__all__ = ["OnceResult", "OnceRunner"]

T = TypeVar("T")
Values = dict[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class OnceResult:
    """What one run gave.

    Attributes:
        outputs: what each output node shows (ComfyUI's `ui`), by node id.
        ran: ids of the nodes that were called, in order; nodes of an expansion by their own ids.
        kept: ids of the nodes that were not called, because an equal result was kept from the run before.
        check: what the check found; output nodes with an error above them are left out.
        read: the values that the bound outputs would have put out, by node id.
    """

    outputs: Mapping[str, Mapping[str, Any]]
    ran: tuple[str, ...]
    kept: tuple[str, ...]
    check: CheckResult
    read: Mapping[str, tuple[Output, Any]] = field(default_factory=dict)


class _Record(Observer):
    """Notes what ran and what was shown, and passes on."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.outputs: dict[str, Mapping[str, Any]] = {}
        self.ran: list[str] = []

    def started(self, step: Step) -> None:
        self._observer.started(step)
        self.ran.append(step.id)

    def finished(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        self._observer.finished(step, ui)
        self._show(step, ui)

    def cached(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        self._observer.cached(step, ui)
        self._show(step, ui)

    def _show(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        if ui is not None:
            self.outputs[step.id] = ui


class OnceRunner:
    """Runs workflows one after the other and keeps what equal nodes gave in the run before. Used by one thread.

    Args:
        host: node classes and kept results.
        enter: called on the thread that runs them, before the first.
    """

    def __init__(self, host: Host, enter: Callable[[], None] | None = None) -> None:
        self._host = host
        self._instances = Instances()
        self._held: list[int] = []
        self._signatures: Mapping[str, int | None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="once", initializer=enter or host.enter_thread)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Call something on the thread that runs the nodes, after what was submitted before."""
        return self._thread.submit(job)

    def run(self, workflow: Workflow, targets: Collection[str] | None = None) -> OnceResult:
        """Check and run.

        Args:
            workflow: the graph.
            targets: ids of the output nodes that are wanted; None for all.

        Raises:
            WorkflowError: no output node can run.
            NodeError: a node raised.
        """
        return self.submit(lambda: self.run_here(workflow, targets)).result()

    def run_here(
        self,
        workflow: Workflow,
        targets: Collection[str] | None = None,
        bindings: Bindings = NOTHING_BOUND,
        fed: Mapping[str, tuple[Any, ...]] | None = None,
        observer: Observer | None = None,
        *,
        keep_shown: bool = True,
    ) -> OnceResult:
        """As `run`, on the calling thread, which has to be the one of `submit`.

        Args:
            workflow: the graph.
            targets: ids of the output nodes that are wanted; None for all.
            bindings: inputs that are not called because their values are given, outputs that are not called because
                what they would put out is read.
            fed: slot values by node id, for each of those inputs.
            observer: told what runs; what it raises ends the run.
            keep_shown: output nodes are not called when an equal result is kept; False for callers that take away the
                files that those wrote.

        Raises:
            WorkflowError: no output node can run.
            NodeError: a node raised.
        """
        checked = check(workflow, self._host.catalog, bindings)
        roots = [id for id in checked.roots if targets is None or id in targets]
        if checked.errors or not roots:
            problems = checked.errors
            raise WorkflowError(
                str(problems[0]) if problems else "no output node is wanted",
                code=problems[0].type if problems else "prompt_no_outputs",
                node_id=problems[0].node_id if problems else None,
            )
        done = self._run(checked, roots, bindings, fed or {}, _Record(observer or Observer()))
        if not keep_shown:
            self._host.store.forget(self._signatures[id] for id in roots if id in self._signatures)
        return done

    def _run(
        self, checked: CheckResult, roots: list[str], bindings: Bindings, fed: Mapping[str, Any], record: _Record
    ) -> OnceResult:
        host = self._host
        workflow = checked.workflow
        unwanted = {id for id in workflow.nodes if id not in roots}
        plan = compile_plan(workflow, host.catalog, bindings, unwanted)
        self._instances.keep_only(plan.steps.values())
        binder = make_binder(plan, self._instances)
        prepared = run_static(plan, host.catalog, binder, host.blocker, host.store, host.clock, record, self._hold)
        values: Values = {**prepared.values, **fed}
        self._signatures = prepared.signatures
        static = {id: prepared.signatures.get(id) for id in plan.steps if plan.steps[id].schedule is Schedule.STATIC}
        self._run_rest(plan, binder, values, static, record)
        kept = [id for id in plan.steps if id in prepared.kept]
        outputs = [output for lane in plan.lanes.values() for output in lane.outputs]
        read = {output.node_id: (output, _value(output.value, values)) for output in outputs}
        in_order = {id: read[id] for id in workflow.nodes if id in read}
        return OnceResult(record.outputs, tuple(record.ran), tuple(kept), checked, in_order)

    def _run_rest(
        self, plan: Plan, binder: Binder, values: Values, static: Mapping[str, int | None], record: _Record
    ) -> None:
        """What depends on the given values: never kept, they differ from run to run."""
        host = self._host
        shown = [output.value for lane in plan.lanes.values() for output in lane.outputs]
        wanted = [link.node for link in shown if isinstance(link, Link) and link.node not in values]
        wanted += [id for id, step in plan.steps.items() if step.schedule is Schedule.LIVE and step.spec.is_output]
        if wanted:
            scheduler = Scheduler(
                plan.steps, host.catalog, binder, host.blocker, store=host.store, signatures=static, observer=record
            )
            asyncio.run(scheduler.run(wanted, values))

    def _hold(self, signatures: list[int]) -> None:
        self._host.store.hold(signatures)
        before, self._held = self._held, signatures
        self._host.store.release(before)

    def close(self) -> None:
        """Let go of what is kept. Idempotent."""
        self._thread.shutdown(cancel_futures=True)
        self._hold([])


def _value(value: Any, values: Values) -> Any:
    if not isinstance(value, Link):
        return value
    outputs = values.get(value.node, ())
    return outputs[value.slot] if value.slot < len(outputs) else None
