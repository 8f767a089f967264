"""What a backend is: something that runs a torch module, directly or by way of an engine file."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfystream.errors import EngineError

from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from .runner import Runner

__all__ = ["Backend", "BuildOptions", "Capability", "Capture", "Step"]

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Records what a function does to the device; the result does it again."""

Step = Callable[[str, float], None]
"""Told what a build is doing, and how much of it is done (0..1, an estimate)."""


@dataclass(frozen=True, slots=True)
class Capability:
    """What a backend can do on this machine.

    Args:
        backend: its name.
        version: of the library behind it; empty if that is not here.
        can_build: whether it can make engines here (for backends without engines: as `can_run`).
        can_run: whether it can run models here.
        reason: why (not), in plain words.
        hint: what to do about it.
    """

    backend: str
    version: str
    can_build: bool
    can_run: bool
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an engine is made; all of it is part of the engine's key.

    Args:
        level: how long to look for fast kernels, 0 to 5 (TensorRT's optimisation level).
        workspace_mb: most scratch memory; 0 leaves it to the backend.
        exporter: which of torch's two ONNX exporters, "dynamo" or "legacy".
        opset: of the ONNX graph.
        flags: more options, by backend.
    """

    level: int = 3
    workspace_mb: int = 0
    exporter: str = "dynamo"
    opset: int = 18
    flags: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For the key."""
        return {
            "level": self.level,
            "workspace_mb": self.workspace_mb,
            "exporter": self.exporter,
            "opset": self.opset,
            "flags": dict(sorted(self.flags.items())),
        }


class Backend(ABC):
    """A way to run models: a backend overrides what it can do, and the rest says that it cannot.

    Those with a `plan_name` make engines, with `make` and `load`. Those that also have a `source_name` do it in two
    steps, `export` and `build`, so that an ONNX file from elsewhere can be built too. The others `wrap` a module.
    """

    name = ""
    source_name = ""
    plan_name = ""

    @abstractmethod
    def probe(self) -> Capability:
        """What it can do here. Never raises, and leaves the device alone."""

    def wrap(self, module: nn.Module, spec: ModelSpec, device: str) -> Runner:
        """Run a module without an engine.

        Raises:
            EngineError: this backend cannot.
        """
        raise EngineError(f"{self.name} runs engines, not modules", code="needs_engine", hint="export and build first")

    def make(self, module: nn.Module, spec: ModelSpec, folder: Path, options: BuildOptions, on_step: Step) -> Path:
        """Make the engine `plan_name` of a module, in a folder.

        Raises:
            EngineError: it cannot be made, or this backend has no engines.
        """
        on_step("exporting", 0.0)
        exported = folder / "exported"
        exported.mkdir()
        source = self.export(module, spec, exported, options)
        plan = self.build(source, spec, folder, options, on_step)
        shutil.rmtree(exported)
        return plan

    def export(self, module: nn.Module, spec: ModelSpec, folder: Path, options: BuildOptions) -> Path:
        """Write the module as `source_name` into a folder, in the form that `build` takes.

        Raises:
            EngineError: the module cannot be exported, or this backend has no engines.
        """
        raise self._no_engines()

    def build(self, source: Path, spec: ModelSpec, folder: Path, options: BuildOptions, on_step: Step) -> Path:
        """Make the engine `plan_name` in a folder.

        Raises:
            EngineError: it cannot be built, with what the builder said.
        """
        raise self._no_engines()

    def load(self, plan: Path, spec: ModelSpec, device: str) -> Runner:
        """An engine, ready to be bound.

        Raises:
            EngineError: the file is broken, or was made for another GPU or version.
        """
        raise self._no_engines()

    def tick_capture(self, device: str) -> Capture | None:
        """What records more than one model, and what is done between them, as one launch; None where that cannot be."""
        return None

    def _no_engines(self) -> EngineError:
        return EngineError(f"{self.name} has no engines: it runs the module itself", code="no_engines")
