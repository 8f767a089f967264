"""Binding: roles by class key, the constraints and their messages, what is shown, what is live."""

from __future__ import annotations

from typing import Any

import pytest

from comfystream.errors import WorkflowError
from comfystream.workflow.api_format import parse_api
from comfystream.workflow.bind import bind, live_nodes, modalities, passed_through
from comfystream.workflow.model import Workflow


def graph(*classes: str, **inputs: Any) -> Workflow:
    """Nodes "0", "1", ... of these classes."""
    return parse_api({str(i): {"class_type": c, "inputs": inputs.get(f"n{i}", {})} for i, c in enumerate(classes)})


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("PrimaryInputLoadImage", "PrimaryInputLoadImage", "SaveTensor"), "too many primary inputs in prompt"),
        (("LoadTensor", "LoadImage", "LoadAudioTensor", "SaveTensor"), "too many inputs in prompt"),
        (("LoadImage", "LoadImage", "LoadImage", "SaveTensor"), "too many inputs in prompt"),
        (("LoadTensor", "SaveTensor", "SaveImage", "PreviewImage", "SaveTextTensor"), "too many outputs in prompt"),
        (("LoadTensor",), "missing output"),
        (("LoadImage", "LoadImage", "SaveTensor"), "cannot tell which picture is the live one"),
    ],
)
def test_refuses_what_cannot_be_bound(classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(WorkflowError, match=message) as caught:
        bind(graph(*classes))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("classes", "hint"),
    [
        (("LoadTensor", "SaveTensr"), 'node 1 "SaveTensr" is none; did you mean "SaveTensor"?'),
        (("LoadImage", "ImageInvert", "previewImage"), 'node 2 "previewImage" is none; did you mean "PreviewImage"?'),
        (("LoadTensor", "SaveAudio"), "add one of SaveTensor, SaveImage"),
        (("LoadAudioTensor",), "add one of SaveTensor, SaveImage"),
    ],
)
def test_a_slip_in_the_name_of_an_output_is_named(classes: tuple[str, ...], hint: str) -> None:
    """Not what only has some letters of one: LoadTensor is no misspelt SaveTensor."""
    with pytest.raises(WorkflowError, match="missing output") as caught:
        bind(graph(*classes))
    assert caught.value.hint.startswith(hint)


def test_a_workflow_without_a_live_input_runs_by_the_clock() -> None:
    workflow = graph("EmptyImage", "SaveTensor")
    assert bind(workflow).is_generative
    with pytest.raises(WorkflowError, match="missing input"):
        bind(workflow, strict=True)


@pytest.mark.parametrize(
    ("classes", "live"),
    [
        (("LoadTensor", "SaveTensor"), ["0"]),
        (("LoadImage", "SaveTensor"), ["0"]),
        (("PrimaryInputLoadImage", "LoadImage", "LoadImage", "LoadImage", "SaveTensor"), ["0"]),
        (("LoadImage", "LoadAudioTensor", "SaveTensor"), ["0", "1"]),
        (("LoadTensor", "LoadTensor", "SaveTensor"), ["0", "1"]),
        (("PrimaryInputLoadImage", "LoadTensor", "LoadAudioTensor", "SaveTensor"), ["0", "1", "2"]),
    ],
)
def test_which_inputs_are_live(classes: tuple[str, ...], live: list[str]) -> None:
    assert [end.node_id for end in bind(graph(*classes)).inputs] == live


def test_warns_when_a_picture_beside_a_tensor_becomes_live_too() -> None:
    bindings = bind(graph("LoadTensor", "LoadImage", "SaveTensor"))
    assert len(bindings.inputs) == 2
    assert [(w.type, w.node_id, w.is_error) for w in bindings.warnings] == [("second_live_picture", "1", False)]


def test_picture_nodes_have_a_mask_and_tensor_nodes_have_not() -> None:
    assert bind(graph("LoadImage", "SaveTensor")).inputs[0].has_mask
    assert not bind(graph("LoadTensor", "SaveTensor")).inputs[0].has_mask


@pytest.mark.parametrize(
    ("given", "buffer_ms"), [({}, 500.0), ({"buffer_size": "250"}, 250.0), ({"buffer_size": ["1", 0]}, 500.0)]
)
def test_the_audio_buffer_in_milliseconds(given: dict[str, Any], buffer_ms: float) -> None:
    assert bind(graph("LoadAudioTensor", "SaveAudioTensor", n0=given)).inputs[0].buffer_ms == buffer_ms


@pytest.mark.parametrize(
    ("classes", "shown"),
    [
        (("PreviewImage", "SaveTensor", "SaveImage"), "1"),
        (("SaveImage", "PreviewImage"), "0"),
        (("PreviewImage", "PreviewImage"), "1"),
        (("SaveTensor", "SaveTensor", "PreviewImage"), "1"),
    ],
)
def test_one_video_output_is_shown_and_the_others_are_named(classes: tuple[str, ...], shown: str) -> None:
    bindings = bind(graph(*classes))
    assert [end.node_id for end in bindings.outputs if end.is_shown] == [shown]
    assert {w.node_id for w in bindings.warnings} == {end.node_id for end in bindings.outputs} - {shown}


def test_the_input_that_carries_each_output() -> None:
    outputs = bind(graph("SaveTensor", "SaveAudioTensor", "SaveTextTensor")).outputs
    assert [(end.modality, end.input_name, end.is_shown) for end in outputs] == [
        ("video", "images", True),
        ("audio", "audio", True),
        ("text", "data", True),
    ]


@pytest.mark.parametrize(
    ("classes", "taken", "given", "passed"),
    [
        (("LoadTensor", "SaveTensor"), {"video"}, {"video"}, {"audio"}),
        (("LoadAudioTensor", "SaveAudioTensor"), {"audio"}, {"audio"}, {"video"}),
        (("LoadAudioTensor", "SaveTextTensor"), {"audio"}, {"text"}, {"video", "audio"}),
        (("LoadTensor", "SaveTextTensor"), {"video"}, {"text"}, {"video", "audio"}),
        (("EmptyImage", "SaveTensor"), set(), {"video"}, {"audio"}),
    ],
)
def test_modalities_and_what_passes_through(
    classes: tuple[str, ...], taken: set[str], given: set[str], passed: set[str]
) -> None:
    bindings = bind(graph(*classes))
    flags = modalities(bindings)
    assert set(flags) == {"video", "audio", "text"}
    assert {name for name, flag in flags.items() if flag["input"]} == taken
    assert {name for name, flag in flags.items() if flag["output"]} == given
    assert {name for name, passes in passed_through(bindings).items() if passes} == passed


def test_which_nodes_are_live_and_by_what() -> None:
    workflow = graph(
        *("LoadTensor", "LoadAudioTensor", "Number", "Blur", "Mix", "SaveTensor"),
        n3={"image": ["0", 0], "radius": ["2", 0]},
        n4={"a": ["3", 0], "b": ["1", 0]},
        n5={"images": ["4", 0]},
    )
    assert live_nodes(workflow, bind(workflow)) == {
        "0": {"video"},
        "1": {"audio"},
        "3": {"video"},
        "4": {"video", "audio"},
        "5": {"video", "audio"},
    }


def test_a_cycle_does_not_hang_it() -> None:
    workflow = graph("LoadTensor", "Mix", "SaveTensor", n1={"a": ["0", 0], "b": ["1", 0]}, n2={"images": ["1", 0]})
    assert set(live_nodes(workflow, bind(workflow))) == {"0", "1", "2"}
