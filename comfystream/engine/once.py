"""Run a workflow once, as ComfyUI does when it is queued: every output node, no live input."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from comfystream.engine.bound import Instances
from comfystream.engine.host import Host
from comfystream.engine.plan import compile_plan
from comfystream.engine.prepare import make_binder, run_static
from comfystream.engine.scheduler import Observer
from comfystream.engine.step import Step
from comfystream.errors import WorkflowError
from comfystream.workflow.check import NOTHING_BOUND, CheckResult, check
from comfystream.workflow.model import Workflow

__all__ = ["OnceResult", "OnceRunner"]


@dataclass(frozen=True, slots=True)
class OnceResult:
    """What one run gave.

    Attributes:
        outputs: what each output node shows (ComfyUI's `ui`), by node id.
        ran: ids of the nodes that were called, in order; nodes of an expansion by their own ids.
        kept: ids of the nodes that were not called, because an equal result was kept from the run before.
        check: what the check found; output nodes with an error above them are left out.
    """

    outputs: Mapping[str, Mapping[str, Any]]
    ran: tuple[str, ...]
    kept: tuple[str, ...]
    check: CheckResult


@dataclass
class _Record(Observer):
    outputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def started(self, step: Step) -> None:
        self.ran.append(step.id)

    def finished(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        if ui is not None:
            self.outputs[step.id] = ui

    def cached(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        self.finished(step, ui)


class OnceRunner:
    """Runs workflows one after the other and keeps what equal nodes gave in the run before. Used by one thread.

    Args:
        host: node classes and kept results.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._instances = Instances()
        self._held: list[int] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="once", initializer=host.enter_thread)

    def run(self, workflow: Workflow, targets: Collection[str] | None = None) -> OnceResult:
        """Check and run.

        Args:
            workflow: the graph.
            targets: ids of the output nodes that are wanted; None for all.

        Raises:
            WorkflowError: no output node can run.
            NodeError: a node raised.
        """
        checked = check(workflow, self._host.catalog, NOTHING_BOUND)
        roots = [id for id in checked.roots if targets is None or id in targets]
        if checked.errors or not roots:
            problems = checked.errors
            raise WorkflowError(
                str(problems[0]) if problems else "no output node is wanted",
                code=problems[0].type if problems else "prompt_no_outputs",
            )
        return self._thread.submit(self._run, checked, roots).result()

    def _run(self, checked: CheckResult, roots: list[str]) -> OnceResult:
        host = self._host
        workflow = checked.workflow
        unwanted = {id for id in workflow.nodes if id not in roots}
        plan = compile_plan(workflow, host.catalog, NOTHING_BOUND, unwanted)
        self._instances.keep_only(plan.steps.values())
        record = _Record()
        binder = make_binder(plan, self._instances)
        prepared = run_static(plan, host.catalog, binder, host.blocker, host.store, host.clock, record, self._hold)
        kept = [id for id in plan.steps if id in prepared.kept]
        return OnceResult(record.outputs, tuple(record.ran), tuple(kept), checked)

    def _hold(self, signatures: list[int]) -> None:
        self._host.store.hold(signatures)
        before, self._held = self._held, signatures
        self._host.store.release(before)

    def close(self) -> None:
        """Let go of what is kept. Idempotent."""
        self._thread.shutdown()
        self._hold([])
