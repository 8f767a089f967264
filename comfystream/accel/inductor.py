"""torch's own compiler. Its engines are AOTInductor packages: compiled code and weights in one file, no warm-up."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfystream.errors import EngineError

from .backend import Backend, BuildOptions, Capability, Capture, Step
from .eager import FunctionRunner
from .export import export_program
from .graphed import GraphedRunner, cuda_capture
from .machine import machine
from .placement import bring
from .runner import Runner, memory_trouble
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["InductorBackend"]

log = logging.getLogger(__name__)


class InductorBackend(Backend):
    """torch.compile for a module at hand, AOTInductor for engines. On a GPU what it runs is recorded into a graph."""

    name = "inductor"
    plan_name = "plan.pt2"

    def probe(self) -> Capability:
        here = machine()
        if not here.torch:
            return Capability(self.name, "", False, False, "torch is not installed", "pip install torch")
        if here.gpu:
            import torch.utils._triton

            if not torch.utils._triton.has_triton():
                return Capability(
                    self.name, here.torch, False, False, "Triton does not work here", "pip install triton"
                )
            lacks, hint = _missing_for_packages()
            if lacks:
                return Capability(self.name, here.torch, False, True, f"engines can be run, not built: {lacks}", hint)
            return Capability(self.name, here.torch, True, True, f"compiles for {here.gpu}")
        if compiler() is None:
            return Capability(self.name, here.torch, False, False, "there is no C++ compiler", "install g++")
        return Capability(self.name, here.torch, True, True, "compiles for the processor")

    def wrap(self, module: nn.Module, spec: ModelSpec, device: str) -> Runner:
        import torch

        module = bring(module.eval(), device)
        is_gpu = device.startswith("cuda")
        mode = "max-autotune-no-cudagraphs" if is_gpu else None
        compiled = torch.compile(module, fullgraph=True, dynamic=False, mode=mode)
        return self._on(device, FunctionRunner(compiled, spec, device, self.name))

    def make(self, module: nn.Module, spec: ModelSpec, folder: Path, options: BuildOptions, on_step: Step) -> Path:
        import torch._inductor

        plan = folder / self.plan_name
        on_step("exporting", 0.0)
        program = export_program(module, spec)
        on_step("compiling", 0.05)
        config: dict[str, Any] = {"max_autotune": True} if machine().gpu and options.level >= 4 else {}
        try:
            with memory_trouble(spec.name):
                torch._inductor.aoti_compile_and_package(program, package_path=str(plan), inductor_configs=config)
        except (RuntimeError, OSError) as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(
                f"{spec.name}: the Inductor could not compile it: {_first_line(error)}",
                code="build_failed",
                hint="use the backend eager or cuda-graph; --debug shows the compiler's report",
            ) from error
        on_step("done", 1.0)
        return plan

    def load(self, plan: Path, spec: ModelSpec, device: str) -> Runner:
        import torch._inductor

        is_gpu = device.startswith("cuda")
        index = torch.device(device).index
        try:
            with memory_trouble(spec.name):
                package = torch._inductor.aoti_load_package(
                    str(plan), run_single_threaded=is_gpu, device_index=-1 if index is None else index
                )
        except (RuntimeError, OSError) as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(
                f"{plan.name}: not a compiled package for this machine: {_first_line(error)}",
                code="engine_refused",
                hint="build it again on this machine",
            ) from error
        return self._on(device, FunctionRunner(_one_at_a_time(package) if is_gpu else package, spec, device, self.name))

    def tick_capture(self, device: str) -> Capture | None:
        return cuda_capture(device)

    @staticmethod
    def _on(device: str, runner: Runner) -> Runner:
        return GraphedRunner(runner) if device.startswith("cuda") else runner


def _one_at_a_time(package: Callable[..., Any]) -> Callable[..., Any]:
    """For a package that was loaded as `run_single_threaded`.

    Its own way of taking turns asks events whether they are over, which CUDA forbids for those of a recording.
    """
    turn = threading.Lock()

    def call(*given: Any) -> Any:
        with turn:
            return package(*given)

    return call


def compiler() -> str | None:
    """The C++ compiler that the Inductor would use."""
    import os

    return shutil.which(os.environ.get("CXX", "") or "g++") or shutil.which("clang++")


def _missing_for_packages() -> tuple[str, str]:
    """What AOTInductor needs for a GPU and is not here, and what to do about it; two empty texts when nothing is."""
    if compiler() is None:
        return "there is no C++ compiler", "install g++"
    from torch.utils.cpp_extension import CUDA_HOME

    if not CUDA_HOME or not (Path(CUDA_HOME) / "include/cuda_runtime_api.h").is_file():
        return "the headers of CUDA are not here", "install the CUDA toolkit, or set CUDA_HOME to where it is"
    return "", ""


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
