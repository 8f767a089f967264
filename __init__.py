"""ComfyUI's way in: the nodes of a stream and for accelerated models, the editor's extension, and the routes behind it.

Nothing is replaced: of ComfyUI's own node classes, and of those that other packs bring, none is handed on here.
Where no ComfyUI is around, nothing is loaded.
"""

import importlib.util
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - ComfyUI's Python may be older
    raise ImportError(f"ComfyStream needs Python 3.11 or newer; this is {sys.version.split()[0]}")

WEB_DIRECTORY = "./nodes/web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]


def _load(root):
    """The two mappings, and the routes at ComfyUI's server."""
    if importlib.util.find_spec("comfystream") is None:
        sys.path.append(str(root / "importable"))
    from comfystream_nodes import accel, stream
    from comfystream_nodes.comfyui.extension import attach

    attach(root)
    classes = {**stream.NODE_CLASS_MAPPINGS, **accel.OWN_CLASS_MAPPINGS}
    return classes, {**stream.NODE_DISPLAY_NAME_MAPPINGS, **accel.OWN_DISPLAY_NAME_MAPPINGS}


_IS_IN_COMFYUI = "folder_paths" in sys.modules or importlib.util.find_spec("folder_paths") is not None
_ROOT = Path(__file__).absolute().parent
NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = _load(_ROOT) if _IS_IN_COMFYUI else ({}, {})
