from __future__ import annotations

import pytest
from pydantic import ValidationError

from comfystream.catalog.from_object_info import ObjectInfoCatalog
from comfystream.errors import WorkflowError
from comfystream.workflow.presets import Preset, PresetValue, missing, patches_of
from comfystream.workflow.read import parse_workflow

GRAPH = {
    "1": {"class_type": "LoadTensor", "inputs": {}},
    "2": {"class_type": "Blur", "inputs": {"image": ["1", 0], "radius": 2, "sigma": 0.5}},
    "3": {"class_type": "SaveTensor", "inputs": {"images": ["2", 0]}},
}
WORKFLOW = parse_workflow(GRAPH)
CATALOG = ObjectInfoCatalog({})


def preset(*values: tuple[str, str, str, object]) -> Preset:
    kept = [PresetValue(node=node, class_type=kind, input=name, value=value) for node, kind, name, value in values]
    return Preset(name="mine", values=kept, revision=3)


def test_values_become_patches() -> None:
    patches = patches_of(preset(("2", "Blur", "radius", 9), ("2", "", "sigma", 1.0)), WORKFLOW, CATALOG)
    assert [(patch.node, patch.input, patch.value) for patch in patches] == [("2", "radius", 9), ("2", "sigma", 1.0)]


def test_all_that_is_missing_is_said() -> None:
    wrong = preset(
        ("2", "Blur", "radius", 9),
        ("2", "Blur", "strength", 9),
        ("2", "Sharpen", "radius", 1),
        ("9", "", "radius", 1),
        ("2", "Blur", "image", 1),
    )
    lacks = missing(wrong, WORKFLOW, CATALOG)
    assert lacks[:3] == ['input "strength" of node 2 "Blur"', 'node 2 "Sharpen"', "node 9"]
    assert "linked" in lacks[3]
    with pytest.raises(WorkflowError) as refused:
        patches_of(wrong, WORKFLOW, CATALOG)
    assert refused.value.code == "preset_does_not_fit"
    assert all(lack in refused.value.message for lack in lacks)


@pytest.mark.parametrize("name", ["", " x", "x ", "a\nb", "x" * 65, "\x00"])
def test_names_are_one_line(name: str) -> None:
    with pytest.raises(ValidationError):
        Preset(name=name, values=[PresetValue(node="1", input="a", value=1)])
