"""The check: ComfyUI's error types, messages and details per node and input, each with a hint of our own.

Expected messages and details are what ComfyUI 0.33 answers for the same graph.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from comfystream.workflow.api_format import parse_api, to_api
from comfystream.workflow.check import NOTHING_BOUND, CheckResult, check
from comfystream.workflow.problem import Problem
from comfystream.workflow.types import matches

Graph = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def between(tested: dict[str, Any], **more: dict[str, Any]) -> Graph:
    """LoadTensor (1), the node under test (2), SaveTensor (3)."""
    return {"1": node("LoadTensor"), "2": tested, "3": node("SaveTensor", images=["2", 0]), **more}


def errors(result: CheckResult) -> list[tuple[str | None, str, str, str]]:
    return [(problem.node_id, problem.type, problem.message, problem.details) for problem in result.errors]


def only(result: CheckResult) -> Problem:
    assert len(result.problems) == 1, result.problems
    return result.problems[0]


def test_a_good_workflow_has_no_problems(catalog: Any) -> None:
    result = check(parse_api(between(node("Blur", image=["1", 0], radius=3, mode="soft"))), catalog)
    assert result.problems == ()
    assert result.roots == ("3",)
    assert result.bindings is not None
    assert [live.node_id for live in result.bindings.inputs] == ["1"]


INNER = "exception_during_inner_validation"
INNER_WORDS = "Exception when validating inner node"
BLUR = {"image": ["1", 0], "radius": 3}


@pytest.mark.parametrize(
    ("tested", "kind", "message", "details", "hint"),
    [
        (
            node("Blur", radius=3),
            *("required_input_missing", "Required input is missing", "image", "connect or set image (IMAGE)"),
        ),
        (
            node("Blur", image=["1", 0], Radius=3),
            *("required_input_missing", "Required input is missing", "radius", 'did you mean "Radius"?'),
        ),
        (
            node("Blur", image=["1", 0, 2], radius=3),
            "bad_linked_input",
            "Bad linked input, must be a length-2 list of [node_id, slot_index]",
            "image",
            "a list is taken for a link",
        ),
        (
            node("Blur", image=["4", 0], radius=3),
            "return_type_mismatch",
            "Return type mismatch between linked nodes",
            "image, received_type(INT) mismatch input_type(IMAGE)",
            'image wants IMAGE; output 0 of node 4 "Number" gives INT',
        ),
        (
            node("Blur", image=["1", 0], radius="wide"),
            "invalid_input_type",
            "Failed to convert an input value to a INT value",
            "radius, wide, invalid literal for int() with base 10: 'wide'",
            "radius wants a whole number",
        ),
        (
            node("Blur", image=["1", 0], radius=None),
            "invalid_input_type",
            "Failed to convert an input value to a INT value",
            "radius, None, int() argument must be a string, a bytes-like object or a real number, not 'NoneType'",
            "a whole number",
        ),
        (
            node("Blur", image=["1", 0], radius=0),
            *("value_smaller_than_min", "Value 0 smaller than min of 1", "radius", "radius takes 1 to 31"),
        ),
        (
            node("Blur", image=["1", 0], radius="99"),
            *("value_bigger_than_max", "Value 99 bigger than max of 31", "radius", "radius takes 1 to 31"),
        ),
        (
            node("Blur", **BLUR, mode="medan"),
            "value_not_in_list",
            "Value not in list",
            "mode: 'medan' not in ['soft', 'hard', 'median']",
            "mode takes median (one of 3)",
        ),
        (
            node("Wide", name="model7.x"),
            *("value_not_in_list", "Value not in list", "name: 'model7.x' not in (list of length 30)", "model7"),
        ),
        (
            node("Many", tags={"__value__": ["x", "q"]}),
            *("value_not_in_list", "Value not in list", "tags: 'q' not in ['x', 'y']", "tags takes x or y"),
        ),
        (node("Blur", image=["9", 0], radius=3), INNER, INNER_WORDS, "'9'", "to node 9, which is not in the workflow"),
        (node("Blur", image=[1, 0], radius=3), INNER, INNER_WORDS, "1", "not in the workflow"),
        (node("Blur", image=["1", 5], radius=3), INNER, INNER_WORDS, "tuple index out of range", "1 output (slot 0)"),
        (
            node("Blur", image=["1", 0.5], radius=3),
            *(INNER, INNER_WORDS, "tuple indices must be integers or slices, not float", "1 output (slot 0)"),
        ),
        (
            node("Blur", image=["5", 3], radius=3),
            *(INNER, INNER_WORDS, "list index out of range", "output 3 of node 5"),
        ),
        (
            node("Union", value="text"),
            *(INNER, INNER_WORDS, "'<' not supported between instances of 'str' and 'int'", "value wants a number"),
        ),
        (
            node("Batch"),
            *("required_input_missing", "Required input is missing", "image0", "connect or set images.image0"),
        ),
        (
            node("Resize", image=["1", 0], resize="to size", **{"resize.width": 5}),
            *("required_input_missing", "Required input is missing", "fast", "BOOLEAN"),
        ),
        (
            node("Resize", image=["1", 0], fast=True, resize="by factor", **{"resize.factor": 9}),
            *("value_bigger_than_max", "Value 9.0 bigger than max of 8.0", "resize.factor", "0.1 to 8.0"),
        ),
        # ComfyUI leaves these two to the node
        (
            node("Resize", image=["1", 0], fast=True, resize="by facto"),
            *("value_not_in_list", "Value not in list"),
            *("resize: 'by facto' not in ['by factor', 'to size']", "resize takes by factor"),
        ),
        (
            node("Resize", image=["1", 0], fast=True),
            *("required_input_missing", "Required input is missing", "resize", "one of by factor, to size"),
        ),
    ],
)
def test_speaks_as_comfyui(
    catalog: Any, tested: dict[str, Any], kind: str, message: str, details: str, hint: str
) -> None:
    graph = between(tested, **{"4": node("Number", value=1), "5": node("Batch", **{"images.image0": ["1", 0]})})
    if tested["class_type"] == "Union":  # gives no picture
        catalog.add("SaveAny", _output_of("*"))
        graph["3"] = node("SaveAny", value=["2", 0])
    found = [e for e in check(parse_api(graph), catalog, NOTHING_BOUND).errors if e.type == kind]
    assert [(e.node_id, e.message, e.details) for e in found if e.details == details] == [("2", message, details)]
    problem = next(e for e in found if e.details == details)
    assert hint in problem.hint
    assert str(problem).startswith(f'node 2 "{tested["class_type"]}": {message}')


def _output_of(wanted: str) -> type:
    attributes = {
        "INPUT_TYPES": classmethod(lambda cls: {"required": {"value": (wanted,)}}),
        "RETURN_TYPES": (),
        "OUTPUT_NODE": True,
    }
    return type("Output", (), attributes)


def test_a_root_whose_link_fails_is_worded_as_a_node(catalog: Any) -> None:
    problem = only(check(parse_api({"3": node("SaveTensor", images=["9", 0])}), catalog, NOTHING_BOUND))
    assert (problem.type, problem.message, problem.details) == (
        *("exception_during_validation", "Exception when validating node"),
        "'9'",
    )
    assert problem.extra_info["exception_type"] == "KeyError"


def test_names_the_nearest_class(catalog: Any) -> None:
    graph = between(node("blurr", image=["1", 0]))
    graph["2"]["_meta"] = {"title": "Soft look"}
    problem = only(check(parse_api(graph), catalog))
    assert problem.type == "missing_node_type"
    assert problem.message == "Node 'Soft look' not found. The custom node may not be installed."
    assert problem.details == "Node ID '#2'"
    assert str(problem) == problem.hint == 'node 2 "blurr" is not installed; did you mean "Blur"?'
    assert problem.extra_info == {"node_id": "2", "class_type": "blurr", "node_title": "Soft look"}


def test_a_class_is_missing_even_where_nothing_needs_it(catalog: Any) -> None:
    graph = between(node("Blur", **BLUR), **{"9": node("Zzz")})
    problem = only(check(parse_api(graph), catalog))
    assert (problem.node_id, problem.type) == ("9", "missing_node_type")
    assert "install the node pack" in problem.hint


def test_says_when_there_is_no_output(catalog: Any) -> None:
    problem = only(check(parse_api({"1": node("LoadTensor")}), catalog))
    assert (problem.type, problem.message) == ("prompt_no_outputs", "Prompt has no outputs")
    assert "SaveTensor" in problem.hint


def test_shows_the_path_of_a_cycle_on_every_node_of_it(catalog: Any) -> None:
    graph = between(node("Blur", image=["4", 0], radius=1), **{"4": node("Blur", image=["2", 0], radius=1)})
    result = check(parse_api(graph), catalog)
    path = "2 (Blur) -> 4 (Blur) -> 2 (Blur)"
    assert errors(result) == [
        ("2", "dependency_cycle", "Dependency cycle detected", path),
        ("4", "dependency_cycle", "Dependency cycle detected", path),
    ]
    assert result.errors[0].extra_info == {"node_id": "2", "cycle_nodes": ["2", "4"]}


def test_a_chain_of_thousands_of_nodes_is_no_problem(catalog: Any) -> None:
    graph: Graph = {"0": node("LoadTensor")}
    for index in range(1, 3000):
        graph[str(index)] = node("Blur", image=[str(index - 1), 0], radius=1)
    graph["end"] = node("SaveTensor", images=["2999", 0])
    assert check(parse_api(graph), catalog).is_ok


def test_nodes_that_no_root_needs_are_not_checked(catalog: Any) -> None:
    graph = between(node("Blur", **BLUR), **{"9": node("Blur", radius="x")})
    assert check(parse_api(graph), catalog).problems == ()


def test_only_the_node_that_fails_is_listed_not_those_below_it(catalog: Any) -> None:
    graph = between(node("Blur", image=["4", 0], radius=1), **{"4": node("Blur", radius=1)})
    assert [problem.node_id for problem in check(parse_api(graph), catalog).errors] == ["4"]


def test_converts_constants_as_comfyui_does(catalog: Any) -> None:
    graph = between(node("Switch", on="false", text=5))
    graph["4"] = node("Blur", image=["2", 0], radius="7")
    graph["5"] = node("Mix", a=["4", 0], b=["1", 0], amount="0.25")
    graph["6"] = node("Many", tags={"__value__": ["x"]})
    graph["7"] = node("Mix", a=["5", 0], b=["6", 0], amount=1)
    graph["3"] = node("SaveTensor", images=["7", 0])
    result = check(parse_api(graph), catalog)
    assert result.is_ok
    inputs = {key: entry["inputs"] for key, entry in to_api(result.workflow).items()}
    assert inputs["2"] == {"on": True, "text": "5"}
    assert inputs["4"]["radius"] == 7
    assert inputs["5"]["amount"] == 0.25
    assert inputs["6"]["tags"] == {"__value__": ["x"]}
    assert isinstance(inputs["7"]["amount"], float)


def test_an_unknown_input_is_a_warning_with_the_nearest_name(catalog: Any) -> None:
    result = check(parse_api(between(node("Blur", **BLUR, mod="soft"))), catalog)
    problem = only(result)
    assert result.is_ok
    assert (problem.type, problem.input_name, problem.hint) == ("unknown_input", "mod", 'did you mean "mode"?')


def test_an_unknown_link_to_nowhere_is_an_error(catalog: Any) -> None:
    result = check(parse_api(between(node("Blur", **BLUR, extra=["9", 0]))), catalog)
    assert [(problem.node_id, problem.input_name) for problem in result.errors] == [("2", "extra")]


class TestRoots:
    def test_a_bad_bound_output_is_an_error_beside_a_good_one(self, catalog: Any) -> None:
        graph = between(node("Blur", **BLUR), **{"8": node("SaveTextTensor", data=["9", 0])})
        result = check(parse_api(graph), catalog)
        assert not result.is_ok
        assert result.dropped == ("8",)

    def test_a_bad_unbound_output_is_left_out_with_a_warning(self, catalog: Any) -> None:
        catalog.add("Log", _output_of("IMAGE"))
        graph = between(node("Blur", **BLUR), **{"8": node("Log", value=["9", 0]), "9": node("Blur", image=["1", 0])})
        result = check(parse_api(graph), catalog)
        assert result.is_ok
        assert (result.roots, result.dropped) == (("3",), ("8",))
        assert only(result).node_id == "9"
        assert "left out" in only(result).hint

    def test_what_both_need_is_an_error(self, catalog: Any) -> None:
        catalog.add("Log", _output_of("IMAGE"))
        result = check(parse_api(between(node("Blur", radius=1), **{"8": node("Log", value=["2", 0])})), catalog)
        assert [problem.node_id for problem in result.errors] == ["2"]

    def test_with_no_good_root_everything_is_an_error(self, catalog: Any) -> None:
        catalog.add("Log", _output_of("IMAGE"))
        result = check(parse_api({"8": node("Log")}), catalog, NOTHING_BOUND)
        assert [problem.type for problem in result.errors] == ["required_input_missing"]

    def test_constraints_of_live_inputs_are_problems(self, catalog: Any) -> None:
        graph = between(node("Blur", **BLUR))
        graph |= {str(index): node("SaveTensor", images=["2", 0]) for index in range(10, 14)}
        result = check(parse_api(graph), catalog)
        assert result.bindings is None
        assert [problem.type for problem in result.errors] == ["too_many_outputs"]

    def test_the_file_name_of_a_bound_picture_does_not_matter(self, catalog: Any) -> None:
        graph = between(node("Blur", **BLUR))
        graph["1"] = node("LoadImage", image="gone.png")
        assert check(parse_api(graph), catalog).problems == ()
        assert only(check(parse_api(graph), catalog, NOTHING_BOUND)).type == "value_not_in_list"


class TestCustomValidation:
    def run(self, catalog: Any, make_class: Any, validate: Any, value: Any = 3, **options: Any) -> CheckResult:
        declared = {"required": {"value": ("INT", {"min": 0, "max": 5} | options)}, "hidden": {"me": "UNIQUE_ID"}}
        catalog.add("Strict", make_class(declared, ("IMAGE",), VALIDATE_INPUTS=classmethod(validate)))
        graph = {"2": node("Strict", value=value), "3": node("SaveTensor", images=["2", 0]), "4": node("Number")}
        return check(parse_api(graph), catalog, NOTHING_BOUND)

    @pytest.mark.parametrize(
        ("answer", "details"), [(False, "value"), ("not today", "value - not today"), (None, "value - None")]
    )
    def test_anything_but_true_is_an_error(self, catalog: Any, make_class: Any, answer: Any, details: str) -> None:
        result = self.run(catalog, make_class, lambda cls, value: answer)
        assert errors(result) == [("2", "custom_validation_failed", "Custom validation failed for node", details)]

    def test_it_may_be_async(self, catalog: Any, make_class: Any) -> None:
        async def validate(cls: type, value: int) -> str:
            await asyncio.sleep(0)
            return f"{value} is odd"

        assert errors(self.run(catalog, make_class, validate))[0][3] == "value - 3 is odd"

        async def inside() -> CheckResult:
            return self.run(catalog, make_class, validate)

        assert errors(asyncio.run(inside()))[0][3] == "value - 3 is odd"

    def test_it_spares_its_inputs_the_range_check(self, catalog: Any, make_class: Any) -> None:
        assert self.run(catalog, make_class, lambda cls, value: True, value=99).is_ok
        assert self.run(catalog, make_class, lambda cls, **all_of_them: True, value=99).is_ok
        assert not self.run(catalog, make_class, lambda cls: True, value=99).is_ok

    def test_links_arrive_as_none_and_hidden_ones_too(self, catalog: Any, make_class: Any) -> None:
        seen = []
        self.run(catalog, make_class, lambda cls, value, me: seen.append((value, me)) or True, value=["4", 0])
        assert seen == [(None, "2")]

    def test_input_types_replace_the_type_check(self, catalog: Any, make_class: Any) -> None:
        seen = []
        catalog.add("Number", make_class({}, ("FLOAT",)))
        result = self.run(
            catalog, make_class, lambda cls, input_types: seen.append(input_types) or True, value=["4", 0]
        )
        assert result.is_ok
        assert seen == [{"value": "FLOAT"}]

    def test_what_it_raises_is_reported(self, catalog: Any, make_class: Any) -> None:
        def validate(cls: type, value: int) -> bool:
            raise RuntimeError("boom")

        assert errors(self.run(catalog, make_class, validate)) == [("2", INNER, INNER_WORDS, "boom")]

    def test_v3_gets_its_dynamic_inputs_nested(self, catalog: Any, make_class: Any) -> None:
        seen: list[Any] = []

        def validate(cls: Any, **inputs: Any) -> bool:
            seen.append((inputs, cls.hidden.unique_id, cls.hidden.prompt))
            return True

        resize, images = (catalog.get(key).inputs["required"] for key in ("Resize", "Batch"))
        declared = {"required": {"resize": resize["resize"], "images": images["images"]}}
        catalog.add("Own", make_class(declared, ("IMAGE",), validate_inputs=classmethod(validate)), api="v3")
        inputs = {"resize": "by factor", "resize.factor": 2, "images.image0": ["1", 0]}
        assert check(parse_api(between(node("Own", **inputs))), catalog).is_ok
        assert seen == [({"resize": {"resize": "by factor", "factor": 2.0}, "images": {"image0": None}}, "2", None)]


def test_a_file_that_came_after_the_catalog_was_read_is_accepted(catalog: Any, make_class: Any) -> None:
    files = ["a.png"]
    cls = make_class(outputs=("IMAGE",), INPUT_TYPES=classmethod(lambda cls: {"required": {"file": (list(files),)}}))
    catalog.add("Pick", cls)
    graph = parse_api(between(node("Pick", file="b.png")))
    assert not check(graph, catalog).is_ok
    files.append("b.png")
    assert check(graph, catalog).is_ok


@pytest.mark.parametrize(
    ("received", "wanted", "fits"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("*", "IMAGE", True),
        ("IMAGE", "*", True),
        ("IMAGE", "MASK,IMAGE", True),
        ("INT , FLOAT", "FLOAT", True),
        ("INT,FLOAT", "STRING,IMAGE", False),
        ("INT", "FLOAT,*", True),
        ("COMFY_MATCHTYPE_V3", "IMAGE", True),
        ("IMAGE", "COMFY_MATCHTYPE_V3", True),
        (["a"], "COMBO", True),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        ("COMBO", ["a"], False),
        ("image", "IMAGE", False),
    ],
)
def test_socket_types(received: Any, wanted: Any, fits: bool) -> None:
    assert matches(received, wanted) is fits


def test_the_any_type_of_older_packs_is_honoured_on_the_output_side(catalog: Any) -> None:
    any_type = catalog.get("AnyOut").output_types[0]
    assert matches(any_type, "IMAGE")
    assert matches(type(any_type)("X"), ["a"])
