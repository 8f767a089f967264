"""A catalog from object_info JSON."""

from __future__ import annotations

from typing import Any

import pytest

from comfystream.catalog.from_object_info import ObjectInfoCatalog
from comfystream.errors import WorkflowError
from comfystream.workflow.api_format import parse_api
from comfystream.workflow.check import NOTHING_BOUND, check
from comfystream.workflow.read import parse_workflow

INFO: dict[str, Any] = {
    "SaveImage": {
        "input": {
            "required": {"filename_prefix": ["STRING", {"default": "x"}], "images": ["IMAGE"]},
            "hidden": {"prompt": "PROMPT", "id": ["UNIQUE_ID"]},
        },
        "input_order": {"required": ["images", "filename_prefix"]},
        "output": [],
        "output_node": True,
        "display_name": "Save Image",
        "python_module": "custom_nodes.my-pack.save",
    },
    "EmptyImage": {
        "input": {"required": {"width": ["INT", {"min": 1, "max": 8}], "mode": [["a", "b"], {}]}},
        "output": ["IMAGE"],
        "output_is_list": [True],
        "output_name": ["picture"],
        "is_input_list": True,
        "price_badge": None,
        "output_node": False,
        "python_module": "nodes",
    },
}


def test_reads_what_object_info_tells() -> None:
    catalog = ObjectInfoCatalog(INFO)
    assert catalog.keys() == ["EmptyImage", "SaveImage"]
    assert catalog.get("Nope") is None
    save, empty = catalog.get("SaveImage"), catalog.get("EmptyImage")
    assert save is not None
    assert empty is not None
    assert list(save.inputs["required"]) == ["images", "filename_prefix"]
    assert save.hidden == {"prompt": "PROMPT", "id": "UNIQUE_ID"}
    assert (save.is_output, save.api, save.pack) == (True, "v1", "my-pack")
    assert (empty.is_output, empty.api, empty.pack, empty.input_is_list) == (False, "v3", "core", True)
    assert (empty.output_types, empty.output_names, empty.output_is_list) == (("IMAGE",), ("picture",), (True,))
    assert empty.input("width") == ("INT", {"min": 1, "max": 8}, "required")


def test_serves_reading_and_checking() -> None:
    catalog = ObjectInfoCatalog(INFO)
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 9, "mode": "c"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "y"}},
    }
    problems = check(parse_api(graph), catalog, NOTHING_BOUND).errors
    assert [problem.type for problem in problems] == ["value_bigger_than_max", "value_not_in_list"]
    ui = {"nodes": [{"id": 1, "type": "EmptyImage", "widgets_values": [4, "b"]}], "links": []}
    assert parse_workflow(ui, catalog).nodes["1"].inputs == {"width": 4, "mode": "b"}


@pytest.mark.parametrize("info", [{"error": "not found"}, {"A": {"output": []}}, {"A": {"input": []}}])
def test_refuses_other_json(info: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError, match="is no node class"):
        ObjectInfoCatalog(info)
