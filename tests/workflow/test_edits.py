"""Edits and history."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from comfystream.errors import WorkflowError
from comfystream.workflow.api_format import parse_api
from comfystream.workflow.edits import Edit, Patch, SetValues, SetWorkflow, apply, parse_target
from comfystream.workflow.history import History
from comfystream.workflow.model import Link, Literal, Workflow


@pytest.fixture
def workflow() -> Workflow:
    return parse_api(
        {
            "1": {"class_type": "LoadTensor", "inputs": {}},
            "2": {"class_type": "Blur", "inputs": {"image": ["1", 0], "radius": 3}, "_meta": {"title": "Soft v1.5"}},
            "3": {"class_type": "SaveTensor", "inputs": {"images": ["2", 0]}},
            "4": {"class_type": "Number", "inputs": {"value": 3}},
            "5": {"class_type": "Number", "inputs": {"value": 4}},
            "6:1": {"class_type": "Resize", "inputs": {"image": ["1", 0]}},
        }
    )


def patched(workflow: Workflow, catalog: Any, node: str, name: str, value: Any, *, relink: bool = False) -> Any:
    edit = SetValues(patches=[Patch(node=node, input=name, value=value, relink=relink)])
    return apply(workflow, edit, catalog).nodes[node].inputs[name]


def test_a_patch_makes_a_new_workflow(workflow: Workflow, catalog: Any) -> None:
    edit = SetValues(patches=[Patch(node="2", input="radius", value=9), Patch(node="4", input="value", value=1)])
    after = apply(workflow, edit, catalog)
    assert (after.nodes["2"].inputs["radius"], after.nodes["4"].inputs["value"]) == (9, 1)
    assert (workflow.nodes["2"].inputs["radius"], workflow.nodes["4"].inputs["value"]) == (3, 3)
    assert after.nodes["1"] is workflow.nodes["1"]
    assert list(after.nodes) == list(workflow.nodes)


@pytest.mark.parametrize(
    ("value", "meant"),
    [(["4", 0], Link("4", 0)), ([1, 2], Literal([1, 2])), ({"__value__": ["4", 0]}, Literal(["4", 0])), ("x", "x")],
)
def test_values_and_links(workflow: Workflow, catalog: Any, value: Any, meant: Any) -> None:
    assert patched(workflow, catalog, "2", "radius", value) == meant


def test_a_declared_input_can_be_set_for_the_first_time(workflow: Workflow, catalog: Any) -> None:
    assert patched(workflow, catalog, "2", "mode", "hard") == "hard"
    assert patched(workflow, catalog, "6:1", "resize", "to size") == "to size"
    with pytest.raises(WorkflowError, match='no input "mode"'):
        patched(workflow, None, "2", "mode", "hard")


def test_a_linked_input_takes_another_link_but_no_value(workflow: Workflow, catalog: Any) -> None:
    assert patched(workflow, catalog, "3", "images", ["1", 0]) == Link("1", 0)
    assert patched(workflow, catalog, "3", "images", 5, relink=True) == 5
    with pytest.raises(WorkflowError, match='linked to node 2.*change node 2 "Blur"'):
        patched(workflow, catalog, "3", "images", 5)


@pytest.mark.parametrize(
    ("node", "name", "value", "code", "hint"),
    [
        ("2", "radus", 1, "unknown_input", 'did you mean "radius"?'),
        ("2", "zzz", 1, "unknown_input", "it has: image, radius, mode"),
        ("6:l", "x", 1, "unknown_node", 'did you mean "6:1"?'),
        ("2", "image", ["77", 0], "unknown_node", "there are:"),
    ],
)
def test_names_what_is_near(
    workflow: Workflow, catalog: Any, node: str, name: str, value: Any, code: str, hint: str
) -> None:
    with pytest.raises(WorkflowError) as caught:
        patched(workflow, catalog, node, name, value)
    assert caught.value.code == code
    assert hint in caught.value.hint


def test_one_bad_patch_spoils_the_edit(workflow: Workflow, catalog: Any) -> None:
    edit = SetValues(patches=[Patch(node="2", input="radius", value=9), Patch(node="nope", input="a", value=1)])
    with pytest.raises(WorkflowError):
        apply(workflow, edit, catalog)
    assert workflow.nodes["2"].inputs["radius"] == 3


def test_the_whole_graph_can_be_set(workflow: Workflow, catalog: Any) -> None:
    after = apply(workflow, SetWorkflow(workflow={"1": {"class_type": "LoadTensor", "inputs": {}}}), catalog)
    assert list(after.nodes) == ["1"]
    with pytest.raises(WorkflowError):
        apply(workflow, SetWorkflow(workflow={"a": 1}), catalog)


def test_edits_are_told_apart_by_kind() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Edit)
    patch = {"node": "2", "input": "radius", "value": 5}
    assert isinstance(adapter.validate_python({"kind": "values", "patches": [patch]}), SetValues)
    assert isinstance(adapter.validate_python({"kind": "workflow", "workflow": {}}), SetWorkflow)
    too_much = {"kind": "values", "patches": [patch | {"extra": 1}]}
    for bad in ({"kind": "values", "patches": []}, too_much, {"kind": "x"}):
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)


@pytest.mark.parametrize(
    ("text", "node", "name", "value"),
    [
        ("2.radius=5", "2", "radius", 5),
        ("Blur.radius=5", "2", "radius", 5),
        ("Soft v1.5.radius=5", "2", "radius", 5),
        ("2.mode=hard", "2", "mode", "hard"),
        ('2.mode="a=b"', "2", "mode", "a=b"),
        ("2.mode=a=b", "2", "mode", "a=b"),
        ("2.mode=", "2", "mode", ""),
        ("2.radius=true", "2", "radius", True),
        ("2.radius=[1,2]", "2", "radius", {"__value__": [1, 2]}),
        ('2.radius=["4",0]', "2", "radius", ["4", 0]),
        ("6:1.resize=to size", "6:1", "resize", "to size"),
    ],
)
def test_set_targets(workflow: Workflow, catalog: Any, text: str, node: str, name: str, value: Any) -> None:
    assert parse_target(workflow, text, catalog) == Patch(node=node, input=name, value=value)


def test_set_targets_with_a_dotted_input(workflow: Workflow, catalog: Any) -> None:
    chosen = apply(workflow, SetValues(patches=[Patch(node="6:1", input="resize", value="by factor")]), catalog)
    assert parse_target(chosen, "Resize.resize.factor=0.5", catalog).input == "resize.factor"


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("2", "bad_target", "node.input=value"),
        ("radius=3", "bad_target", "node.input=value"),
        ("Blurr.radius=3", "unknown_node", 'did you mean "Blur"?'),
        ("soft v1.6.radius=3", "unknown_node", ""),
        ("2.radious=3", "unknown_input", 'did you mean "radius"?'),
        ("Number.value=3", "ambiguous_node", "4.value=..."),
    ],
)
def test_set_targets_that_do_not_exist(workflow: Workflow, catalog: Any, text: str, code: str, hint: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        parse_target(workflow, text, catalog)
    assert caught.value.code == code
    assert hint in caught.value.hint


def test_undo_and_redo_walk_through_the_revisions() -> None:
    one, two, three, four = (Workflow({}, source=str(i)) for i in range(4))
    history = History(one, who="ann")
    history.push(two, who="bob", why="brighter")
    history.push(three)
    assert [entry.number for entry in history.entries] == [1, 2, 3]
    assert history.undo().why == "brighter"
    assert history.undo().workflow is one
    assert not history.can_undo
    assert history.redo().workflow is two
    assert history.push(four).number == 4
    assert [entry.number for entry in history.entries] == [1, 2, 4]
    assert not history.can_redo
    with pytest.raises(WorkflowError, match="nothing to redo"):
        history.redo()


def test_history_is_bounded() -> None:
    history = History(Workflow({}), limit=3)
    for _ in range(10):
        history.push(Workflow({}))
    assert [entry.number for entry in history.entries] == [9, 10, 11]
    history.undo()
    history.undo()
    with pytest.raises(WorkflowError, match="nothing to undo"):
        history.undo()
    with pytest.raises(ValueError, match="at least 1"):
        History(Workflow({}), limit=0)
