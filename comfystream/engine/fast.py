"""A tick compiled to one straight Python function.

The common case, one item per slot and a tuple back, is a call with the arguments in place, a type test and a time
stamp. Nothing is looked up, copied or wrapped. When a node does anything else (returns a dictionary, a blocker, an
expansion) the function stops there and says so (`Bail`); the scheduler runs the rest of that tick.
"""

from __future__ import annotations

import keyword
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfystream.catalog.comfyui.compat_running import CurrentNode, keeps_context, node_context, node_entrance
from comfystream.engine.bound import Binder
from comfystream.engine.fingerprint import Fingerprint
from comfystream.engine.invoke import blocked_in, call_arguments, merge, normalise
from comfystream.engine.plan import LanePlan
from comfystream.engine.step import Schedule, Step
from comfystream.engine.values import MISSING, PASSTHROUGH, Items, node_output_type
from comfystream.workflow.model import Link

__all__ = ["Bail", "CompiledTick", "VolatileStep", "compile_tick"]


@dataclass(frozen=True, slots=True)
class Bail:
    """A tick that the compiled function did not finish.

    Attributes:
        index: the step (in `LanePlan.steps`) that gave something else.
        raw: what its function returned; MISSING when it was not called.
        live: the values that later steps read, by producing link.
    """

    index: int
    raw: Any
    live: Mapping[Link, Any]


Tick = Callable[[Any, Any, list[Any], list[int], list[int]], Any]


@dataclass(frozen=True, slots=True)
class CompiledTick:
    """A tick and what it takes to say which node a failure came from.

    Attributes:
        run: `run(frame, mask, cross, total_ns, max_ns)` gives the output values as a tuple, or a `Bail`.
        lines: first line of the source of each step, ascending.
        filename: name of the generated source in tracebacks.
        source: the generated text, for debugging.
    """

    run: Tick
    lines: tuple[int, ...]
    filename: str
    source: str

    def step_index(self, error: BaseException) -> int | None:
        """Which step raised, from where in the generated source the traceback points.

        Costs nothing until it happens.
        """
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.filename:
                reached = [index for index, line in enumerate(self.lines) if line <= trace.tb_lineno]
                return reached[-1] if reached else None
            trace = trace.tb_next
        return None


class VolatileStep:
    """A step without a live input that runs again only when its fingerprint or a value that it reads has changed."""

    def __init__(
        self, call: Callable[..., Any], fingerprint: Fingerprint | None, last_arguments: tuple[Any, ...], last: Any
    ) -> None:
        self._call = call
        self._fingerprint = fingerprint
        self._arguments = last_arguments
        self._last = last

    def __call__(self, *arguments: Any) -> Any:
        """The last result, or a new one.

        Arguments are compared by identity: what did not run again is the same object.
        """
        unchanged = len(arguments) == len(self._arguments) and all(
            a is b for a, b in zip(arguments, self._arguments, strict=True)
        )
        if unchanged and (self._fingerprint is None or not self._fingerprint.changed()):
            return self._last
        result = self._call(*arguments)
        if type(result) is not _Irregular:
            self._arguments, self._last = arguments, result
        return result


