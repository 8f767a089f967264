"""Stand for what needs a GPU: CUDA graphs that are functions, and a backend whose engines are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from comfystream.accel.backend import Backend, Capability
from comfystream.accel.eager import EagerBackend
from comfystream.accel.graphed import GraphedRunner
from comfystream.accel.runner import Runner
from comfystream.errors import EngineError


class FakeGraphs(Backend):
    """Records by remembering the function; says on which thread, and can be full."""

    name = "cuda-graph"

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.replayed: list[str] = []
        self.is_full = False
        self.gate = threading.Event()
        self.gate.set()
        self.runners: list[GraphedRunner] = []

    def probe(self) -> Capability:
        return Capability(self.name, "1", True, True, "records nothing")

    def wrap(self, module: Any, spec: Any, device: str) -> Runner:
        return _Graphed(EagerBackend().wrap(module, spec, device), self)

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        assert self.gate.wait(60)
        if self.is_full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.threads.append(threading.current_thread().name)
        run()

        def replay() -> None:
            self.replayed.append(threading.current_thread().name)
            run()

        return replay


class _Graphed(GraphedRunner):
    def __init__(self, inner: Runner, backend: FakeGraphs) -> None:
        super().__init__(inner, backend.capture)
        self._fake = backend
        backend.runners.append(self)

    def twin(self) -> _Graphed:
        return _Graphed(self._inner.twin(), self._fake)


class FakeEngines(EagerBackend):
    """Builds files; loads them when they are of this GPU."""

    name, plan_name = "tensorrt", "plan.engine"

    def __init__(self) -> None:
        self.gpu = "one"
        self.threads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None

    def make(self, module: Any, spec: Any, folder: Path, options: Any, on_step: Any) -> Path:
        assert self.gate.wait(60)
        self.threads.append(threading.current_thread().name)
        for share in (0.2, 0.6):
            on_step("building", share)
        if self.error is not None:
            raise self.error
        torch.save(module, folder / self.plan_name)
        (folder / self.plan_name).with_suffix(".gpu").write_text(self.gpu)
        return folder / self.plan_name

    def load(self, plan: Path, spec: Any, device: str) -> Runner:
        if plan.with_suffix(".gpu").read_text() != self.gpu:
            raise EngineError(
                f"{plan.name}: tensorrt 11 refuses this engine: built for another GPU",
                code="engine_refused",
                hint="engines run on the kind of GPU that built them: build it again here",
            )
        return EagerBackend().wrap(torch.load(plan, weights_only=False), spec, device)


class Absent(Backend):
    """A backend that is not installed."""

    name = "tensorrt"

    def probe(self) -> Capability:
        return Capability(self.name, "", False, False, "tensorrt cannot be imported", "pip install tensorrt")


def only_absent() -> dict[str, Backend]:
    """In the place of all backends."""
    return {"tensorrt": Absent(), "eager": EagerBackend()}
