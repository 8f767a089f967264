"""All that nodes take from `comfy_api.latest.io`."""

from __future__ import annotations

from typing import Any

from ._dynamic import (
    Autogrow,
    DynamicCombo,
    DynamicInput,
    DynamicOutput,
    DynamicSlot,
    MatchType,
    MultiType,
    add_to_dict_v1,
)
from ._dynamic import declare as create_input_dict_v1
from ._kinds import ComfyTypeI, ComfyTypeIO, Custom, Input, Output, WidgetInput, _ComfyType, comfytype
from ._node import ComfyNode, NodeOutput, _UIOutput
from ._replace import InputMap, InputMapOldId, InputMapSetValue, NodeReplace, OutputMap
from ._schema import Hidden, HiddenHolder, NodeInfoV1, PriceBadge, PriceBadgeDepends, Schema
from ._types import TYPES
from ._widgets import (
    Boolean,
    BoundingBox,
    BoundingBoxes,
    Color,
    Colors,
    Combo,
    Compositor,
    ControlAfterGenerate,
    Curve,
    Float,
    FolderType,
    ImageCompare,
    Int,
    MultiCombo,
    NumberDisplay,
    Range,
    RemoteOptions,
    String,
    UploadType,
    Webcam,
)

V3Data = dict[str, Any]

globals().update(TYPES)

__all__ = [
    "Autogrow",
    "Boolean",
    "BoundingBox",
    "BoundingBoxes",
    "Color",
    "Colors",
    "Combo",
    "ComfyNode",
    "ComfyTypeI",
    "ComfyTypeIO",
    "Compositor",
    "ControlAfterGenerate",
    "Curve",
    "Custom",
    "DynamicCombo",
    "DynamicInput",
    "DynamicOutput",
    "DynamicSlot",
    "Float",
    "FolderType",
    "Hidden",
    "HiddenHolder",
    "ImageCompare",
    "Input",
    "InputMap",
    "InputMapOldId",
    "InputMapSetValue",
    "Int",
    "MatchType",
    "MultiCombo",
    "MultiType",
    "NodeInfoV1",
    "NodeOutput",
    "NodeReplace",
    "NumberDisplay",
    "Output",
    "OutputMap",
    "PriceBadge",
    "PriceBadgeDepends",
    "Range",
    "RemoteOptions",
    "Schema",
    "String",
    "UploadType",
    "V3Data",
    "Webcam",
    "WidgetInput",
    "_ComfyType",
    "_UIOutput",
    "add_to_dict_v1",
    "comfytype",
    "create_input_dict_v1",
    *TYPES,
]
