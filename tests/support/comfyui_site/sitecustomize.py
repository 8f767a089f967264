"""What a real ComfyUI needs to start where the tests run: on its `sys.path` first, and nowhere else.

torchvision that was built for another torch cannot register its operators; an import needs no more than their schemas.
Some forks install packages when `comfy.zluda` is imported.
"""

import sys
import types

try:
    import torchvision  # noqa: F401
except RuntimeError:
    import torch

    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
except ImportError:
    pass
sys.modules["comfy.zluda"] = types.ModuleType("comfy.zluda")
