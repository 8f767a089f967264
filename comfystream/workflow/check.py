"""Static checks of a workflow against a catalog: ComfyUI's rules and words, plus hints. No node is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from comfystream.catalog.spec import Catalog
from comfystream.errors import WorkflowError
from comfystream.workflow.bind import PRIMARY, STILL, Bindings, bind
from comfystream.workflow.check_node import NodeReport, check_node
from comfystream.workflow.model import Node, Workflow
from comfystream.workflow.problem import MISSING_CLASS, Problem, did_you_mean, nearest

__all__ = ["NOTHING_BOUND", "CheckResult", "Problem", "check"]

NOTHING_BOUND = Bindings()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        workflow: the same graph with its constants converted to what the inputs want.
        problems: errors and warnings, in file order of their nodes; those of the whole workflow come first.
        bindings: its live inputs and outputs; None when they cannot be told.
        roots: ids of the nodes whose results are wanted and that can run.
        dropped: roots that are left out because something above them is wrong.
    """

    workflow: Workflow
    problems: tuple[Problem, ...] = ()
    bindings: Bindings | None = None
    roots: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep it from running."""
        return tuple(problem for problem in self.problems if problem.is_error)

    @property
    def is_ok(self) -> bool:
        """Whether it can run."""
        return not self.errors


def check(workflow: Workflow, catalog: Catalog, bindings: Bindings | None = None) -> CheckResult:
    """Check a workflow as ComfyUI would when it is queued.

    Only nodes that a root needs are checked; roots are output nodes and bound live outputs. A root that fails is left
    out with warnings while another one is good, except when it is a bound output: then what is wrong is an error.

    Args:
        workflow: the graph.
        catalog: the node classes.
        bindings: its live inputs and outputs, found by `bind` when left out; `NOTHING_BOUND` gives ComfyUI's own view.
    """
    problems = list(workflow.warnings)
    nodes = workflow.nodes.values()
    missing = [_missing_class(node, catalog) for node in nodes if catalog.get(node.class_type) is None]
    if bindings is None:
        bindings = _bindings(workflow, problems)
    if missing:
        return CheckResult(workflow, (*missing, *problems), bindings)
    roots = _roots(workflow, catalog, bindings)
    if not roots:
        return CheckResult(workflow, (_no_outputs(), *(p for p in problems if p.type != "missing_output")), bindings)
    walk = _Walk(workflow, catalog, bindings or NOTHING_BOUND)
    for root in roots:
        walk.validate(root)
    dropped = tuple(root for root in roots if not walk.is_valid[root])
    good = tuple(root for root in roots if walk.is_valid[root])
    found = _in_file_order(workflow, walk, _fatal_nodes(walk, dropped, good, bindings or NOTHING_BOUND))
    return CheckResult(walk.coerced(), (*problems, *found), bindings, good, dropped)


def _bindings(workflow: Workflow, problems: list[Problem]) -> Bindings | None:
    try:
        bindings = bind(workflow)
    except WorkflowError as error:
        problems.append(Problem(error.code, error.message, hint=error.hint))
        return None
    problems.extend(bindings.warnings)
    return bindings


def _missing_class(node: Node, catalog: Catalog) -> Problem:
    title = node.title or node.class_type
    near = nearest(node.class_type, catalog.keys())
    hint = f'node {node.id} "{node.class_type}" is not installed; '
    return Problem(
        MISSING_CLASS,
        f"Node '{title}' not found. The custom node may not be installed.",
        details=f"Node ID '#{node.id}'",
        hint=hint + (did_you_mean(node.class_type, near) or "install the node pack that has it"),
        node_id=node.id,
        class_type=node.class_type,
        extra_info={"node_id": node.id, "class_type": node.class_type, "node_title": title},
    )


def _no_outputs() -> Problem:
    return Problem(
        "prompt_no_outputs", "Prompt has no outputs", hint="add a SaveTensor, PreviewImage or another output node"
    )


def _roots(workflow: Workflow, catalog: Catalog, bindings: Bindings | None) -> list[str]:
    bound = {live.node_id for live in bindings.outputs} if bindings is not None else set()
    return [node.id for node in workflow.nodes.values() if node.id in bound or _is_output(node, catalog)]


def _is_output(node: Node, catalog: Catalog) -> bool:
    spec = catalog.get(node.class_type)
    return spec is not None and spec.is_output


def _fatal_nodes(walk: _Walk, dropped: tuple[str, ...], good: tuple[str, ...], bindings: Bindings) -> set[str]:
    """Nodes whose problems are errors: all, unless only unbound roots suffer while another root is good."""
    bound = {live.node_id for live in bindings.outputs}
    fatal_roots = [root for root in dropped if root in bound or not good]
    return {node_id for root in fatal_roots for node_id in walk.above(root)}


def _in_file_order(workflow: Workflow, walk: _Walk, fatal: set[str]) -> Iterator[Problem]:
    for node_id in workflow.nodes:
        for problem in walk.problems.get(node_id, ()):
            if problem.is_error and node_id not in fatal:
                hint = "; ".join(filter(None, (problem.hint, "what needs this node is left out")))
                problem = replace(problem, is_error=False, hint=hint)
            yield problem


@dataclass(slots=True)
class _Step:
    """A node on the way from a root upwards; `via` is the input of the consumer it was reached by."""

    node_id: str
    via: str | None
    report: NodeReport
    waiting: list[tuple[str, str]] = field(default_factory=list)


class _Walk:
    """Depth first from the roots upwards, with an own stack: a long chain must not hit Python's recursion limit."""

    def __init__(self, workflow: Workflow, catalog: Catalog, bindings: Bindings) -> None:
        self.workflow = workflow
        self.catalog = catalog
        self.fed = {live.node_id for live in bindings.inputs if live.class_type in (PRIMARY, STILL)}
        self.reports: dict[str, NodeReport] = {}
        self.problems: dict[str, list[Problem]] = {}
        self.is_valid: dict[str, bool] = {}
        self.path: list[_Step] = []
        self.on_path: set[str] = set()

    def validate(self, root: str) -> None:
        """Check `root` and everything it needs that was not checked yet."""
        if root in self.is_valid:
            return
        self._enter(root, None)
        while self.path:
            step = self.path[-1]
            if step.waiting:
                via, node_id = step.waiting.pop()
                self._visit(via, node_id)
            else:
                self._leave()

    def _visit(self, via: str, node_id: str) -> None:
        if node_id in self.is_valid:
            return
        if node_id in self.on_path:
            path = [step.node_id for step in self.path]
            self._report_cycle([*path[path.index(node_id) :], node_id])
        else:
            self._enter(node_id, via)

    def _enter(self, node_id: str, via: str | None) -> None:
        node = self.workflow.nodes[node_id]
        # a bound picture node is fed by the engine: its own file name is not looked at
        report = NodeReport(dict(node.inputs)) if node_id in self.fed else check_node(node, self.workflow, self.catalog)
        self.reports[node_id] = report
        self.path.append(_Step(node_id, via, report, report.follow[::-1]))
        self.on_path.add(node_id)

    def _leave(self) -> None:
        step = self.path.pop()
        self.on_path.discard(step.node_id)
        report = step.report
        found = [*report.problems, *(_worded(failure, step.via) for failure in report.failures)]
        self.problems.setdefault(step.node_id, []).extend([*found, *report.warnings])
        is_above_valid = all(self.is_valid.get(node_id, False) for _, node_id in report.follow)
        self.is_valid[step.node_id] = self.is_valid.get(step.node_id, True) and not found and is_above_valid

    def _report_cycle(self, path: list[str]) -> None:
        nodes = list(dict.fromkeys(path))
        details = " -> ".join(f"{node_id} ({self.workflow.nodes[node_id].class_type})" for node_id in path)
        for node_id in nodes:
            self.is_valid[node_id] = False
            self.problems.setdefault(node_id, []).append(
                Problem(
                    "dependency_cycle",
                    "Dependency cycle detected",
                    details=details,
                    hint="a node cannot need its own result; cut one of these links",
                    node_id=node_id,
                    class_type=self.workflow.nodes[node_id].class_type,
                    extra_info={"node_id": node_id, "cycle_nodes": nodes},
                )
            )

    def above(self, root: str) -> set[str]:
        """`root` and all that was checked because of it."""
        seen = {root}
        waiting = [root]
        while waiting:
            for _, node_id in self.reports[waiting.pop()].follow:
                if node_id not in seen:
                    seen.add(node_id)
                    waiting.append(node_id)
        return seen

    def coerced(self) -> Workflow:
        """The workflow with converted constants."""
        nodes: Mapping[str, Node] = {
            node.id: replace(node, inputs=self.reports[node.id].inputs) if node.id in self.reports else node
            for node in self.workflow.nodes.values()
        }
        return replace(self.workflow, nodes=nodes)


def _worded(failure: Problem, via: str | None) -> Problem:
    """ComfyUI words an exception by whether the node is a root or is needed by input `via` of another."""
    if via is None:
        return failure
    return replace(
        failure,
        type="exception_during_inner_validation",
        message="Exception when validating inner node",
        extra_info={**failure.extra_info, "input_name": via, "exception_message": failure.details},
    )
