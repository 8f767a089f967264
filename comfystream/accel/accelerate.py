"""One call: a module in, a runner out. The engine is found, or built and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .backend import BuildOptions
from .build import BuildProgress, EngineJob, build_all, job_of_module
from .cache import EngineCache
from .key import EngineKey, Lora, digest_of_module
from .machine import machine
from .registry import Choice, choose
from .runner import Runner
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Accelerated", "How", "accelerate", "device_of", "job_for"]


@dataclass(frozen=True, slots=True)
class How:
    """How models are to be run.

    Args:
        backend: a name, or "auto".
        device: "cuda", "cpu", or empty for what is there.
        cache: where engines are; the usual folder by default.
        options: how engines are built.
        verifies: whether a new engine is compared with its module before it is kept.
        keeps_engine: for the Inductor: an engine on the disk in place of compiling again in each process.
    """

    backend: str = "auto"
    device: str = ""
    cache: EngineCache = field(default_factory=EngineCache)
    options: BuildOptions = BuildOptions()
    verifies: bool = True
    keeps_engine: bool = True


@dataclass(frozen=True, slots=True)
class Accelerated:
    """A model that runs, and how.

    Args:
        runner: bound to the shapes that the model is best at.
        choice: which backend, and why.
        engine: digest of the engine; empty when there is none.
    """

    runner: Runner
    choice: Choice
    engine: str = ""


def accelerate(
    module: nn.Module,
    spec: ModelSpec,
    how: How | None = None,
    loras: Sequence[Lora] = (),
    on_build: Callable[[BuildProgress], None] = lambda progress: None,
) -> Accelerated:
    """Make a module ready to run.

    Args:
        module: LoRAs already merged, in the precision that the spec says.
        spec: what it takes and gives.
        how: by which backend, where.
        loras: what was merged.
        on_build: told while an engine is built.

    Raises:
        EngineError: the backend is not here, or cannot run this model; nothing else is tried in its place.
        AssetError: the folder of engines cannot be used.
    """
    how = how or How()
    choice = choose(how.backend)
    job = job_for(choice, module, spec, how, loras)
    if job is None:
        runner, engine = choice.backend.wrap(module, spec, device_of(choice, how)), ""
    else:
        entry = build_all([job], how.cache, on_build)[0]
        runner, engine = choice.backend.load(entry.plan, spec, device_of(choice, how)), entry.digest
    runner.bind()
    return Accelerated(runner, choice, engine)


def device_of(choice: Choice, how: How) -> str:
    """Where a backend runs models."""
    return how.device or ("cpu" if choice.backend.name == "onnxruntime" else machine().device)


def job_for(
    choice: Choice, module: nn.Module, spec: ModelSpec, how: How, loras: Sequence[Lora] = (), label: str = ""
) -> EngineJob | None:
    """The engine that a module needs on a backend; None where the module itself is run."""
    backend, device = choice.backend, device_of(choice, how)
    if not backend.plan_name or (backend.name == "inductor" and not how.keeps_engine):
        return None
    key = EngineKey.of(choice.capability, machine(device), spec, how.options, digest_of_module(module), loras)
    return job_of_module(choice, module.eval(), key, device, verifies=how.verifies, label=label)
