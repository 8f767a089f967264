"""Loads a ComfyUI checkout and times its own executor on request. Run as a script, in a process of its own.

Speaks JSON lines: on standard input `{"prompt": ..., "mode": ...}` loads a graph whose node "0" has a `number`, `{}`
runs it once; on standard output an answer each. Nothing of ComfyStream is imported here.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
import types
from pathlib import Path
from typing import Any

MODES = {"CLASSIC": "classic", "RAM_PRESSURE": "RAM pressure", "NONE": "no"}


class _Anything:
    """Stands for whatever of a server a module touches at import: any attribute, callable, a decorator."""

    def __getattr__(self, name: str) -> _Anything:
        return _Anything()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) else _Anything()


class _Server:
    """What the executor asks of a server when nobody listens."""

    client_id = None
    last_node_id = None

    def send_sync(self, *message: Any) -> None:
        """Nobody listens."""


def _load_torchvision() -> None:
    """Import torchvision; one that was built for another torch lacks its operators, whose schemas are enough."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        import torch

        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        make: Any = torch.library.Library
        library = make("torchvision", "DEF")  # lives as long as it is referenced
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _Anything.library = library  # type: ignore[attr-defined]
        importlib.import_module("torchvision")


def load_checkout(folder: Path, pack: Path) -> Any:
    """Import the executor and the nodes of `pack`; gives the `execution` module."""
    sys.argv = [sys.argv[0]]
    sys.path.insert(0, str(folder))
    _load_torchvision()
    sys.modules["comfy.zluda"] = types.ModuleType("comfy.zluda")  # a fork installs packages when it imports this
    importlib.import_module("comfy.cli_args").args.cpu = True
    importlib.import_module("utils.extra_config")  # before `nodes`, which hides this package behind comfy/utils.py
    server: Any = types.ModuleType("server")
    server.PromptServer = type("PromptServer", (), {"instance": _Anything()})
    sys.modules["server"] = server
    paths: Any = importlib.import_module("folder_paths")
    scratch = Path(tempfile.mkdtemp(prefix="comfystream-bench-"))
    for name in ("input", "output", "temp"):
        (scratch / name).mkdir()
        getattr(paths, f"set_{name}_directory")(str(scratch / name))
    execution = importlib.import_module("execution")
    nodes: Any = importlib.import_module("nodes")
    spec = importlib.util.spec_from_file_location("comfystream_bench_pack", pack)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    nodes.NODE_CLASS_MAPPINGS.update(module.NODE_CLASS_MAPPINGS)
    return execution


class Program:
    """A graph on an executor of its own."""

    def __init__(self, execution: Any, prompt: dict[str, Any], mode: str) -> None:
        kind = next(name for name, title in MODES.items() if title == mode)
        arguments: dict[str, Any] = {"cache_type": execution.CacheType[kind]}
        if "RAM_PRESSURE" in execution.CacheType.__members__:
            arguments["cache_args"] = {"lru": 0, "ram": 2.0, "ram_inactive": 16.0}
        self._executor = execution.PromptExecutor(_Server(), **arguments)
        self._prompt = prompt
        self._sink = str(len(prompt) - 1)
        self._turn = 0

    def run(self) -> int:
        """One prompt whose source has changed; processor nanoseconds of this thread."""
        self._turn += 1
        prompt = copy.deepcopy(self._prompt)
        prompt["0"]["inputs"]["number"] = self._turn
        began = time.thread_time_ns()
        self._executor.execute(prompt, str(self._turn), {}, [self._sink])
        spent = time.thread_time_ns() - began
        if not self._executor.success:
            raise RuntimeError(str(self._executor.status_messages[-1]))
        return spent


def main() -> None:
    """Serve until standard input ends."""
    folder, pack = Path(sys.argv[1]), Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what ComfyUI prints does not go between the answers

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        execution = load_checkout(folder, pack)
        version = importlib.import_module("comfyui_version").__version__
    except Exception as error:  # noqa: BLE001 - process main: the parent tells the person
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        answer(error=f"{type(error).__name__}: {error}", missing=missing, trace=traceback.format_exc())
        return
    answer(version=version, modes=[title for name, title in MODES.items() if name in execution.CacheType.__members__])
    program: Program | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request:
            program = Program(execution, request["prompt"], request["mode"])
            answer(loaded=True)
        elif program is not None:
            answer(cpu_ns=program.run())


if __name__ == "__main__":
    main()
