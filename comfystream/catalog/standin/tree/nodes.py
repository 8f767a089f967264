"""The node classes that are there, and what packs take from ComfyUI's `nodes`.

A class that the bundled set has (LoadImage, SaveImage, PreviewImage, ...) can be imported by its key.
"""

from __future__ import annotations

from comfystream.catalog.standin.state import NODE_CLASSES, NODE_NAMES

MAX_RESOLUTION = 16384
NODE_CLASS_MAPPINGS = NODE_CLASSES
NODE_DISPLAY_NAME_MAPPINGS = NODE_NAMES
EXTENSION_WEB_DIRS: dict[str, str] = {}
LOADED_MODULE_DIRS: dict[str, str] = {}


def __getattr__(name: str) -> type:
    """A bundled node class by its key."""
    if name in NODE_CLASSES:
        return NODE_CLASSES[name]
    raise AttributeError(name)


def interrupt_processing(value: bool = True) -> None:
    """Ask the running nodes to stop."""
    from comfy.model_management import interrupt_current_processing

    interrupt_current_processing(value)


def before_node_execution() -> None:
    """Stop here if somebody asked."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    throw_exception_if_processing_interrupted()
