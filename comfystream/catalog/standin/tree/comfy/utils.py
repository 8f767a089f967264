"""Progress bars, scaling and small helpers that nodes take from `comfy.utils`."""

from __future__ import annotations

from ._progress import (
    PROGRESS_BAR_ENABLED,
    ProgressBar,
    model_trange,
    set_progress_bar_enabled,
    set_progress_bar_global_hook,
)
from ._scale import bislerp, common_upscale, get_tiled_scale_steps, lanczos, reshape_mask, tiled_scale
from ._tensors import (
    calculate_parameters,
    copy_to_param,
    get_attr,
    load_torch_file,
    repeat_to_batch_size,
    resize_to_batch_size,
    safetensors_header,
    save_torch_file,
    set_attr,
    set_attr_param,
    state_dict_key_replace,
    state_dict_prefix_replace,
    string_to_seed,
    weight_dtype,
)

__all__ = [
    "PROGRESS_BAR_ENABLED",
    "ProgressBar",
    "bislerp",
    "calculate_parameters",
    "common_upscale",
    "copy_to_param",
    "get_attr",
    "get_tiled_scale_steps",
    "lanczos",
    "load_torch_file",
    "model_trange",
    "repeat_to_batch_size",
    "reshape_mask",
    "resize_to_batch_size",
    "safetensors_header",
    "save_torch_file",
    "set_attr",
    "set_attr_param",
    "set_progress_bar_enabled",
    "set_progress_bar_global_hook",
    "state_dict_key_replace",
    "state_dict_prefix_replace",
    "string_to_seed",
    "tiled_scale",
    "weight_dtype",
]
