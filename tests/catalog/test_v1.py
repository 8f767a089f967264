"""A V1 class seen as a `NodeSpec`."""

from __future__ import annotations

import pytest

from comfystream.catalog.v1 import spec_from_v1
from comfystream.errors import AssetError


class AnyName(dict):
    """As packs write it: every name is declared."""

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> tuple[str]:
        return ("*",)


class Everything:
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"image": ("IMAGE",), "mode": (["a", "b"], {"default": "a"})},
            "optional": AnyName(),
            "hidden": {"me": "UNIQUE_ID", "all": "PROMPT", "odd": ("INT", {})},
        }

    RETURN_TYPES = ("IMAGE", ["a", "b"], "MASK")
    RETURN_NAMES = ("picture",)
    OUTPUT_IS_LIST = (False, True)
    INPUT_IS_LIST = True
    OUTPUT_NODE = True
    NOT_IDEMPOTENT = True
    FUNCTION = "run"
    CATEGORY = "test/all"

    async def run(self, **kwargs):
        return ()

    @classmethod
    def IS_CHANGED(cls, image):
        return 1

    @classmethod
    def VALIDATE_INPUTS(cls, mode, input_types, **rest):
        return True

    def check_lazy_status(self, **kwargs):
        return []


class Bare:
    @classmethod
    def INPUT_TYPES(cls):
        return {}

    FUNCTION = "run"

    def run(self):
        return ()


def test_everything_is_read() -> None:
    spec = spec_from_v1("All", Everything, display_name="All of it", python_module="custom_nodes.x", pack="x")
    assert spec.output_types == ("IMAGE", ["a", "b"], "MASK")
    assert spec.output_names == ("picture", "COMBO", "MASK")
    assert spec.output_is_list == (False, True, False)
    assert (spec.input_is_list, spec.is_output, spec.not_idempotent, spec.is_async) == (True, True, True, True)
    assert (spec.has_fingerprint, spec.has_validation, spec.has_lazy_status) == (True, True, True)
    assert spec.hidden == {"me": "UNIQUE_ID", "all": "PROMPT"}
    assert spec.validates == {"mode", "input_types", "**"}
    assert (spec.display_name, spec.category, spec.python_module, spec.pack) == (
        "All of it",
        "test/all",
        "custom_nodes.x",
        "x",
    )
    assert spec.cls is Everything


def test_inputs_are_asked_for_and_not_iterated() -> None:
    spec = spec_from_v1("All", Everything)
    assert spec.input("image") == ("IMAGE", {}, "required")
    assert spec.input("mode") == (["a", "b"], {"default": "a"}, "required")
    assert spec.input("never declared") == ("*", {}, "optional")


def test_a_bare_class_has_the_defaults() -> None:
    spec = spec_from_v1("Bare", Bare)
    assert (spec.output_types, spec.output_names, spec.output_is_list) == ((), (), ())
    assert not any((spec.is_output, spec.is_async, spec.has_fingerprint, spec.has_validation, spec.has_lazy_status))
    assert (spec.display_name, spec.category, spec.python_module) == ("Bare", "sd", "nodes")
    assert spec.enable_expand is True
    assert spec.input("x") is None


def test_a_slip_in_return_types_is_one_slot() -> None:
    class Slip(Bare):
        RETURN_TYPES = "IMAGE"

    assert spec_from_v1("Slip", Slip).output_types == ("IMAGE",)


def test_only_true_makes_an_output_node() -> None:
    class Truthy(Bare):
        OUTPUT_NODE = 1

    assert spec_from_v1("Truthy", Truthy).is_output is False


@pytest.mark.parametrize("function", ["gone", None, 5])
def test_a_function_that_is_not_there(function: object) -> None:
    broken = type("Broken", (Bare,), {"FUNCTION": function})
    with pytest.raises(AssetError, match="Broken .key. has no method"):
        spec_from_v1("key", broken)
