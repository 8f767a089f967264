"""Run steps on demand, with everything that ComfyUI's executor can do: lazy inputs, async nodes, expansion, lists,
blockers.

This is the general way; it runs what is static, the rare lanes that need it, and the rest of a tick in which a node did
something that the compiled tick (`fast.py`) does not handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfystream.catalog.comfyui.compat_running import node_context, node_entrance, raised_by_nodes
from comfystream.catalog.spec import Catalog
from comfystream.engine.bound import Binder
from comfystream.engine.expansion import as_input, follow, is_link, set_graph_prefix
from comfystream.engine.hints import hint_for
from comfystream.engine.invoke import CallResult, blocked_in, call_arguments, merge, merge_ui, normalise
from comfystream.engine.step import Step, make_step
from comfystream.engine.store import Kept, StaticStore
from comfystream.errors import ComfyStreamError, EngineError, NodeError, WorkflowError
from comfystream.workflow.model import Node

__all__ = ["Observer", "Scheduler", "node_error"]


class Observer:
    """What somebody wants to know while steps run. All methods may be overridden."""

    def started(self, step: Step) -> None:
        """The node's function is about to be called."""

    def finished(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        """It was called and gave its outputs."""

    def cached(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        """It was not called: an equal result is kept."""

    def blocked(self, step: Step, message: str) -> None:
        """An `ExecutionBlocker` with a message stopped it."""


def node_error(step: Step, error: BaseException) -> NodeError:
    """What a node raised, as an error that names the node."""
    if isinstance(error, NodeError):
        return error
    message = error.message if isinstance(error, ComfyStreamError) else str(error) or type(error).__name__
    hint = error.hint if isinstance(error, ComfyStreamError) else hint_for(error)
    wrapped = NodeError(
        message.strip().splitlines()[0] if message.strip() else type(error).__name__,
        node_id=step.display_id or step.id,
        class_type=step.spec.key,
        exception_type=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        trace="".join(traceback.format_exception(error)),
        hint=hint,
    )
    wrapped.__cause__ = error
    return wrapped


@dataclass(slots=True)
class _State:
    """One run of the scheduler."""

    waiting: dict[str, set[str]] = field(default_factory=dict)
    dependents: dict[str, list[str]] = field(default_factory=dict)
    ready: deque[str] = field(default_factory=deque)
    asked: dict[str, set[str]] = field(default_factory=dict)
    tasks: dict[asyncio.Task[list[CallResult]], str] = field(default_factory=dict)
    expanding: dict[str, list[CallResult]] = field(default_factory=dict)
    ephemeral: dict[str, Step] = field(default_factory=dict)


class Scheduler:
    """Evaluates steps into a mapping of node id to slot values.

    Args:
        steps: the plan's steps by id.
        catalog: for the classes that expansions name.
        binder: functions and hidden values.
        store: results that are kept by content; None to keep nothing.
        signatures: signature per node id, for steps that may be kept.
        blocker: the `ExecutionBlocker` class.
        observer: told what runs.
        timed_by: called around every node call with the step, to measure time; may be set between runs.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        catalog: Catalog,
        binder: Binder,
        blocker: type,
        *,
        store: StaticStore | None = None,
        signatures: Mapping[str, int | None] | None = None,
        observer: Observer | None = None,
        timed_by: Callable[[Step], contextlib.AbstractContextManager[None]] | None = None,
    ) -> None:
        self._steps = steps
        self._catalog = catalog
        self.binder = binder
        self._blocker = blocker
        self._store = store
        self._signatures = signatures or {}
        self._observer = observer or Observer()
        self.timed_by = timed_by or (lambda step: contextlib.nullcontext())

    async def run(
        self,
        targets: Iterable[str],
        values: dict[str, tuple[Any, ...]],
        *,
        resume: tuple[str, Any] | None = None,
    ) -> None:
        """Evaluate `targets` and whatever they need into `values`.

        Args:
            targets: node ids.
            values: slot values by node id; what is in it already is not run. Gets the results.
            resume: a node id and what its function just returned, to go on from there.

        Raises:
            NodeError: a node raised.
            WorkflowError: the steps depend on each other in a circle.
        """
        state = _State()
        if resume is not None:
            id, raw = resume
            step = self._steps[id]
            self._settle(state, step, [self._normalise(step, raw)], values)
        for target in targets:
            self._need(state, target, values)
        try:
            while state.ready or state.tasks:
                while state.ready:
                    await self._advance(state, state.ready.popleft(), values)
                if state.tasks:
                    done, _ = await asyncio.wait(state.tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        step = self._step(state, state.tasks.pop(task))
                        self._settle(state, step, self._result_of(step, task), values)
        finally:
            for task in state.tasks:
                task.cancel()
        if left := [id for id in state.waiting if id not in values]:
            raise WorkflowError(
                f"the workflow has a cycle through node {left[0]}", code="dependency_cycle", node_id=left[0]
            )

    def _step(self, state: _State, id: str) -> Step:
        step = self._steps.get(id) or state.ephemeral.get(id)
        if step is None:
            raise WorkflowError(f"a link goes to node {id}, which is not in the workflow", node_id=id)
        return step

    # --- who waits for whom

    def _need(self, state: _State, id: str, values: Mapping[str, Any]) -> None:
        """Make sure that `id` gets evaluated."""
        todo = [id]
        while todo:
            id = todo.pop()
            if id in values or id in state.waiting:
                continue
            step = self._step(state, id)
            state.waiting[id] = set()
            if self._kept(step) is not None:
                state.ready.append(id)
                continue
            for name, link in step.links:
                if name in step.lazy:
                    continue
                if self._wait_for(state, id, link.node, values):
                    todo.append(link.node)
            if not state.waiting[id]:
                state.ready.append(id)

    def _wait_for(self, state: _State, id: str, above: str, values: Mapping[str, Any]) -> bool:
        if above in values or above in state.waiting[id]:
            return False
        state.waiting[id].add(above)
        state.dependents.setdefault(above, []).append(id)
        return True

    def _complete(self, state: _State, id: str) -> None:
        state.waiting.pop(id, None)
        for dependent in state.dependents.pop(id, ()):
            left = state.waiting.get(dependent)
            if left is not None:
                left.discard(id)
                if not left:
                    state.ready.append(dependent)

    # --- one step

    def _kept(self, step: Step) -> Kept | None:
        return self._store.get(self._signatures.get(step.id)) if self._store is not None else None

    async def _advance(self, state: _State, id: str, values: dict[str, tuple[Any, ...]]) -> None:
        if id in values:
            self._complete(state, id)
            return
        step = self._step(state, id)
        if id in state.expanding:
            self._splice(state, step, values)
            return
        if (kept := self._kept(step)) is not None:
            values[id] = kept.outputs
            self._observer.cached(step, kept.ui)
            self._complete(state, id)
            return
        if step.asks_for_lazy and await self._wants_more(state, step, values):
            return
        arguments = self._arguments(step, values)
        self._observer.started(step)
        if step.is_async:
            task = asyncio.ensure_future(self._call_async(step, arguments))
            state.tasks[task] = id
            await asyncio.sleep(0)
        else:
            self._settle(state, step, self._call(step, arguments), values)

    def _arguments(
        self, step: Step, values: Mapping[str, tuple[Any, ...]], *, missing_lazy: bool = False
    ) -> dict[str, Any]:
        """Slot values by input name; an output that its node did not give is None."""
        arguments: dict[str, Any] = {**self.binder.extra_arguments(step), **step.constants}
        for name, link in step.links:
            outputs = values.get(link.node)
            if outputs is None:
                if missing_lazy:
                    arguments[name] = None
                continue
            if name in step.raw:
                arguments[name] = [link.node, link.slot]
            else:
                arguments[name] = outputs[link.slot] if link.slot < len(outputs) else None
        if not missing_lazy:
            arguments.update({name: None for name in step.lazy if name not in arguments})
        return arguments

    async def _wants_more(self, state: _State, step: Step, values: dict[str, tuple[Any, ...]]) -> bool:
        """Ask the node which lazy inputs it needs; True when it has to wait for some."""
        linked = dict(step.links)
        missing = {name for name in step.lazy if linked[name].node not in values}
        if not missing:
            return False
        status = self.binder.lazy_status(step)
        wanted: set[str] = set()
        try:
            for arguments in call_arguments(step, self._arguments(step, values, missing_lazy=True)):
                answer = status(**arguments)
                wanted.update((await answer if inspect.isawaitable(answer) else answer) or ())
        except raised_by_nodes() as error:
            raise node_error(step, error) from error
        unknown = sorted(name for name in wanted if name not in linked and name not in step.constants)
        if unknown:
            raise node_error(step, EngineError(f'asked for input "{unknown[0]}", which is not connected'))
        waits = False
        for name in wanted & missing:
            above = linked[name].node
            waits |= self._wait_for_late(state, step.id, above, values)
        return waits

    def _wait_for_late(self, state: _State, id: str, above: str, values: dict[str, tuple[Any, ...]]) -> bool:
        state.waiting.setdefault(id, set())
        if not self._wait_for(state, id, above, values):
            return False
        self._need(state, above, values)
        return True

    # --- calling

    def _call(self, step: Step, arguments: Mapping[str, Any]) -> list[CallResult]:
        function = self.binder.function(step)
        results = []
        try:
            for index, call in enumerate(call_arguments(step, arguments)):
                blocked = self._blocked(step, call)
                if blocked is not None:
                    results.append(blocked)
                    continue
                self._enter(step, index)
                with self.timed_by(step):
                    raw = function(**call)
                results.append(normalise(step, raw, self._blocker))
        except raised_by_nodes() as error:
            raise node_error(step, error) from error
        return results

    async def _call_async(self, step: Step, arguments: Mapping[str, Any]) -> list[CallResult]:
        function = self.binder.function(step)

        async def one(index: int, call: dict[str, Any]) -> CallResult:
            blocked = self._blocked(step, call)
            if blocked is not None:
                return blocked
            self._enter(step, index)
            with self.timed_by(step):
                raw = await function(**call)
            return normalise(step, raw, self._blocker)

        return list(await asyncio.gather(*(one(i, call) for i, call in enumerate(call_arguments(step, arguments)))))

    def _enter(self, step: Step, index: int) -> None:
        """Tell ComfyUI's modules which node is called, and for which item."""
        set_graph_prefix(step, index)
        node_entrance()(node_context(step.id, index))

    def _result_of(self, step: Step, task: asyncio.Task[list[CallResult]]) -> list[CallResult]:
        try:
            return task.result()
        except raised_by_nodes() as error:
            raise node_error(step, error) from error

    def _normalise(self, step: Step, raw: Any) -> CallResult:
        try:
            return normalise(step, raw, self._blocker)
        except raised_by_nodes() as error:
            raise node_error(step, error) from error

    def _blocked(self, step: Step, call: Mapping[str, Any]) -> CallResult | None:
        blocker = blocked_in(step, call, self._blocker)
        if blocker is None:
            return None
        if blocker.message is not None:
            self._observer.blocked(step, str(blocker.message))
            blocker = self._blocker(None)
        return CallResult((blocker,) * max(len(step.spec.output_types), 1))

    # --- results

    def _settle(self, state: _State, step: Step, results: list[CallResult], values: dict[str, tuple[Any, ...]]) -> None:
        if any(result.expand is not None for result in results):
            self._expand(state, step, results, values)
            return
        self._finish(state, step, merge(step, [result.values for result in results]), results, values)

    def _finish(
        self,
        state: _State,
        step: Step,
        outputs: tuple[Any, ...],
        results: list[CallResult],
        values: dict[str, tuple[Any, ...]],
    ) -> None:
        ui = merge_ui([result.ui for result in results])
        values[step.id] = outputs
        if self._store is not None:
            self._store.put(self._signatures.get(step.id), Kept(outputs, ui))
        self._observer.finished(step, ui)
        self._complete(state, step.id)

    def _expand(self, state: _State, step: Step, results: list[CallResult], values: dict[str, tuple[Any, ...]]) -> None:
        """Put the nodes of the expansion beside the others and wait for those that the result links to."""
        state.waiting.setdefault(step.id, set())
        needed: list[str] = []
        for result in results:
            for id, info in (result.expand or {}).items():
                made = self._ephemeral(step, id, info)
                state.ephemeral[id] = made
                self.binder.hidden.dynprompt.add_ephemeral_node(id, info, step.id, made.display_id)
                if made.spec.is_output:
                    needed.append(id)
            if result.expand is not None:
                needed.extend(value[0] for value in result.values or () if is_link(value))
        state.expanding[step.id] = results
        for id in needed:
            if self._wait_for(state, step.id, id, values):
                self._need(state, id, values)
        if not state.waiting[step.id]:
            state.ready.append(step.id)

    def _ephemeral(self, parent: Step, id: str, info: Mapping[str, Any]) -> Step:
        class_type = info.get("class_type", "")
        spec = self._catalog.get(class_type)
        if spec is None:
            raise node_error(parent, EngineError(f'expanded to node class "{class_type}", which is not installed'))
        inputs = {name: as_input(value) for name, value in info.get("inputs", {}).items()}
        display = info.get("override_display_id") or parent.display_id
        return make_step(Node(id, class_type, inputs), spec, parent=parent.id, display_id=display)

    def _splice(self, state: _State, step: Step, values: dict[str, tuple[Any, ...]]) -> None:
        results = state.expanding.pop(step.id)
        spliced = [
            tuple(follow(value, values) for value in result.values)
            if result.expand is not None and result.values is not None
            else result.values
            for result in results
        ]
        self._finish(state, step, merge(step, spliced), results, values)
