"""A real ComfyUI checkout as the place where node classes come from.

`checkout` finds one and tells its version without running any of it. What is known of ComfyUI's internals stands in the
`compat_*` modules and nowhere else.
"""

from comfystream.catalog.comfyui.checkout import (
    ComfyUIOptions,
    Vram,
    find_checkout,
    find_places,
    is_comfyui,
    version_of,
)

__all__ = ["ComfyUIOptions", "Vram", "find_checkout", "find_places", "is_comfyui", "version_of"]
