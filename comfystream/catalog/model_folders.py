"""Which inputs of a node class list the files of a model folder. ComfyUI declares the files, not the folder."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from comfystream.catalog.loader import attempt
from comfystream.catalog.packs import BrokenPack
from comfystream.catalog.spec import NodeSpec

__all__ = ["model_folders"]

_asking = threading.Lock()


class _Mark(str):
    """Stands for the files of a folder in what `INPUT_TYPES` gives."""

    __slots__ = ()


def model_folders(spec: NodeSpec) -> dict[str, tuple[str, str]]:
    """Input name -> the folder's kind ("checkpoints") and where a new file of that kind goes.

    The class is asked for its inputs once more, while `folder_paths` answers with marks in place of files. To be used
    while no node runs: for that moment, every class sees marks.
    """
    paths: Any = importlib.import_module("folder_paths")
    with _asking, _marks(paths):
        cls: Any = spec.cls
        inputs = attempt(spec.pack, cls.INPUT_TYPES, spec.key)
    if isinstance(inputs, BrokenPack) or not isinstance(inputs, Mapping):
        return {}
    found: dict[str, tuple[str, str]] = {}
    for section in ("required", "optional"):
        for name, entry in (inputs.get(section) or {}).items():
            mark = next(_marks_in(entry), None)
            if mark is not None:
                found[name] = str(mark), _place(paths, mark)
    return found


@contextlib.contextmanager
def _marks(paths: Any) -> Iterator[None]:
    real = paths.get_filename_list
    paths.get_filename_list = lambda kind: [_Mark(kind)]
    try:
        yield
    finally:
        paths.get_filename_list = real


def _marks_in(value: Any) -> Iterator[_Mark]:
    if isinstance(value, _Mark):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _marks_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _marks_in(item)


def _place(paths: Any, kind: str) -> str:
    places = paths.get_folder_paths(kind)
    return str(places[0]) if places else ""
