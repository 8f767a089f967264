"""Loads a ComfyUI checkout and times its own executor on request. Run as a script, in a process of its own.

Speaks JSON lines: on standard input `{"prompt": ..., "mode": ...}` loads a graph whose node "0" has a `number`, `{}`
runs it once; on standard output an answer each. The node classes are loaded as our engine loads them, so that both run
the same ones.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from comfystream.catalog import CatalogOptions, load_catalog
from comfystream.catalog.comfyui import ComfyUIOptions, version_of
from comfystream.errors import ComfyStreamError

MODES = {"CLASSIC": "classic", "RAM_PRESSURE": "RAM pressure", "NONE": "no"}


class _Server:
    """What the executor asks of a server when nobody listens."""

    client_id = None
    last_node_id = None

    def send_sync(self, *message: Any) -> None:
        """Nobody listens."""


def load_checkout(folder: Path, pack: Path) -> Any:
    """Load its nodes and those of `pack`; gives its `execution` module."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)  # as our engine beside it: what waits for other threads would count as work
    load_catalog(CatalogOptions(packs=(str(pack),), comfyui=ComfyUIOptions(str(folder), api_nodes=False)))
    return importlib.import_module("execution")


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
    except ComfyStreamError as error:
        answer(error=error.message, hint=error.hint)
        return
    version = version_of(folder)
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
