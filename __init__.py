"""ComfyUI's way in: the nodes of a stream, the editor's extension, and the routes behind it.

Nothing of ComfyUI is replaced: of its own node classes none is handed on here.
"""

import importlib.util
import sys
from pathlib import Path

if sys.version_info < (3, 11):
    raise ImportError(f"ComfyStream needs Python 3.11 or newer; this is {sys.version.split()[0]}")

_ROOT = Path(__file__).absolute().parent
if importlib.util.find_spec("comfystream") is None:
    sys.path.append(str(_ROOT / "importable"))

from comfystream_nodes.comfyui.extension import attach  # noqa: E402
from comfystream_nodes.stream import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS  # noqa: E402

WEB_DIRECTORY = "./nodes/web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]

attach(_ROOT)
