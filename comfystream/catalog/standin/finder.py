"""Finds the stand-in modules under ComfyUI's names, and says what to do about those that are not there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NoReturn

__all__ = ["ONLY_REAL", "ROOTS", "StandinFinder", "comes_from_tree", "needs_comfyui"]

TREE = Path(__file__).parent / "tree"
ROOTS = frozenset({"comfy", "comfy_api", "comfy_execution", "folder_paths", "node_helpers", "nodes", "server"})
# ComfyUI modules that have no stand-in. Names that other software uses too ("utils", "app") are left out.
ONLY_REAL = frozenset({"comfy_extras", "comfy_api_nodes", "comfy_config", "latent_preview", "execution"})


def needs_comfyui(name: str) -> str:
    """What a person reads when a pack asks for a part of ComfyUI that is not here."""
    return f"{name} is part of ComfyUI and not of ComfyStream; nodes that use it need a real ComfyUI"


def comes_from_tree(module: ModuleType) -> bool:
    """Whether a loaded module is one of ours."""
    return isinstance(getattr(module, "__loader__", None), StandinLoader)


class StandinLoader(SourceFileLoader):
    """Runs a file of `tree/` under its public name, and lets missing attributes explain themselves."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        super().exec_module(module)
        own = vars(module).get("__getattr__")

        def missing(attribute: str) -> object:
            if own is not None:
                try:
                    return own(attribute)
                except AttributeError:
                    pass
            _explain(module.__name__, attribute)

        module.__getattr__ = missing  # type: ignore[method-assign]


def _explain(module: str, attribute: str) -> NoReturn:
    if attribute.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {attribute!r}")
    raise AttributeError(needs_comfyui(f"{module}.{attribute}"))


class StandinFinder(MetaPathFinder):
    """A meta path finder for the names in `ROOTS`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The stand-in of that name; None when the name is not ComfyUI's.

        Raises:
            ModuleNotFoundError: the name is ComfyUI's and has no stand-in.
        """
        root, _, rest = fullname.partition(".")
        if root in ONLY_REAL:
            return self._unless_elsewhere(fullname)
        if root not in ROOTS or (rest and not comes_from_tree(sys.modules[root])):
            return None
        spec = PathFinder.find_spec(fullname, [str(TREE)] if not rest else path)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(needs_comfyui(fullname), name=fullname)
        spec.loader = StandinLoader(fullname, spec.origin)
        return spec

    @staticmethod
    def _unless_elsewhere(fullname: str) -> ModuleSpec | None:
        if "." in fullname or PathFinder.find_spec(fullname) is not None:
            return None
        raise ModuleNotFoundError(needs_comfyui(fullname), name=fullname)
