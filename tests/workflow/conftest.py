"""A small catalog of real Python classes, V1 and V3, for the workflow tests."""

from __future__ import annotations

from typing import Any

import pytest

from comfystream.catalog.spec import NodeSpec


class AnyText(str):
    """The any type as node packs write it: a string that differs from nothing."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


def v1(inputs: dict[str, Any] | None = None, outputs: tuple[Any, ...] = (), **attributes: Any) -> type:
    made = {"INPUT_TYPES": classmethod(lambda cls: inputs or {}), "RETURN_TYPES": outputs, "FUNCTION": "run"}
    return type("Fake", (), made | attributes)


def spec(key: str, cls: type, *, api: str = "v1") -> NodeSpec:
    inputs = cls.INPUT_TYPES()  # type: ignore[attr-defined]
    return NodeSpec(
        key=key,
        cls=cls,
        api=api,  # type: ignore[arg-type]
        inputs=inputs,
        function="run",
        output_types=tuple(cls.RETURN_TYPES),  # type: ignore[attr-defined]
        output_names=(),
        output_is_list=(),
        is_output=getattr(cls, "OUTPUT_NODE", False) is True,
        has_validation=hasattr(cls, "VALIDATE_INPUTS") or hasattr(cls, "validate_inputs"),
        hidden=dict(inputs.get("hidden", {})),
    )


IMAGE = ("IMAGE",)
FACTOR = ("FLOAT", {"default": 2.0, "min": 0.1, "max": 8.0})
RADIUS = ("INT", {"default": 1, "min": 1, "max": 31})

AUTOGROW = (
    "COMFY_AUTOGROW_V3",
    {"template": {"input": {"required": {"image": ("IMAGE", {})}}, "prefix": "image", "min": 1, "max": 3}},
)
RESIZE = (
    "COMFY_DYNAMICCOMBO_V3",
    {
        "options": [
            {"key": "by factor", "inputs": {"required": {"factor": FACTOR}}},
            {"key": "to size", "inputs": {"required": {"width": ("INT", {}), "height": ("INT", {"default": 256})}}},
        ]
    },
)

CLASSES: dict[str, type] = {
    "LoadTensor": v1({"optional": {"timeout_seconds": ("FLOAT", {"default": 1.0, "min": 0.1, "max": 30.0})}}, IMAGE),
    "LoadAudioTensor": v1({"required": {"buffer_size": ("FLOAT", {"default": 500.0})}}, ("AUDIO",)),
    "LoadImage": v1({"required": {"image": (["a.png", "b.png"], {"image_upload": True})}}, ("IMAGE", "MASK")),
    "PrimaryInputLoadImage": v1({"required": {"image": (["a.png"], {"image_upload": True})}}, ("IMAGE", "MASK")),
    "SaveTensor": v1({"required": {"images": IMAGE}}, OUTPUT_NODE=True),
    "PreviewImage": v1({"required": {"images": IMAGE}}, OUTPUT_NODE=True),
    "SaveImage": v1(
        {"required": {"images": IMAGE, "filename_prefix": ("STRING", {"default": "ComfyUI"})}}, OUTPUT_NODE=True
    ),
    "SaveAudioTensor": v1({"required": {"audio": ("AUDIO",)}}, OUTPUT_NODE=True),
    "SaveTextTensor": v1({"required": {"data": ("STRING", {"forceInput": True})}}, OUTPUT_NODE=True),
    "Blur": v1(
        {"required": {"image": IMAGE, "radius": RADIUS}, "optional": {"mode": (["soft", "hard", "median"],)}}, IMAGE
    ),
    "Mix": v1({"required": {"a": IMAGE, "b": IMAGE, "amount": ("FLOAT", {"default": 0.5, "min": 0, "max": 1})}}, IMAGE),
    "Switch": v1({"required": {"on": ("BOOLEAN", {"default": True}), "text": ("STRING", {"default": ""})}}, IMAGE),
    "Sampler": v1(
        {
            "required": {
                "image": IMAGE,
                "seed": ("INT", {"default": 0, "control_after_generate": True}),
                "steps": ("INT", {"default": 20, "min": 1, "max": 100}),
                "sampler": ("COMBO", {"options": ["euler", "lcm"]}),
            }
        },
        IMAGE,
    ),
    "AnyOut": v1({}, (AnyText("*"),)),
    "Union": v1({"required": {"value": ("INT,FLOAT", {"min": 0, "max": 5})}}, ("INT",)),
    "Number": v1({"required": {"value": ("INT", {"default": 3})}}, ("INT",)),
    "Wide": v1({"required": {"name": ([f"model{i}" for i in range(30)],)}}, IMAGE),
    "Many": v1({"required": {"tags": ("COMBO", {"options": ["x", "y"], "multiselect": True})}}, IMAGE),
}
V3 = {
    "Batch": v1({"required": {"images": AUTOGROW}}, IMAGE),
    "Resize": v1({"required": {"image": IMAGE, "resize": RESIZE, "fast": ("BOOLEAN", {"default": False})}}, IMAGE),
    "Match": v1({"required": {"value": ("COMFY_MATCHTYPE_V3", {})}}, ("COMFY_MATCHTYPE_V3",)),
}


class FakeCatalog:
    """Specs by key."""

    def __init__(self) -> None:
        self.specs = {key: spec(key, cls) for key, cls in CLASSES.items()}
        self.specs |= {key: spec(key, cls, api="v3") for key, cls in V3.items()}

    def add(self, key: str, cls: type, *, api: str = "v1") -> None:
        self.specs[key] = spec(key, cls, api=api)

    def get(self, class_type: str) -> NodeSpec | None:
        return self.specs.get(class_type)

    def keys(self) -> list[str]:
        return sorted(self.specs)


@pytest.fixture
def catalog() -> FakeCatalog:
    return FakeCatalog()


@pytest.fixture
def make_class() -> Any:
    return v1
