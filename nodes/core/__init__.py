"""ComfyUI's own pixel, mask, sound, text and logic nodes that need no model: same keys, inputs and results.

One pack of V1 and V3 classes. As ComfyUI does it inside, both kinds are registered by class key.
"""

from __future__ import annotations

import logging

from . import (
    audio,
    audio_files,
    canny,
    compositing,
    expression,
    image_adjust,
    image_basic,
    image_batch,
    image_files,
    image_filter,
    image_scale,
    image_transform,
    logic,
    mask,
    mask_shape,
    morphology,
    preview_any,
    primitive,
    quantize,
    text,
    text_overlay,
    text_regex,
)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

_log = logging.getLogger(__name__)

V1_MODULES = (image_basic, image_files, preview_any)
V3_MODULES = (
    audio,
    audio_files,
    canny,
    compositing,
    expression,
    image_adjust,
    image_batch,
    image_filter,
    image_scale,
    image_transform,
    logic,
    mask,
    mask_shape,
    morphology,
    primitive,
    quantize,
    text,
    text_overlay,
    text_regex,
)

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}

for _module in V1_MODULES:
    for _key, (_class, _name) in _module.NODES.items():
        NODE_CLASS_MAPPINGS[_key] = _class
        NODE_DISPLAY_NAME_MAPPINGS[_key] = _name

for _module in V3_MODULES:
    for _class in _module.NODES:
        try:
            _schema = _class.define_schema()
        except (AttributeError, TypeError) as _error:  # the API of an older ComfyUI lacks something that it declares
            _log.info("%s is left out: this ComfyUI is too old for it (%s)", _class.__name__, _error)
            continue
        NODE_CLASS_MAPPINGS[_schema.node_id] = _class
        NODE_DISPLAY_NAME_MAPPINGS[_schema.node_id] = _schema.display_name
