from __future__ import annotations

import re
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from parity_cases import all_cases

FILES = {"LoadImage", "LoadImageMask", "LoadImageOutput", "SaveImage", "PreviewImage", "MaskPreview"} | {
    "LoadAudio",
    "PreviewAudio",
}


def test_importing_the_package_needs_neither_torch_nor_comfyui() -> None:
    code = "import sys, comfystream_nodes; print([m for m in ('torch', 'comfy_api', 'av') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_node_has_a_name_a_category_and_inputs_that_its_function_takes(core: ModuleType) -> None:
    assert len(core.NODE_CLASS_MAPPINGS) >= 90
    for key, cls in core.NODE_CLASS_MAPPINGS.items():
        assert core.NODE_DISPLAY_NAME_MAPPINGS[key]
        assert cls.CATEGORY
        method = cls.execute if hasattr(cls, "define_schema") else getattr(cls, cls.FUNCTION)
        taken = method.__code__.co_varnames[: method.__code__.co_argcount]
        inputs = cls.INPUT_TYPES()
        declared = [*inputs.get("required", {}), *inputs.get("optional", {})]
        assert set(declared) <= set(taken), key


def test_every_node_is_in_the_table_of_cases(core: ModuleType) -> None:
    assert set(core.NODE_CLASS_MAPPINGS) == set(all_cases()) & set(core.NODE_CLASS_MAPPINGS) | FILES


def test_no_node_changes_its_inputs(core: ModuleType, run) -> None:
    for key, cases in all_cases().items():
        if key not in core.NODE_CLASS_MAPPINGS:
            continue
        for case in cases[:: max(1, len(cases) // 6)]:
            tensors = [value for value in case.values() if isinstance(value, torch.Tensor)]
            before = [value.clone() for value in tensors]
            try:
                run(key, **case)
            except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, re.error):
                continue  # refused inputs are in the table too
            assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True)), key


@pytest.mark.parametrize("key", ["ImageInvert", "ImageBlur", "Canny", "ImageScale"])
def test_runs_under_inference_mode_and_twice_the_same(run, key: str) -> None:
    for case in all_cases()[key][:3]:
        with torch.inference_mode():
            first = run(key, **case)[0].clone()
            assert torch.equal(first, run(key, **case)[0])
