from __future__ import annotations

from typing import Any

import pytest

from comfystream.errors import WorkflowError
from comfystream.workflow.bind import bind
from comfystream.workflow.join import join, place_of
from comfystream.workflow.model import Link, Workflow
from comfystream.workflow.read import parse_workflow


def graph(**nodes: tuple[str, dict[str, Any]]) -> Workflow:
    return parse_workflow({id: {"class_type": kind, "inputs": inputs} for id, (kind, inputs) in nodes.items()})


def picture(kind: str = "LoadTensor", between: str = "ImageInvert") -> Workflow:
    return graph(
        a=(kind, {"image": "x.png"} if kind == "LoadImage" else {}),
        b=(between, {"image": ["a", 0]}),
        c=("SaveTensor", {"images": ["b", 0]}),
    )


SOUND = graph(a=("LoadAudioTensor", {}), b=("SaveAudioTensor", {"audio": ["a", 0]}))
TEXT = graph(a=("LoadAudioTensor", {}), b=("Hear", {"audio": ["a", 0]}), c=("SaveTextTensor", {"data": ["b", 0]}))


def test_one_stays_as_it_is() -> None:
    workflow = picture()
    assert join([workflow]) is workflow


def test_picture_and_sound_become_one_graph_although_their_ids_collide() -> None:
    joined = join([picture(), SOUND])
    assert set(joined.nodes) == {"a", "b", "c", "prompt1/a", "prompt1/b"}
    assert joined.nodes["prompt1/b"].inputs["audio"] == Link("prompt1/a", 0)
    ends = bind(joined)
    assert [end.node_id for end in ends.inputs] == ["a", "prompt1/a"]
    assert [end.modality for end in ends.outputs] == ["video", "audio"]


def test_there_is_one_live_input_per_modality_and_the_last_output_counts() -> None:
    joined = join([picture(between="First"), SOUND, TEXT, picture(between="Last")])
    ends = bind(joined)
    assert [end.node_id for end in ends.inputs] == ["a", "prompt1/a"]
    assert joined.nodes["prompt2/b"].inputs["audio"] == Link("prompt1/a", 0)
    assert joined.nodes["prompt3/b"].inputs["image"] == Link("a", 0)
    shown = next(end for end in ends.outputs if end.modality == "video")
    assert joined.nodes[joined.nodes[shown.node_id].inputs["images"].node].class_type == "Last"
    assert len(ends.outputs) == 3


def test_still_pictures_of_another_workflow_stay_still() -> None:
    with_still = graph(
        a=("PrimaryInputLoadImage", {"image": "x.png"}),
        still=("LoadImage", {"image": "logo.png"}),
        b=("Paste", {"image": ["a", 0], "over": ["still", 0], "mask": ["a", 1]}),
        c=("PreviewImage", {"images": ["b", 0]}),
    )
    joined = join([picture("LoadImage"), with_still])
    ends = bind(joined)
    assert [end.node_id for end in ends.inputs] == ["a"]
    assert joined.nodes["prompt1/still"].class_type == "LoadImage"
    assert joined.nodes["prompt1/b"].inputs["mask"] == Link("a", 1)
    assert not ends.warnings


def test_what_cannot_be_bound_is_named() -> None:
    with pytest.raises(WorkflowError, match="prompt 1: missing output"):
        join([picture(), graph(a=("LoadTensor", {}))])


def test_ids_tell_where_they_came_from() -> None:
    assert place_of("7") == (0, "7")
    assert place_of("prompt12/7:3") == (12, "7:3")
