"""Stand-ins for the ComfyUI modules that node packs import, for when no ComfyUI checkout is loaded.

`install` puts a finder in front of Python's own. Nothing is imported until a pack asks for it. The modules in `tree/`
run under ComfyUI's public names (`folder_paths`, `comfy.utils`, `comfy_api.latest`, ...) and are never imported under
their path here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from comfystream.catalog.standin.finder import ROOTS, StandinFinder, comes_from_tree
from comfystream.catalog.standin.state import FOLDERS, NODE_CLASSES, NODE_NAMES, Folders
from comfystream.errors import ConfigError

__all__ = ["Folders", "install", "is_installed", "publish", "uninstall"]

_finder = StandinFinder()


def install(folders: Folders | None = None) -> None:
    """Make ComfyUI's names importable. Idempotent; `folders` given later replace the earlier ones.

    Args:
        folders: what nodes get from `folder_paths`; None leaves it as it is (at first: the defaults).

    Raises:
        ConfigError: a module of one of these names is loaded from elsewhere, such as a real ComfyUI.
    """
    for name in sorted(ROOTS):
        module = sys.modules.get(name)
        if module is not None and not comes_from_tree(module):
            raise ConfigError(
                f"module {name!r} is already loaded from {getattr(module, '__file__', None)}",
                code="comfyui_loaded",
                hint="one process holds either a real ComfyUI or the stand-ins, not both",
            )
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    if folders is not None:
        FOLDERS.use(folders)
        _refresh_folder_paths()


def is_installed() -> bool:
    """Whether the stand-ins are in force."""
    return _finder in sys.meta_path


def uninstall() -> None:
    """Take the finder and every stand-in module out again. Idempotent."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ROOTS and comes_from_tree(module):
            del sys.modules[name]
    FOLDERS.use(Folders())
    NODE_CLASSES.clear()
    NODE_NAMES.clear()


def publish(classes: Mapping[str, type], names: Mapping[str, str]) -> None:
    """Show node classes to packs as `nodes.NODE_CLASS_MAPPINGS` and `nodes.NODE_DISPLAY_NAME_MAPPINGS`."""
    NODE_CLASSES.update(classes)
    NODE_NAMES.update(names)


def _refresh_folder_paths() -> None:
    loaded = sys.modules.get("folder_paths")
    if loaded is not None:
        loaded.use_folders(FOLDERS.now)