class _Irregular:
    """What a general call gives when its outputs cannot stand in local variables of the tick."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw = raw


def general_call(step: Step, binder: Binder, blocker: type) -> Callable[..., Any]:
    """A function of the step's linked values that gives its used outputs as a tuple; lists are mapped.

    A blocker or an expansion comes back as `_Irregular` with the raw result.
    """
    function = binder.function(step)
    enter, context = node_entrance(), node_context(step.id)
    names = [name for name, _ in step.links]
    fixed = {**binder.extra_arguments(step), **step.constants}
    raw_links = {name: [link.node, link.slot] for name, link in step.links if name in step.raw}
    used = step.used

    def call(*values: Any) -> Any:
        calls = call_arguments(step, {**fixed, **dict(zip(names, values, strict=True)), **raw_links})
        if any(blocked_in(step, arguments, blocker) is not None for arguments in calls):
            return _Irregular(MISSING)  # not called yet: the scheduler knows what to do and whom to tell
        results = []
        for index, arguments in enumerate(calls):
            enter(node_context(step.id, index) if index else context)
            raw = function(**arguments)
            result = normalise(step, raw, blocker)
            if result.expand is not None or any(type(v) is blocker for v in result.values or ()):
                return _Irregular(raw)
            results.append(result.values)
        outputs = merge(step, results)
        return tuple(outputs[slot] if slot < len(outputs) else None for slot in used)

    return call


def compile_tick(
    plan: LanePlan,
    binder: Binder,
    blocker: type,
    static: Callable[[Link], Any],
    cross_index: Mapping[Link, int],
    volatile: Mapping[str, VolatileStep],
    *,
    profile: bool = True,
    general: frozenset[str] = frozenset(),
) -> CompiledTick:
    """Generate the tick of a lane.

    Args:
        plan: the lane; not dynamic.
        binder: gives the functions.
        blocker: the `ExecutionBlocker` class.
        static: value of a link to a static node.
        cross_index: where in `cross` a value stands that another lane makes or reads.
        volatile: the callables of volatile steps, by node id.
        profile: time every step.
        general: ids of steps known to return something unusual; they are called the general way.
    """
    return _Writer(plan, binder, blocker, static, cross_index, volatile, profile, general).write()


class _Writer:
    def __init__(
        self,
        plan: LanePlan,
        binder: Binder,
        blocker: type,
        static: Callable[[Link], Any],
        cross_index: Mapping[Link, int],
        volatile: Mapping[str, VolatileStep],
        profile: bool,
        general: frozenset[str],
    ) -> None:
        self._plan = plan
        self._binder = binder
        self._blocker = blocker
        self._static = static
        self._cross = cross_index
        self._volatile = volatile
        self._profile = profile
        self._general = general
        self._current = None if keeps_context(step.spec.cls for step in plan.steps) else CurrentNode()
        self._index = {step.id: i for i, step in enumerate(plan.steps)}
        self._closure: dict[str, Any] = {
            "B": blocker,
            "Bail": Bail,
            "C": self._current,
            "enter": node_entrance(),
            "Irregular": _Irregular,
            "MISSING": MISSING,
            "N": node_output_type(),
            "PASSTHROUGH": PASSTHROUGH,
            "now": time.perf_counter_ns,
        }
        self._lines: list[str] = []
        self._names: dict[Link, str] = {}
        self._lists: set[str] = set()
        self._last_use = self._find_last_uses()

    # --- what is read where

    def _find_last_uses(self) -> dict[Link, int]:
        end = len(self._plan.steps)
        last: dict[Link, int] = {}
        for i, step in enumerate(self._plan.steps):
            for _, link in step.links:
                last[link] = i
        for output in self._plan.outputs:
            if isinstance(output.value, Link):
                last[output.value] = end
        return last

    def _name(self, link: Link) -> str:
        """The variable (or closure constant) that holds a link's value."""
        found = self._names.get(link)
        if found is None:
            found = self._names[link] = self._make_name(link)
        return found

    def _make_name(self, link: Link) -> str:
        if link.node in self._index:
            return f"v{self._index[link.node]}_{link.slot}"
        if self._is_bound_here(link):
            return "mask" if link.slot == 1 else "frame"
        if link in self._plan.crossing:
            return f"x{self._cross[link]}"
        name = f"s{len(self._closure)}"
        self._closure[name] = value = self._static(link)
        if type(value) is Items:
            self._lists.add(name)
        return name

    def _is_bound_here(self, link: Link) -> bool:
        return link.node in self._plan.bound_inputs

    # --- writing

    def write(self) -> CompiledTick:
        body = self._lines
        starts: list[int] = []
        for link in self._plan.crossing:
            body.append(f"x{self._cross[link]} = X[{self._cross[link]}]")
        if self._plan.crossing:
            test = " or ".join(f"x{self._cross[link]} is MISSING" for link in self._plan.crossing)
            body.append(f"if {test}: return None")
        if self._current is not None:
            body.append("enter(C)")
        body.append("t0 = now()" if self._profile else "pass")
        for i, step in enumerate(self._plan.steps):
            starts.append(len(body))
            self._write_step(i, step)
        for link, index in self._cross.items():
            if link.node in self._index or self._is_bound_here(link):
                body.append(f"X[{index}] = {self._name(link)}")
        results = [self._output_name(output.value) for output in self._plan.outputs]
        body.append(f"return ({''.join(name + ', ' for name in results)})")
        return self._compile(starts)

    def _output_name(self, value: Any) -> str:
        if not isinstance(value, Link):
            return self._constant(value)
        return "PASSTHROUGH" if self._is_bound_here(value) and value.slot == 0 else self._name(value)

    def _constant(self, value: Any) -> str:
        name = f"k{len(self._closure)}"
        self._closure[name] = value
        return name

    def _write_step(self, i: int, step: Step) -> None:
        if step.schedule is Schedule.VOLATILE or self._needs_general(step):
            self._write_general(i, step)
        else:
            self._write_plain(i, step)
        dead = [self._name(link) for _, link in step.links if self._last_use[link] == i and link.node in self._index]
        if dead:
            self._lines.append(f"{' = '.join(dict.fromkeys(dead))} = None")
        if self._profile:
            self._lines.append(f"t1 = now(); d = t1 - t0; t0 = t1; T[{i}] += d")
            self._lines.append(f"if d > M[{i}]: M[{i}] = d")

    def _needs_general(self, step: Step) -> bool:
        spec = step.spec
        return (
            step.id in self._general
            or spec.is_output
            or spec.input_is_list
            or any(spec.output_is_list)
            or any(self._name(link) in self._lists for _, link in step.links)
        )

    def _write_plain(self, i: int, step: Step) -> None:
        self._closure[f"f{i}"] = self._binder.function(step)
        context = self._constant(node_context(step.id))
        self._lines.append(f"enter({context})" if self._current is None else f"C.context = {context}")
        fixed = {**self._binder.extra_arguments(step), **step.constants}
        given = [(name, self._constant(value)) for name, value in fixed.items()]
        given += [(name, self._name(link)) for name, link in step.links]
        self._lines.append(f"r = f{i}({_arguments(given)})")
        if step.spec.api == "v3":
            self._lines.append(
                "if type(r) is N and r.ui is None and r.expand is None and r.block_execution is None: r = r.args"
            )
        if not step.used:
            return
        tests = [f"type(r) is not tuple or len(r) <= {step.used[-1]}"]
        tests += [f"type(r[{slot}]) is B" for slot in step.used]
        self._lines.append(f"if {' or '.join(tests)}: {self._bail(i, 'r')}")
        self._lines.extend(f"{self._name(Link(step.id, slot))} = r[{slot}]" for slot in step.used)
        self._lines.append("r = None")

    def _write_general(self, i: int, step: Step) -> None:
        call = self._volatile.get(step.id) if step.schedule is Schedule.VOLATILE else None
        self._closure[f"g{i}"] = call or general_call(step, self._binder, self._blocker)
        arguments = ", ".join(self._name(link) for _, link in step.links)
        self._lines.append(f"r = g{i}({arguments})")
        if self._current is not None:
            self._lines.append("enter(C)")  # a general call entered its own
        self._lines.append(f"if type(r) is Irregular: {self._bail(i, 'r.raw')}")
        names = [self._name(Link(step.id, slot)) for slot in step.used]
        if names:
            self._lines.append(f"{', '.join(names)}, = r")
        if (
            any(step.spec.output_is_list)
            or any(self._name(link) in self._lists for _, link in step.links)
            or step.schedule is Schedule.VOLATILE
        ):
            self._lists.update(names)
        self._lines.append("r = None")

    def _bail(self, i: int, raw: str) -> str:
        """Leave the tick at step `i`, with the values that later steps read."""
        live = self._live_links(i)
        values = "".join(f"{self._name(link)}, " for link in live)
        return f"return Bail({i}, {raw}, dict(zip({self._constant(live)}, ({values}))))"

    def _live_links(self, i: int) -> list[Link]:
        return [
            link
            for link, last in self._last_use.items()
            if last >= i and (link.node in self._index and self._index[link.node] < i)
        ]

    def _compile(self, starts: Sequence[int]) -> CompiledTick:
        filename = f"<tick of the {self._plan.lane} lane {id(self):x}>"
        head = [f"def make({', '.join(self._closure)}):", " def tick(frame, mask, X, T, M):"]
        source = "\n".join([*head, *(f"  {line}" for line in self._lines), " return tick"])
        scope: dict[str, Any] = {}
        exec(compile(source, filename, "exec"), scope)
        run: Tick = scope["make"](**self._closure)
        return CompiledTick(run, tuple(start + len(head) + 1 for start in starts), filename, source)


def _arguments(given: Sequence[tuple[str, str]]) -> str:
    """A call's keyword arguments; names that are no identifiers ("combo.child") go through a dict."""
    plain = [f"{name}={value}" for name, value in given if name.isidentifier() and not keyword.iskeyword(name)]
    odd = [f"{name!r}: {value}" for name, value in given if not (name.isidentifier() and not keyword.iskeyword(name))]
    return ", ".join([*plain, *([f"**{{{', '.join(odd)}}}"] if odd else [])])
