"""Shapes with ranges: what fits, and what is said about what does not."""

from __future__ import annotations

import json

import pytest
from tiny_models import PAIR

from comfystream.accel.model_specs import Ranges, controlnet_spec, decoder_spec, unet_spec
from comfystream.accel.spec import Axis, ModelSpec, TensorSpec
from comfystream.errors import EngineError


def test_points_of_a_range() -> None:
    one = TensorSpec("sample", "float16", (Axis("batch", 1, 2, 4), 4, 64, Axis("width", 48, 64, 88, 8)))
    assert (one.at("min"), one.at("opt"), one.at("max")) == ((1, 4, 64, 48), (2, 4, 64, 64), (4, 4, 64, 88))
    assert one.is_dynamic


@pytest.mark.parametrize(("low", "best", "high", "step"), [(2, 1, 4, 1), (0, 1, 2, 1), (1, 5, 4, 1), (8, 12, 16, 8)])
def test_a_range_that_is_none(low: int, best: int, high: int, step: int) -> None:
    with pytest.raises(EngineError) as caught:
        Axis("height", low, best, high, step)
    assert caught.value.code == "bad_profile"
    assert "height" in str(caught.value)


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (0, 3, 8, 8), (1, 3, 8, 9), (3, 8, 8), (1, 1, 3, 8, 8)])
def test_a_wrong_shape_is_told_with_its_place(shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError) as caught:
        PAIR.check({"picture": shape, "strength": (1,)})
    assert str(caught.value).startswith(f"pair: input picture is {list(shape)}, but it was made for [1..4, 3, 8, 8]")


def test_inputs_have_to_agree() -> None:
    with pytest.raises(EngineError, match="batch is 2 in input picture and 3 in strength"):
        PAIR.check({"picture": (2, 3, 8, 8), "strength": (3,)})
    with pytest.raises(EngineError, match="input strength is missing"):
        PAIR.check({"picture": (2, 3, 8, 8)})
    with pytest.raises(EngineError, match="pair has no input pictures.*it has picture, strength"):
        PAIR.check({"pictures": (2, 3, 8, 8)})


def test_it_survives_json() -> None:
    spec = unet_spec(Ranges(batch=(1, 2, 4), height=(384, 512, 704), tokens=(77, 77, 154)), "fp16", pooled_width=1280)
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_sizes_in_pixels_become_sizes_of_latents() -> None:
    spec = decoder_spec(Ranges(height=(384, 512, 704), width=512))
    height = spec.inputs[0].shape[2]
    assert isinstance(height, Axis)
    assert (height.min, height.opt, height.max, height.step) == (48, 64, 88, 8)
    assert spec.inputs[0].shape[3] == 64


def test_pooled_text_and_residuals_are_inputs_not_constants() -> None:
    """Defect 5 of the known implementations: SDXL engines with zeros in their place."""
    spec = unet_spec(Ranges(), pooled_width=1280, residuals=((320, 1), (1280, 8)))
    shapes = spec.shapes()
    assert shapes["text_embeds"] == (1, 1280)
    assert shapes["time_ids"] == (1, 6)
    assert shapes["input_control_00"] == (1, 320, 64, 64)
    assert shapes["input_control_middle"] == (1, 1280, 8, 8)
    assert controlnet_spec(Ranges()).shapes()["conditioning_scale"] == (1,)
